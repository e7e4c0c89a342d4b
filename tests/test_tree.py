"""The shape of the project: what stands where, and which room may import which."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "coablate_platform": ROOT / "platform" / "coablate_platform",
    "coablate_model": ROOT / "model" / "coablate_model",
    "coablate_search_spaces": ROOT / "search_spaces" / "coablate_search_spaces",
}
SOURCES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))
MAY_IMPORT = {
    "study": set(),
    "files": {"study"},
    "folder_lease": {"study", "files"},
    "process": {"study"},
    "passwords": set(),
    "data": {"study", "files", "process"},
    "train": {"study", "files", "passwords"},
    "planning": {"study", "data", "train"},
    "journal": {"study", "files", "train"},
    "search": {"study", "train", "journal"},
    "lanes": {"study", "files", "process", "data", "train", "planning"},
    "results": {"study", "train", "journal", "search"},
    "tracking": {"study", "files", "passwords", "train", "journal", "results"},
    "screen": {"study", "data", "train", "planning", "journal", "search", "results"},
    "conformance": {"study", "data", "train", "planning", "search"},
}
"""Room -> the rooms below it that it may import."""
MAY_IMPORT["options"] = {"study", "passwords"}
MAY_IMPORT["cluster"] = {"study", "files", "process", "passwords", "data", "train", "options"}
MAY_IMPORT["data_commands"] = {"study", "data", "screen", "options"}
MAY_IMPORT["command"] = {"study", "passwords"}
MAY_IMPORT["session"] = {"study", "files", "folder_lease", "command", "passwords", "data", "train", "journal", "lanes"}
MAY_IMPORT["session"] |= {"tracking"}
MAY_IMPORT["reconciling"] = {"study", "command", "session", "journal", "search", "results", "tracking"}
MAY_IMPORT["searching"] = set(MAY_IMPORT) - {"options", "cluster", "data_commands", "reconciling"}
MAY_IMPORT["driver"] = set(MAY_IMPORT) - {"options", "cluster", "data_commands", "reconciling"}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}
LONGEST_FILE = 400


def name_of(file: Path) -> str:
    """The dotted name of a source file's module."""
    package = next(folder for folder in PACKAGES.values() if folder in file.parents)
    return ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path, inner: bool = True) -> set[str]:
    """The modules that a file imports; ``inner`` counts imports inside of functions too."""
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree)) if inner else tree.body
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def of_package(found: set[str], package: str) -> set[str]:
    return {name for name in found if name == package or name.startswith(f"{package}.")}


def sources(package: str) -> list[Path]:
    return [file for file in SOURCES if PACKAGES[package] in file.parents]


def test_a_source_root_holds_one_package_and_nothing_else():
    """A ``platform/__init__.py`` would take the place of the standard library's ``platform``."""
    for folder in PACKAGES.values():
        inside = [path.name for path in folder.parent.iterdir() if path.name != "__pycache__"]
        assert inside == [folder.name]


def test_tests_are_files_and_no_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not (ROOT / "tests" / "platform").exists()
    assert {file.name for file in (ROOT / "tests").glob("*.py")} <= {"conftest.py"} | set(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_carries_its_types(package):
    assert (PACKAGES[package] / "py.typed").is_file()


def room_of(file: Path) -> str:
    """The room of a file of the platform: its folder, or the file itself where it stands at the top."""
    return file.relative_to(PACKAGES["coablate_platform"]).with_suffix("").parts[0]


def forbidden(room: str, found: set[str]) -> set[str]:
    """Those of the imported modules that a room may not import."""
    own = of_package(found, "coablate_platform") - {"coablate_platform"}
    return {name for name in own if name.split(".")[1] not in MAY_IMPORT[room] | {room}}


def test_every_room_says_what_it_may_import():
    assert {room_of(file) for file in sources("coablate_platform")} - {"__init__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("file", sources("coablate_platform"), ids=name_of)
def test_imports_point_one_way(file):
    if room_of(file) == "__init__":
        assert not of_package(imports(file), "coablate_platform")
    else:
        assert forbidden(room_of(file), imports(file)) == set()


@pytest.mark.parametrize("imported", MAY_IMPORT)
@pytest.mark.parametrize("room", MAY_IMPORT)
def test_an_import_the_wrong_way_fails_the_guard(room, imported, tmp_path):
    """Every file of the room, with an import of another room hidden within a function, in both forms."""
    expected = set() if imported in MAY_IMPORT[room] | {room} else {f"coablate_platform.{imported}"}
    for original in sources("coablate_platform"):
        if room_of(original) != room:
            continue
        for form in (f"import coablate_platform.{imported}", f"from coablate_platform import {imported}"):
            file = tmp_path / original.name
            file.write_text(f"{original.read_text()}\n\ndef _late() -> None:\n    {form}\n")
            assert forbidden(room, imports(file)) == expected


def test_the_rooms_form_no_circle():
    def below(room: str) -> set[str]:
        return MAY_IMPORT[room].union(*(below(other) for other in MAY_IMPORT[room]))

    assert [room for room in MAY_IMPORT if room in below(room)] == []  # a circle would never return


@pytest.mark.parametrize("file", sources("coablate_model"), ids=name_of)
def test_models_are_plain_torch(file):
    found = imports(file)
    for foreign in ("coablate_platform", "coablate_search_spaces", "ray", "mlflow"):
        assert not of_package(found, foreign)


@pytest.mark.parametrize("file", sources("coablate_platform"), ids=name_of)
def test_the_platform_knows_no_particular_model(file):
    """Only what ships the packages to other nodes names them, as folders."""
    found = imports(file)
    if name_of(file) == "coablate_platform.lanes.cluster":
        assert found & {"coablate_model", "coablate_search_spaces"} == {"coablate_model", "coablate_search_spaces"}
        found -= {"coablate_model", "coablate_search_spaces"}
        assert not of_package(imports(file, inner=False), "coablate_model")
    assert not of_package(found, "coablate_model")
    assert not of_package(found, "coablate_search_spaces")


@pytest.mark.parametrize("file", sources("coablate_search_spaces"), ids=name_of)
def test_search_spaces_hold_values(file):
    """Imports, assignments and documentation; a helper is allowed where its name begins with an underscore's file."""
    allowed: tuple[type[ast.stmt], ...] = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    if file.name.startswith("_"):
        allowed = (*allowed, ast.FunctionDef)
    body = ast.parse(file.read_text()).body
    assert [type(node).__name__ for node in body if not isinstance(node, allowed)] == []
    if file.name[0] != "_":
        names = {target.id for node in body if isinstance(node, ast.Assign) for target in node.targets}
        assert "STUDY" in names


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_stay_short(file):
    assert len(file.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_what_is_public_is_documented(file):
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree)
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if ast.get_docstring(node) is None] == []


def test_no_ignore_rule_hides_a_source_root():
    """An unanchored ``model/`` would leave the package out of the wheel without a word."""
    for line in (ROOT / ".gitignore").read_text().splitlines():
        assert line.strip("/*") not in {folder.parent.name for folder in PACKAGES.values()} | set(PACKAGES)


def test_warnings_are_errors():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["pytest"]["ini_options"]["filterwarnings"][0] == "error"
    assert settings["pytest"]["ini_options"]["timeout"] > 0
    assert settings["mypy"]["strict"]
    assert {"A", "INP"} <= set(settings["ruff"]["lint"]["select"])  # A005: a module that hides the standard library's
    assert "src" not in settings["ruff"]  # it would silence A005


def test_the_readme_names_every_top_level_file():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout here: what belongs to the project is not known")
    text = (ROOT / "README.md").read_text()
    top = {path.split("/")[0] for path in listed.stdout.splitlines()} - {"README.md", ".gitignore"}
    assert sorted(name for name in top if name not in text) == []


@pytest.mark.parametrize("file", [file for file in SOURCES if file.stem not in ("__init__", "__main__")], ids=name_of)
def test_the_readme_s_tree_names_every_file(file):
    """But for those of ``data/formats`` and ``data/synthetic``, which it names as a whole."""
    tree = (ROOT / "README.md").read_text().partition("## The tree")[2]
    named = set(re.findall(r"[\w/]+\.py|\w+/", tree))
    assert {file.name, f"{file.parent.name}/"} & named
    if file.parent.name not in ("formats", "synthetic"):
        assert file.name in named


def test_the_readme_s_tree_names_no_file_that_is_not_there():
    tree = (ROOT / "README.md").read_text().partition("## The tree")[2]
    assert set(re.findall(r"\w+\.py", tree)) <= {file.name for file in SOURCES}
