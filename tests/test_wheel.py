"""What is built is what was written: all packages, their types, and the facts that readers need."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOTS = ("platform", "model", "search_spaces")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling is not installed: the wheel is built without a network")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [file] = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_every_file_of_every_package(wheel):
    expected = {
        str(file.relative_to(ROOT / root))
        for root in ROOTS
        for file in (ROOT / root).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == expected
    assert {f"coablate_{root}/py.typed" for root in ROOTS} <= inside
    assert "coablate_platform/data/formats/facts/ntu_classes.txt" in inside


def test_the_wheel_installs_the_command(wheel):
    [entry] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "coablate = coablate_platform.cli:main" in wheel.read(entry).decode()


def test_what_is_in_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import coablate_platform, coablate_search_spaces\n"
        "assert coablate_platform.__file__.startswith(sys.path[0]), coablate_platform.__file__\n"
        "from coablate_platform.study.load import shipped\n"
        "print(*shipped())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    files = (ROOT / "search_spaces" / "coablate_search_spaces").glob("[a-z]*.py")
    assert done.stdout.split() == sorted(file.stem for file in files), done.stderr
