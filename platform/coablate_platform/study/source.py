"""Imports a user's own Python files, and records their source for the processes that train.

A study, model or reader in a user's file is a module that worker processes cannot find. :func:`import_file` imports the
file and the modules in its folder that it imports, and records their source. The source is then written to a folder;
:func:`attach` lets another process import the same modules from there, under the same names.

The state belongs to the interpreter, as ``sys.path`` and ``sys.modules`` do: it holds one set of files at a time.
:func:`forget` clears it, so that studies in files of the same name do not share modules.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from coablate_platform.study.code_digest import hash_of, imported_names
from coablate_platform.study.errors import InputError

STUDY_PREFIX = "coablate_study_"
"""Prefix of the module name of a study's file. The prefix avoids name conflicts and is part of run identities."""
_SHIPPED = ("coablate_platform", "coablate_model", "coablate_search_spaces")


@dataclass(frozen=True, kw_only=True)
class _UserModule:
    """A user's top-level module or package.

    Args:
        path: the file, or the package's folder.
        files: relative path -> content at the time of import.
        loaded_before: whether it had been imported by other means before; then :func:`forget` does not unload it.
    """

    path: Path
    files: Mapping[str, bytes]
    loaded_before: bool


@dataclass(kw_only=True)
class _ImportState:
    """The user's files that this process has imported.

    Args:
        modules: top-level name -> module.
        folders: the users' folders; the first is the study's, if a study is a file.
        path_entries: folders that were appended to ``sys.path``.
        names: file passed to :func:`import_file` -> name of its module.
        attached: folder of :func:`attach`; None where the user's own files are imported.
        computed: names of user modules that no file imports by a written name.
    """

    modules: dict[str, _UserModule] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    path_entries: list[str] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)
    attached: Path | None = None
    computed: set[str] = field(default_factory=set)


_state = _ImportState()


@dataclass(frozen=True)
class Sources:
    """Source of a user's files: path relative to a folder on ``sys.path`` -> content."""

    files: Mapping[str, bytes]

    @classmethod
    def imported(cls) -> "Sources":
        """Return the files of all user modules that were imported since the last :func:`forget`."""
        return cls({name: content for module in _state.modules.values() for name, content in module.files.items()})

    @property
    def digest(self) -> str:
        """Digest of the names and contents (16 hex digits); empty if there are no files."""
        return hash_of(self.files, 16) if self.files else ""


def study_module_name(path: Path) -> str:
    """Return the module name of a study's file; a copy named after its module has the same name."""
    stem = path.stem.replace(".", "_")
    return stem if stem.startswith(STUDY_PREFIX) else f"{STUDY_PREFIX}{stem}"


def import_file(path: Path, *, study: bool = False) -> ModuleType:
    """Import a user's file, and append its folder to ``sys.path`` for the modules that it imports from there.

    Args:
        path: the file. A relative path starts at the folder of the study's file, if there is one, else at the working
            directory.
        study: whether to use the module name of a study's file instead of the file's own name.

    Raises:
        InputError: the file does not exist, its name is not a valid module name, or it or a module that it imports from
            its folder has the same name as another module.
    """
    if _state.attached is not None:
        return importlib.import_module(study_module_name(path) if study else path.stem)
    path = _resolve(path)
    if not study and path in _state.names:
        return sys.modules[_state.names[path]]
    name = study_module_name(path) if study else path.stem
    if not study and not name.isidentifier():
        raise InputError(f"{path}: {name!r} is not a valid module name; rename the file")
    _add_folder(path.parent)
    if study:
        _record(name, path, {f"{name}.py": path.read_bytes()}, path.parent, loaded_before=False)
    else:
        _record_from_folder(name, path.parent)
    _state.names[path] = name
    return _import_study(name, path) if study else _import(name)


def import_module(name: str) -> ModuleType:
    """Import a module by its dotted name, from an installed package or from a folder of the user's files."""
    for folder in _state.folders:
        _record_from_folder(name.partition(".")[0], folder)
    return _import(name)


def forget() -> None:
    """Unload the user's modules from this process, so that files are imported again as they are then."""
    for name, module in _state.modules.items():
        if not module.loaded_before:
            _unload(name)
    for entry in _state.path_entries:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
    for part in (_state.modules, _state.folders, _state.path_entries, _state.names, _state.computed):
        part.clear()


def attach(folder: str) -> None:
    """Import the user's modules from copies of their source in this process.

    Args:
        folder: the folder of the copies; empty if the study needs no files of the user's. The modules of a folder that
            was attached before are unloaded.
    """
    copies = Path(folder) if folder else None
    if copies == _state.attached:
        return
    if _state.attached is not None:
        for name in _modules_below(_state.attached):
            del sys.modules[name]
        sys.path.remove(str(_state.attached))
    if copies is not None:
        sys.path.insert(0, str(copies))  # before the driver's folder, whose files may have changed since
    importlib.invalidate_caches()
    _state.attached = copies


def files_of(name: str) -> Mapping[str, bytes]:
    """Return the files of a user's top-level module as they were imported; empty if it is not a user's module."""
    return _state.modules[name].files if name in _state.modules else {}


def computed_imports(name: str) -> frozenset[str]:
    """Return the user's modules that were imported under computed names; none if ``name`` is not a user's module."""
    return frozenset(_state.computed) if name in _state.modules else frozenset()


def _resolve(path: Path) -> Path:
    """Return the absolute path of an existing file."""
    candidates = [path]
    if _state.folders and not path.is_absolute():
        candidates = [_state.folders[0] / path, _state.folders[0] / path.name]  # copies all lie in one folder
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise InputError(f"{path}: no such file")


def _add_folder(folder: Path) -> None:
    """Append a folder to the user's folders and, unless it is there, to ``sys.path``."""
    if folder in _state.folders:
        return
    _state.folders.append(folder)
    if folder not in [Path(entry or os.curdir).resolve() for entry in sys.path]:
        sys.path.append(str(folder))  # last, so that its files cannot hide an installed package
        _state.path_entries.append(str(folder))


def _record_from_folder(name: str, folder: Path, *, loaded_before: bool | None = None) -> None:
    """Record the module or package of that name in a folder, if it exists, and what it imports from the folder."""
    file, package = folder / f"{name}.py", folder / name
    recorded = name in _state.modules and _is_path_of(_state.modules[name].path, name, folder)
    if recorded or (name in _SHIPPED and package.is_dir()):
        return
    loaded_before = name in sys.modules if loaded_before is None else loaded_before
    regular = (package / "__init__.py").is_file()
    if not regular and not file.is_file() and not package.is_dir():
        return
    path = file if file.is_file() and not regular else package
    if (other := _conflict(name, folder)) is not None:
        if path.is_dir() and not regular:
            return  # for example a folder of logs with the name of an installed package, which Python imports instead
        raise InputError(f"{path}: {other} has the name {name!r} too, and would be imported instead; rename it")
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    if files:
        contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
        _record(name, path, contents, folder, loaded_before=loaded_before)


def _record(name: str, path: Path, files: Mapping[str, bytes], folder: Path, *, loaded_before: bool) -> None:
    """Record a module with its source, and the modules that it imports from the folder."""
    _state.modules[name] = _UserModule(path=path, files=files, loaded_before=loaded_before)
    for imported in sorted({imported for content in files.values() for imported in imported_names(content)}):
        _record_from_folder(imported, folder)


def _conflict(name: str, folder: Path) -> str | None:
    """Return the module outside the folder that ``import name`` would find, in words; None if there is none."""
    if name in sys.stdlib_module_names:
        return "a module of the standard library"
    if (module := sys.modules.get(name)) is not None and not _is_from_folder(module, name, folder):
        return str(getattr(module, "__file__", None) or f"the module {name}")
    path = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != folder]
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path if finder is importlib.machinery.PathFinder else None)
        if spec is not None and spec.origin is not None and not _is_path_of(Path(spec.origin), name, folder):
            return spec.origin
    return None


def _is_from_folder(module: ModuleType, name: str, folder: Path) -> bool:
    """Return whether a module is the one of that name in a folder, or belongs to the package of that name there."""
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return path is not None and _is_path_of(Path(path), name, folder)


def _is_path_of(path: Path, name: str, folder: Path) -> bool:
    """Return whether a path is the module or package of that name in a folder, or is within the package."""
    path, package = path.resolve(), folder / name
    return path in (folder / f"{name}.py", package) or package in path.parents


def _import(name: str) -> ModuleType:
    with _recording_imports():
        return importlib.import_module(name)


def _import_study(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the file ends in .py
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with _recording_imports():
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _recording_imports() -> Iterator[None]:
    """Record user modules that the block imports under computed names, and write no bytecode to users' folders."""
    before, no_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()  # a folder may have new files
    try:
        yield
    finally:
        sys.dont_write_bytecode = no_bytecode
        for name in sorted({module.partition(".")[0] for module in sys.modules.keys() - before}):
            for folder in _state.folders:
                if name in sys.modules and _is_from_folder(sys.modules[name], name, folder):
                    if name not in _state.modules:
                        _state.computed.add(name)
                    _record_from_folder(name, folder, loaded_before=name in before)


def _unload(name: str) -> None:
    """Remove a module and its submodules from ``sys.modules``."""
    for module in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[module]


def _modules_below(folder: Path) -> list[str]:
    """Return the names of loaded modules whose files are below a folder."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file is not None and folder in Path(file).parents]
