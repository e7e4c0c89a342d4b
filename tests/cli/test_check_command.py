"""The command that checks what a user brings: a line a check, and an exit code."""

import pytest

from coablate_platform.study import source

BROKEN = """
from dataclasses import dataclass
from torch import nn
from coablate_model.describe import measure
from coablate_model.objective import CrossEntropy


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer, self.spare = nn.Linear(3 * shape.joints, shape.classes), nn.Linear(1, 1)

    def forward(self, batch):
        return {"fused": self.layer(batch["skeleton"].mean((2, 4)).flatten(1))}


@dataclass(frozen=True, kw_only=True)
class Broken:
    modalities = ("skeleton",)

    def build(self, shape):
        return Net(shape)

    def objective(self):
        return CrossEntropy(heads=("fused",))

    def describe(self, shape):
        return measure(self.build, shape)
"""


@pytest.fixture(autouse=True)
def forgotten():
    yield
    source.forget()


def test_what_fails_is_said_with_what_was_expected_and_the_exit_code_is_1(coablate, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    answer = coablate("check", "model", tmp_path / "broken.py")
    assert (answer.code, answer.err) == (1, "")
    lines = answer.out.splitlines()
    assert [line for line in lines if not line.startswith("ok     ")] == [
        "FAILS  every parameter gets a finite gradient: no gradient for spare.weight, spare.bias, expected one for "
        "every trainable parameter"
    ]
    assert len(lines) > 10


def test_a_check_that_others_need_ends_the_list_with_the_place(coablate, tmp_path):
    (tmp_path / "raising.py").write_text(BROKEN.replace("return Net(shape)", "return Net(shape.speed)"))
    answer = coablate("check", "model", tmp_path / "raising.py")
    assert answer.code == 1
    last = answer.out.splitlines()[-1]
    assert last.startswith("FAILS  build returns a network: AttributeError: ")
    assert last.endswith(f"({tmp_path / 'raising.py'}:22)")


@pytest.mark.parametrize(("kind", "reference"), [("study", "smoke"), ("data", "nw_ucla"), ("protocol", "utd/cs")])
def test_coablate_s_own_parts_pass_by_name(coablate, kind, reference):
    answer = coablate("check", kind, reference)
    assert (answer.code, answer.err) == (0, "")
    assert "FAILS" not in answer.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model", "gone.py"), ("gone.py: no such file",)),
        (("model", "broken.py:Brokn"), ("defines no Brokn", "did you mean 'Broken'?")),
        (("model", "broken.py:Net"), ("Net", "cannot be instantiated without arguments")),
        (("protocol", "broken.py"), ("expected one Protocol in it, found none",)),
        (("sampler", "nothing"), ("no sampler 'nothing'",)),
        (("study", "broken.py"), ("defines no STUDY of type Study or Search",)),
        (("data", "ntux"), ("there is no data source 'ntux'",)),
        (("data", "ntu", "nowhere"), ("nowhere: no such folder",)),
        (("model", "broken.py", "folder"), ("folder: a model is checked without a folder",)),
        (("models", "broken.py"), ("'models' is not one of",)),
    ],
)
def test_wrong_input_is_one_line(refused, tmp_path, monkeypatch, words, says):
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    refused("check", *words, says=says)
