"""What a worker finds wrong on its node before it takes a run."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray.cloudpickle

from coablate_platform.journal.storage import Folder
from coablate_platform.lanes.proof import CLOCK_S, Proof, findings, left_probe
from coablate_platform.process import interface_of
from coablate_platform.train.provenance import origin_of, versions
from coablate_search_spaces.smoke import STUDY


@pytest.fixture
def proof(tmp_path: Path, store) -> Proof:
    """What the driver expects, with its file in the results folder."""
    origin = origin_of(STUDY.base)
    out = Folder(str(tmp_path / "out"))
    out.write(".probe-1", b".probe-1")
    return Proof(
        out=out,
        probe=".probe-1",
        store=store.uri,
        fingerprint=store.fingerprint,
        source="",
        model=ray.cloudpickle.dumps(STUDY.base.model),
        origin=origin,
        versions=versions(origin),
    )


def test_a_node_like_the_driver_s_can_train_and_keeps_nothing(proof):
    assert findings(proof, time.time) == []
    assert [path.name for path in Path(proof.out.uri).iterdir()] == [".probe-1"]


def test_the_driver_s_file_goes_with_the_block(tmp_path):
    with left_probe(Folder(str(tmp_path))) as name:
        assert [path.name for path in tmp_path.iterdir()] == [name]
    assert list(tmp_path.iterdir()) == []


def another(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p, tmp: replace(p, out=another(tmp)), "results folder .*elsewhere is not the driver's: it must be"),
        (lambda p, tmp: replace(p, store=str(tmp / "none")), "store .*none cannot be opened"),
        (
            lambda p, tmp: replace(p, fingerprint="0" * 64),
            "is another one: its fingerprint is .*, expected 000000000000",
        ),
        (
            lambda p, tmp: replace(p, versions=p.versions | {"packages": {"torch": "1.0", "gone": "2"}}),
            r"other code or packages than the driver's: torch 2\..*, expected 1.0; gone missing, expected 2$",
        ),
        (
            lambda p, tmp: replace(p, versions=p.versions | {"code": {"platform": "0" * 8}}),
            "other code or packages than the driver's: platform .*, expected 00000000$",
        ),
    ],
)
def test_what_a_node_lacks_is_said_in_a_line(proof, tmp_path, change: Callable[[Proof, Path], Proof], expected):
    [line] = findings(change(proof, tmp_path), time.time)
    assert re.search(expected, line)


def test_builds_of_one_version_count_as_equal_and_differences_can_be_accepted(proof):
    packages = {name: version.partition("+")[0] + "+other" for name, version in proof.versions["packages"].items()}
    assert findings(replace(proof, versions=proof.versions | {"packages": packages}), time.time) == []
    assert findings(replace(proof, versions=None), time.time) == []


def test_a_model_that_only_the_driver_can_import_is_said(proof, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("class Model:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    pickled = ray.cloudpickle.dumps(only_here.Model())
    monkeypatch.undo()
    del sys.modules["only_here"]
    [line] = findings(replace(proof, model=pickled), time.time)
    assert line == "the study's model cannot be imported (ModuleNotFoundError: No module named 'only_here')"


@pytest.mark.parametrize(("shift", "word"), [(-CLOCK_S - 5, "ahead of"), (CLOCK_S + 5, "behind")])
def test_a_clock_that_differs_is_said(proof, shift, word):
    [line] = findings(proof, lambda: time.time() + shift)
    assert line.startswith("its clock is 6")
    assert word in line


def test_a_results_folder_that_cannot_be_written_is_said(proof, monkeypatch):
    def refused(self: Folder, name: str, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Folder, "write", refused)
    [line] = findings(proof, time.time)
    assert line == f"results folder {proof.out.uri} cannot be used (Read-only file system)"


def test_an_interface_is_found_by_its_address():
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None
