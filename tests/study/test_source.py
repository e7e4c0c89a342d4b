"""Importing a user's files: which source is recorded, under which module names, and which files are refused."""

import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coablate_platform.study import source
from coablate_platform.study.errors import InputError
from coablate_platform.study.load import load_study
from coablate_platform.study.source import Sources

STUDY = "from coablate_search_spaces.smoke import STUDY\n"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Unload the user's modules after each test."""
    yield
    source.forget()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a study's file and others in its folder, and returns the study's path."""

    def put(text: str, folder: str = "mine", **others: str) -> Path:
        for name, content in {"own_study": text, **others}.items():
            path = tmp_path / folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path / folder / "own_study.py"

    return put


def test_modules_that_a_study_imports_from_its_folder_are_recorded(write: Write) -> None:
    study = write(
        STUDY + "import own_net\ndef later():\n    from own_package.deep.part import x\n",
        own_net="import json, own_layers\n",
        own_layers="",
        own_package__other="",
        own_package__deep__part="x = 1",
        not_imported="",
    )
    load_study(str(study))
    assert sorted(Sources.imported().files) == [
        "coablate_study_own_study.py",
        "own_layers.py",
        "own_net.py",
        "own_package/deep/part.py",
        "own_package/other.py",
    ]
    assert Sources.imported().files["own_net.py"] == b"import json, own_layers\n"
    assert len(Sources.imported().digest) == 16


def test_a_module_that_is_imported_under_a_computed_name_is_recorded(write: Write) -> None:
    load_study(str(write(STUDY + "import importlib; importlib.import_module('own' + '_net')\n", own_net="")))
    assert "own_net.py" in Sources.imported().files


def test_a_single_file_has_a_digest_and_a_shipped_study_has_none(write: Write) -> None:
    load_study(str(write(STUDY)))
    assert Sources.imported().digest
    source.forget()
    load_study("smoke")
    assert (Sources.imported().files, Sources.imported().digest) == ({}, "")


def test_studies_in_files_of_the_same_name_do_not_share_modules(write: Write) -> None:
    text = "from dataclasses import replace\nfrom own_net import NAME\n" + STUDY + "STUDY = replace(STUDY, name=NAME)\n"
    one = write(text, folder="one", own_net="NAME = 'one'\n")
    two = write(text, folder="two", own_net="NAME = 'two'\n")
    assert [load_study(str(path)).name for path in (one, two, one)] == ["one", "two", "one"]
    assert sys.modules["own_net"].__file__ == str(one.parent / "own_net.py")
    assert str(two.parent) not in sys.path
    source.forget()
    assert "own_net" not in sys.modules
    assert "coablate_study_own_study" not in sys.modules


def test_a_changed_module_in_a_study_s_folder_is_imported_again(write: Write) -> None:
    text = "from dataclasses import replace\nimport own_net\n" + STUDY + "STUDY = replace(STUDY, name=own_net.NAME)\n"
    study = write(text, own_net="NAME = 'one'\n")
    before = load_study(str(study)).name, Sources.imported().digest
    write(text, own_net="NAME = 'two'\n")
    after = load_study(str(study)).name, Sources.imported().digest
    assert (before[0], after[0]) == ("one", "two")
    assert before[1] != after[1]
    assert not (study.parent / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("random", "a module of the standard library"), ("torch", "torch/__init__.py"), ("numpy", "numpy/__init__.py")],
)
def test_a_module_with_the_name_of_an_installed_one_is_refused(write: Write, name: str, says: str) -> None:
    study = write(STUDY + f"def build():\n    import {name}\n", **{name: "raise AssertionError('imported')\n"})
    with pytest.raises(InputError) as error:
        load_study(str(study))
    assert str(study.parent / f"{name}.py") in str(error.value)
    assert says in str(error.value)
    assert "rename it" in str(error.value)


def test_a_module_that_nothing_imports_may_have_any_name(write: Write) -> None:
    study = write(STUDY + "import wave\n", random="raise AssertionError('imported')\n", torch="raise AssertionError\n")
    assert load_study(str(study)).name == "smoke"
    assert set(Sources.imported().files) == {"coablate_study_own_study.py"}


def test_a_folder_without_source_may_have_the_name_of_a_package(write: Write) -> None:
    """A tracker may write such a folder of logs."""
    study = write(STUDY + "import mlflow\n")
    (study.parent / "mlflow" / "runs").mkdir(parents=True)
    assert load_study(str(study)).name == "smoke"


def test_modules_of_the_same_name_in_two_folders_cannot_be_used_together(write: Write) -> None:
    study = write(STUDY + "import own_net\n", folder="one", own_net="")
    write("", folder="two", own_net="", own_other="import own_net\n")
    load_study(str(study))
    with pytest.raises(InputError, match=r"two/own_net\.py: .*one/own_net\.py has the name 'own_net' too"):
        source.import_file(study.parents[1] / "two" / "own_other.py")


def test_a_file_is_one_module_whatever_path_it_is_imported_by(write: Write) -> None:
    study = write(STUDY + "import own_net\n", own_net="")
    load_study(str(study))
    assert source.import_file(study.parent / "own_net.py") is sys.modules["own_net"]
    assert source.import_file(Path("own_net.py")) is sys.modules["own_net"]  # relative to the study
    assert source.import_file(study) is sys.modules["coablate_study_own_study"]


@pytest.mark.parametrize("name", ["v1.2", "my-net", "2nd"])
def test_a_file_whose_name_is_not_a_valid_module_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("")
    with pytest.raises(InputError, match=r"is not a valid module name; rename the file"):
        source.import_file(tmp_path / f"{name}.py")


def test_a_study_that_exits_is_an_input_error(write: Write) -> None:
    with pytest.raises(InputError, match=r"own_study\.py: SystemExit: 3"):
        load_study(str(write("import sys\nsys.exit(3)\n")))


MODEL = """
from dataclasses import dataclass
import own_net

@dataclass(frozen=True, kw_only=True)
class Model:
    width: int = own_net.WIDTH
"""


def test_another_process_imports_the_copies_under_the_same_names(write: Write, tmp_path: Path) -> None:
    """It does so even if a changed original is on its ``sys.path`` too."""
    study = write(STUDY + MODEL, own_net="WIDTH = 3\n")
    load_study(str(study))
    model = sys.modules["coablate_study_own_study"].Model()
    for name, content in Sources.imported().files.items():
        path = tmp_path / "kept" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    write(STUDY + "raise AssertionError('the original')", own_net="WIDTH = 4\n")
    code = (
        "import pickle, sys\n"
        "from coablate_platform.study.source import attach\n"
        f"sys.path.insert(0, {str(study.parent)!r})\n"
        f"attach({str(tmp_path / 'kept')!r})\n"
        f"model = pickle.loads({pickle.dumps(model)!r})\n"
        "import own_net, coablate_study_own_study as study\n"
        "print(model.width, own_net.WIDTH, type(model) is study.Model, study.__file__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "3", "True", str(tmp_path / "kept" / "coablate_study_own_study.py")]


def test_a_copied_study_has_the_same_module_name_and_source(write: Write, tmp_path: Path) -> None:
    load_study(str(write(STUDY + MODEL, own_net="WIDTH = 3\n")))
    before = Sources.imported()
    for name, content in before.files.items():
        (tmp_path / name).write_bytes(content)
    load_study(str(tmp_path / "coablate_study_own_study.py"))
    assert Sources.imported() == before


@pytest.fixture
def detached() -> Iterator[None]:
    yield
    source.attach("")


@pytest.mark.usefixtures("detached")
def test_attaching_another_folder_unloads_the_modules_of_the_former(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own_kept.py").write_text(f"NAME = {folder!r}\n")
    for folder in ("one", "two", "two", "one"):
        source.attach(str(tmp_path / folder))
        module = importlib.import_module("own_kept")
        assert folder == module.NAME
    source.attach("")
    assert "own_kept" not in sys.modules
    assert str(tmp_path / "one") not in sys.path
