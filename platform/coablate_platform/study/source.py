"""Imports a user's own Python files, and keeps their source for the processes that train.

A study in a file, a model, a reader: each is a module that no other process could find. This module imports such a file
together with the modules beside it, remembers the source of all of them as it was imported, and names the folder in
which another process finds the same modules under the same names.

The state here is that of the interpreter (``sys.path``, ``sys.modules``): one set of files at a time. :func:`forget`
ends it, so that two studies in files of one name never see each other's modules.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from coablate_platform.study.errors import InputError

STUDY_PREFIX = "coablate_study_"
"""In front of the module name of a study that is a file: it stands in run identities, and takes no other name."""
_SHIPPED = ("coablate_platform", "coablate_model", "coablate_search_spaces")
_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """A module or package among a user's files, by its top-level name.

    Args:
        place: the file, or the package's folder.
        files: path below the kept folder -> content, as it was imported.
        imports: top-level names that its files import, wherever in them.
        shared: whether something else had imported it before.
    """

    place: Path
    files: Mapping[str, bytes]
    imports: frozenset[str]
    shared: bool


@dataclass(kw_only=True)
class _State:
    """What of a user's files this process has imported."""

    units: dict[str, _Unit] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    added: list[str] = field(default_factory=list)  # entries of sys.path
    modules: dict[Path, str] = field(default_factory=dict)  # files that were asked for -> their modules
    kept: Path | None = None


_state = _State()


@dataclass(frozen=True)
class Sources:
    """A user's files as source: path below a folder that is put on ``sys.path`` -> content."""

    files: Mapping[str, bytes]

    @classmethod
    def imported(cls) -> "Sources":
        """Return all files that were imported since :func:`forget`."""
        return cls({name: content for unit in _state.units.values() for name, content in unit.files.items()})

    @property
    def digest(self) -> str:
        """A name for exactly this content; empty where there are no files."""
        return _digest(self.files, 2 * _DIGITS) if self.files else ""


def study_module(path: Path) -> str:
    """Return the module name of a study's file; a kept copy has the original's."""
    stem = path.stem.replace(".", "_")
    return stem if stem.startswith(STUDY_PREFIX) else f"{STUDY_PREFIX}{stem}"


def import_file(path: Path, *, study: bool = False) -> ModuleType:
    """Import a user's file, with its folder at the end of ``sys.path`` for the modules beside it.

    Args:
        path: the file. A relative one lies beside the study's file where there is one, else in the working directory.
        study: give it the module name of a study's file, instead of the plain one by which others import it.

    Raises:
        InputError: there is no such file, its name is no module's, or it or what it imports from its folder has the
            name of another module.
    """
    if _state.kept is not None:
        return importlib.import_module(study_module(path) if study else path.stem)
    path = _found(path)
    if not study and path in _state.modules:
        return sys.modules[_state.modules[path]]
    name = study_module(path) if study else path.stem
    if not study and not name.isidentifier():
        raise InputError(f"{path}: {name!r} is no module's name; rename the file")
    _open_folder(path.parent)
    if study:
        _add(name, _unit(path, {f"{name}.py": path.read_bytes()}, shared=False), path.parent)
    else:
        _add_beside(name, path.parent)
    _state.modules[path] = name
    return _import_study(name, path) if study else _import(name)


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name: an installed one, or one beside a user's files."""
    for folder in _state.folders:
        _add_beside(name.partition(".")[0], folder)
    return _import(name)


def forget() -> None:
    """Take the user's files out of this process, so that the next ones are imported anew."""
    for name, unit in _state.units.items():
        if not unit.shared:
            _drop(name)
    for entry in _state.added:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
    for part in (_state.units, _state.folders, _state.added, _state.modules):
        part.clear()


def attach(folder: str) -> None:
    """Let this process import kept source in place of the user's files; an empty ``folder`` says that there is none."""
    kept = Path(folder) if folder else None
    if kept == _state.kept:
        return
    if _state.kept is not None:
        for name in _modules_below(_state.kept):
            del sys.modules[name]
        sys.path.remove(str(_state.kept))
    if kept is not None:
        sys.path.insert(0, str(kept))  # in front of the driver's folder, whose files may have changed since
    importlib.invalidate_caches()
    _state.kept = kept


def code_parts(name: str) -> dict[str, str]:
    """Return a digest of a user's module, and of each one beside it that it imports, directly or not.

    Returns:
        Top-level name -> 8 hex digits; empty where ``name`` is none of the user's.
    """
    parts: dict[str, str] = {}
    names = [name]
    while names:
        name = names.pop()
        if name in _state.units and name not in parts:
            parts[name] = _digest(_state.units[name].files, _DIGITS)
            names += sorted(_state.units[name].imports)
    return parts


def _found(path: Path) -> Path:
    """Return the file that a path means."""
    places = [path]
    if _state.folders and not path.is_absolute():
        places = [_state.folders[0] / path, _state.folders[0] / path.name]  # a kept study has all its files beside it
    for place in places:
        if place.is_file():
            return place.resolve()
    raise InputError(f"{path}: no such file")


def _open_folder(folder: Path) -> None:
    if folder in _state.folders:
        return
    _state.folders.append(folder)
    if folder not in [Path(entry or os.curdir).resolve() for entry in sys.path]:
        sys.path.append(str(folder))  # at the end: nothing here takes the place of an installed package
        _state.added.append(str(folder))


def _add_beside(name: str, folder: Path, *, shared: bool | None = None) -> None:
    """Add the module or package of that name in a folder, if there is one, and what it imports from there."""
    file, package = folder / f"{name}.py", folder / name
    added = name in _state.units and _lies_beside(_state.units[name].place, name, folder)
    if added or (name in _SHIPPED and package.is_dir()):
        return
    shared = name in sys.modules if shared is None else shared
    regular = (package / "__init__.py").is_file()
    if not regular and not file.is_file() and not package.is_dir():
        return
    place = file if file.is_file() and not regular else package
    if (other := _elsewhere(name, folder)) is not None:
        if place.is_dir() and not regular:
            return  # a folder of logs, say, takes no package's name
        raise InputError(f"{place}: {other} has the name {name!r} too, and would be imported instead; rename it")
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    if files:
        contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
        _add(name, _unit(place, contents, shared=shared), folder)


def _add(name: str, unit: _Unit, folder: Path) -> None:
    _state.units[name] = unit
    for imported in sorted(unit.imports):
        _add_beside(imported, folder)


def _unit(place: Path, files: Mapping[str, bytes], *, shared: bool) -> _Unit:
    imports = frozenset(name for content in files.values() for name in _imports(content))
    return _Unit(place=place, files=files, imports=imports, shared=shared)


def _imports(content: bytes) -> Iterator[str]:
    """Yield the top-level names that a file imports, within functions too."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # importing it will say so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _elsewhere(name: str, folder: Path) -> str | None:
    """Say what else than the folder's module ``import name`` would find; None: nothing."""
    if name in sys.stdlib_module_names:
        return "a module of the standard library"
    if (module := sys.modules.get(name)) is not None and not _is_beside(module, name, folder):
        return str(getattr(module, "__file__", None) or f"the module {name}")
    path = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != folder]
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path if finder is importlib.machinery.PathFinder else None)
        if spec is not None and spec.origin is not None and not _lies_beside(Path(spec.origin), name, folder):
            return spec.origin
    return None


def _is_beside(module: ModuleType, name: str, folder: Path) -> bool:
    """Say whether a module is the one of that name in a folder, or of the package of that name there."""
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return place is not None and _lies_beside(Path(place), name, folder)


def _lies_beside(place: Path, name: str, folder: Path) -> bool:
    place, package = place.resolve(), folder / name
    return place in (folder / f"{name}.py", package) or package in place.parents


def _import(name: str) -> ModuleType:
    with _importing():
        return importlib.import_module(name)


def _import_study(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the file ends in .py
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with _importing():
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _importing() -> Iterator[None]:
    """Import from folders as they are now, leave no compiled files there, and add what computed names imported."""
    before, compiled = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = compiled
        for name in sorted({module.partition(".")[0] for module in sys.modules.keys() - before}):
            for folder in _state.folders:
                if name in sys.modules and _is_beside(sys.modules[name], name, folder):
                    _add_beside(name, folder, shared=name in before)


def _drop(name: str) -> None:
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


def _modules_below(folder: Path) -> list[str]:
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file is not None and folder in Path(file).parents]


def _digest(files: Mapping[str, bytes], digits: int) -> str:
    hasher = hashlib.sha256()
    for name in sorted(files):
        hasher.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return hasher.hexdigest()[:digits]
