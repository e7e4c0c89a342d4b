"""What a user brings is found by module, by file, or by the name that a package has registered."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.data.formats import get_reader
from coablate_platform.data.protocols import for_source, get_protocol
from coablate_platform.study import source
from coablate_platform.study.config import TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, absolute_reference, file_of, load_object, reference_to_copy
from coablate_platform.study.load import load_study
from coablate_platform.study.overrides import MODEL_KIND, apply_changes
from coablate_platform.study.search import Search
from coablate_search_spaces.learning_rates import STUDY as RATES
from coablate_search_spaces.smoke import STUDY as SMOKE

NUMBERS = Kind(
    label="number",
    unknown_prefix="no number",
    group="coablate.numbers",
    expected="whole number",
    mismatch=lambda value: "" if isinstance(value, int) else "it is no whole number",
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    source.forget()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "brought.py"
    path.write_text("from os.path import sep\nANSWER = 42\nWORD = 'many'\n_HIDDEN = 1\n")
    return path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "site" / "a_package").mkdir(parents=True)
    (tmp_path / "site" / "a_package" / "numbers.py").write_text("ANSWER = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield "a_package.numbers"
    for name in [name for name in sys.modules if name.startswith("a_package")]:
        del sys.modules[name]


def test_an_object_is_found_in_a_file_and_in_a_package(file: Path, module: str) -> None:
    for reference, found_as in ((f"{file}:ANSWER", "brought:ANSWER"), (f"{file}", "brought:ANSWER")):
        loaded = load_object(reference, NUMBERS)
        assert (loaded.value, loaded.reference) == (42, found_as)
    assert load_object(f"{module}:ANSWER", NUMBERS).value == 42
    assert load_object("brought:ANSWER", NUMBERS).value == 42  # beside a file that is in use


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("brought.py:ANSWR", r"brought\.py defines no ANSWR of type whole number \(did you mean 'ANSWER'\?\)"),
        ("brought.py:WORD", r"number .*:WORD: WORD is no whole number: it is no whole number"),
        ("gone.py:ANSWER", r"gone\.py: no such file"),
        ("a_package.gone:ANSWER", r"number a_package\.gone:ANSWER: no module named 'a_package\.gone'"),
        ("nowhere:ANSWER", r"number nowhere:ANSWER: no module named 'nowhere'"),
        ("answr", r"no number 'answr' \(did you mean 'answer'\?\)"),
        ("broken.py:ANSWER", r"number .*broken\.py:ANSWER: SyntaxError"),
        ("two.py", r"two\.py: expected one whole number in it, found several; name one of .*two\.py:A, .*two\.py:B"),
        ("empty.py", r"empty\.py: expected one whole number in it, found none"),
    ],
)
def test_what_is_not_there_is_one_line(file: Path, module: str, reference: str, said: str) -> None:
    (file.parent / "broken.py").write_text("ANSWER = (\n")
    (file.parent / "two.py").write_text("A = 1\nB = 2\n")
    (file.parent / "empty.py").write_text("")
    reference = str(file.parent / reference) if ".py" in reference else reference
    with pytest.raises(InputError, match=said) as error:
        load_object(reference, NUMBERS, known=("answer",))
    assert "\n" not in str(error.value)


def test_a_reference_to_nothing_known_says_which_forms_there_are() -> None:
    with pytest.raises(InputError, match=r"no model 'MyNet'; expected package\.module:Name or FILE\.py:Name"):
        load_object("MyNet", MODEL_KIND)


def test_paths_of_references_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_reference("my.py:NAME") == f"{tmp_path}/my.py:NAME"
    assert absolute_reference("a/../my.py") == f"{tmp_path}/my.py"
    for other in ("utd/cs", "package.module:NAME", "tpe", "3", '["skeleton"]'):
        assert absolute_reference(other) == other
        assert file_of(other) is None
        assert reference_to_copy(other, tmp_path, is_study=False) == other
    assert file_of("/x/my.py:NAME") == Path("/x/my.py")
    assert reference_to_copy("/x/my.py:NAME", Path("/kept"), is_study=False) == "/kept/my.py:NAME"
    assert reference_to_copy("/x/v1.2.py", Path("/kept"), is_study=True) == "/kept/coablate_study_v1_2.py"
    assert reference_to_copy("/kept/coablate_study_a.py", Path("/k2"), is_study=True) == "/k2/coablate_study_a.py"


NET = """
from dataclasses import dataclass
from coablate_model.cc_dfarm import CCDFARM

@dataclass(frozen=True, kw_only=True)
class Net(CCDFARM):
    depth: int = 2

@dataclass(frozen=True, kw_only=True)
class Needs(CCDFARM):
    depth: int

SMALL = Net(width=0.125)
NOT_ONE = object()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "own_net.py"
    path.write_text(NET)
    return path


def test_a_model_is_set_by_an_instance_or_by_a_class_with_defaults(net: Path) -> None:
    by_class = apply_changes(SMOKE.base, {"model": f"{net}:Net"})
    assert type(by_class.model).__name__ == "Net"
    assert by_class.model.width == CCDFARM().width
    set_too = apply_changes(SMOKE.base, {"model": f"{net}:SMALL", "model.depth": 3})
    assert (set_too.model.width, set_too.model.depth) == (0.125, 3)
    for name, said in (
        ("Needs", r"Needs cannot be instantiated without arguments \(.*'depth'\); name an instance of it"),
        ("NOT_ONE", "NOT_ONE is no model configuration: it has no modalities and no build and no objective"),
    ):
        with pytest.raises(InputError, match=said):
            apply_changes(SMOKE.base, {"model": f"{net}:{name}"})


def test_a_preset_is_set_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "own_presets.py").write_text(
        "from coablate_platform.study.config import TrainingConfig\nLONG = TrainingConfig(epochs=77)\nWORD = 'w'\n"
    )
    changed = apply_changes(SMOKE.base, {"training": f"{tmp_path}/own_presets.py:LONG", "training.batch_size": 4})
    assert changed.training == TrainingConfig(epochs=77, batch_size=4)
    with pytest.raises(InputError, match="WORD is no TrainingConfig: it is of type str"):
        apply_changes(SMOKE.base, {"training": f"{tmp_path}/own_presets.py:WORD"})


def test_a_study_of_another_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "own_studies.py").write_text(
        "from coablate_search_spaces.smoke import STUDY as FIRST\n"
        "from coablate_search_spaces.learning_rates import STUDY as SECOND\n"
        "NUMBER = 1\n"
    )
    assert load_study(f"{tmp_path}/own_studies.py:FIRST").name == "smoke"
    assert load_study(f"{tmp_path}/own_studies.py:SECOND").name == "learning_rates"
    assert load_study("coablate_search_spaces.smoke:STUDY") == SMOKE
    for name, said in (("THIRD", "defines no THIRD of type Study or Search"), ("NUMBER", "it is of type int")):
        with pytest.raises(InputError, match=said):
            load_study(f"{tmp_path}/own_studies.py:{name}")


def test_a_search_s_sampler_is_found_by_reference(tmp_path: Path) -> None:
    text = "from math import sqrt\nfrom os.path import join\ndef make(search, number):\n    pass\nNUMBER = 1\n"
    (tmp_path / "own_sampler.py").write_text(text)
    assert RATES.with_options(sampler=f"{tmp_path}/own_sampler.py").sampler == "own_sampler:make"
    found = RATES.with_options(sampler=f"{tmp_path}/own_sampler.py:make")
    assert found.sampler == "own_sampler:make"
    assert isinstance(replace(RATES, sampler="own_sampler:make"), Search)
    with pytest.raises(InputError, match=r"NUMBER is no factory .*: it is not callable"):
        RATES.with_options(sampler=f"{tmp_path}/own_sampler.py:NUMBER")
    with pytest.raises(InputError, match=r"no sampler 'tpee' \(did you mean 'tpe'\?\)"):
        replace(RATES, sampler="tpee")


PACKAGE = """
from dataclasses import dataclass, replace

from optuna.samplers import RandomSampler

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.data.formats.nw_ucla import NwUcla
from coablate_platform.data.protocols import get_protocol
from coablate_platform.study.config import TrainingConfig
from coablate_search_spaces.smoke import STUDY as SMOKE

@dataclass(frozen=True, kw_only=True)
class Net(CCDFARM):
    pass

HALVES = replace(get_protocol("utd/cs"), name="acme/halves")
READER = NwUcla(name="acme")
LONG = TrainingConfig(epochs=77)
STUDY = replace(SMOKE, name="acme")

def sampler(search, number):
    return RandomSampler(seed=number)
"""
ENTRY_POINTS = """
[coablate.models]
acme-net = acme_coablate.parts:Net
[coablate.readers]
acme = acme_coablate.parts:READER
[coablate.protocols]
acme/halves = acme_coablate.parts:HALVES
[coablate.samplers]
acme-random = acme_coablate.parts:sampler
[coablate.presets]
acme-long = acme_coablate.parts:LONG
[coablate.studies]
acme = acme_coablate.parts:STUDY
acme-broken = acme_coablate.gone:STUDY
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with one in it, as pip leaves it."""
    place = tmp_path / "site"
    (place / "acme_coablate").mkdir(parents=True)
    (place / "acme_coablate" / "__init__.py").write_text("")
    (place / "acme_coablate" / "parts.py").write_text(PACKAGE)
    info = place / "acme_coablate-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-coablate\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (info / "RECORD").write_text("acme_coablate/__init__.py,,\nacme_coablate/parts.py,,\n")
    return place


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.startswith("acme_coablate")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_a_package_makes_its_own_available_by_name() -> None:
    assert type(apply_changes(SMOKE.base, {"model": "acme-net"}).model).__module__ == "acme_coablate.parts"
    assert apply_changes(SMOKE.base, {"training": "acme-long"}).training.epochs == 77
    assert get_reader("acme").name == "acme"
    assert get_protocol("acme/halves").name == "acme/halves"
    assert "acme/halves" in [protocol.name for protocol in for_source("utd_mhad")]
    assert load_study("acme").name == "acme"
    assert RATES.with_options(sampler="acme-random").sampler == "acme-random"
    with pytest.raises(InputError, match=r"did you mean 'acme-long'"):
        apply_changes(SMOKE.base, {"training": "acme-lung"})
    with pytest.raises(InputError, match=r"study acme-broken: no module named 'acme_coablate\.gone'"):
        load_study("acme-broken")
    assert source.Sources.imported().files == {}  # it is installed where it is needed


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["models"], "acme_coablate.parts.Net"),
        (["studies"], "study acme-broken: no module named 'acme_coablate.gone'"),
        (["check", "protocol", "acme/halves"], "ok     splits do not overlap"),
    ],
)
def test_from_a_shell_a_package_s_parts_are_found(site: Path, command: list[str], said: str) -> None:
    path = ":".join([str(site), *(entry for entry in sys.path if entry)])
    words, environment = [sys.executable, "-m", "coablate_platform", *command], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
