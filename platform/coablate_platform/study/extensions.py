"""Finds what a user brings: ``package.module:Name``, ``path/to/file.py:Name``, or a name that a package has registered.

A package registers its own under entry points, by group (``coablate.models`` and the others).
"""

import contextlib
import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from coablate_platform.study import source
from coablate_platform.study.errors import InputError, did_you_mean, first_line

_FILE = re.compile(r"(?P<place>.+\.py)(?::(?P<name>\w+))?")
_OBJECT = re.compile(r"(?P<place>[A-Za-z_][\w.]*):(?P<name>\w+)")
_MODULE = re.compile(r"(?P<place>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a reference may lead to.

    Args:
        word: what it is called.
        unknown: what is said of a plain name that nothing has, in front of the name.
        group: of the entry points that bring it.
        expected: what fits, in words.
        lacking: says what an object lacks to be one; empty where it fits.
        classes: whether a class whose fields all have defaults will do: its instance is taken.
        name: what a module calls it, so that ``package.module`` alone is a reference; empty where any name will do.
        study: whether its file is a study's, and has the module name of one.
    """

    word: str
    unknown: str
    group: str
    expected: str
    lacking: Callable[[Any], str]
    classes: bool = False
    name: str = ""
    study: bool = False


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An object, and the reference by which other processes find it: without the path of a file."""

    value: Any
    reference: str


def lacking(value: object, names: Collection[str]) -> str:
    """Say which of some attributes an object lacks; empty where it has all."""
    missing = [name for name in names if not hasattr(value, name)]
    return f"it has no {' and no '.join(missing)}" if missing else ""


def absolute(reference: str) -> str:
    """Return a reference with its file's path made absolute, so that it means the same from another folder."""
    found = _FILE.fullmatch(reference)
    if found is None:
        return reference
    path = str(Path(found["place"]).resolve())
    return path if found["name"] is None else f"{path}:{found['name']}"


def moved_reference(reference: str, folder: Path, *, study: bool) -> str:
    """Return a reference to the kept copy of a file; one that names no file stays.

    Args:
        reference: to the user's own file.
        folder: the copies'.
        study: whether the file is the study's.
    """
    found = _FILE.fullmatch(reference)
    if found is None:
        return reference
    path = Path(found["place"])
    kept = folder / f"{source.study_module(path) if study else path.stem}.py"
    return str(kept) if found["name"] is None else f"{kept}:{found['name']}"


def file_of(reference: str) -> Path | None:
    """Return the file that a reference names; None where it names none."""
    found = _FILE.fullmatch(reference)
    return None if found is None else Path(found["place"])


def installed(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    """Return what installed packages have registered, by name."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=kind.group)}


def load_object(reference: str, kind: Kind, known: Collection[str] = ()) -> Loaded:
    """Return the object that a reference leads to.

    Args:
        reference: ``module:Name``, ``file.py:Name``, ``file.py`` where just one object in it fits, or a name that an
            installed package has registered.
        kind: what it must be.
        known: names that Coablate itself knows, for the nearest one.

    Raises:
        InputError: nothing is registered under the name, the module cannot be imported, holds no such name, or what it
            holds does not fit.
    """
    entries = installed(kind)
    if reference in entries or (found := _parsed(reference, kind)) is None:
        if reference not in entries:
            names = [*known, *entries]
            hint = did_you_mean(reference, names) if names else "; expected package.module:Name or FILE.py:Name"
            raise InputError(f"{kind.unknown} {reference!r}{hint}")
        with in_one_line(f"{kind.word} {reference}"):
            value = entries[reference].load()
        return Loaded(value=_fitting(value, entries[reference].value, reference, kind), reference=reference)
    place, name = found
    with in_one_line(f"{kind.word} {reference}"):
        is_file = place.endswith(".py")
        module = source.import_file(Path(place), study=kind.study) if is_file else source.import_module(place)
    name = name or kind.name or _only(module, reference, kind)
    return Loaded(value=_member(module, name, reference, kind), reference=f"{module.__name__}:{name}")


@contextlib.contextmanager
def in_one_line(place: str) -> Iterator[None]:
    """Say of whatever a user's code raises where it comes from.

    Raises:
        InputError: it raised something.
    """
    try:
        yield
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"{place}: no module named {error.name!r}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{place}: {type(error).__name__}: {error}") from error


def _parsed(reference: str, kind: Kind) -> tuple[str, str | None] | None:
    """Return module or file, and name, of a reference; None where it is a plain name."""
    if (found := _FILE.fullmatch(reference) or _OBJECT.fullmatch(reference)) is not None:
        return found["place"], found["name"]
    return (reference, None) if kind.name and _MODULE.fullmatch(reference) else None


def _member(module: ModuleType, name: str, reference: str, kind: Kind) -> Any:
    if not hasattr(module, name):
        fit = _candidates(module, kind)
        hint = did_you_mean(name, fit) if fit else ""
        raise InputError(f"{kind.word} {reference}: {module.__file__} defines no {name} of type {kind.expected}{hint}")
    return _fitting(getattr(module, name), name, reference, kind)


def _only(module: ModuleType, reference: str, kind: Kind) -> str:
    """Return the name of the one object of a kind in a module."""
    names = _candidates(module, kind)
    if len(names) != 1:
        found = f"more than one, name it: {', '.join(f'{reference}:{name}' for name in names)}" if names else "none"
        raise InputError(f"{kind.word} {reference}: expected one {kind.expected} in it, found {found}")
    return names[0]


def _candidates(module: ModuleType, kind: Kind) -> list[str]:
    """Return the public names of a module's objects of a kind; of classes, those that it defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not (isinstance(value, type) and (value.__module__ != module.__name__ or not kind.classes))
        and not kind.lacking(value)
    ]


def _fitting(value: Any, name: str, reference: str, kind: Kind) -> Any:
    if kind.classes and isinstance(value, type):
        try:
            value = value()
        except Exception as error:
            raise InputError(
                f"{kind.word} {reference}: {name} cannot be made without arguments ({first_line(error)}); name an "
                "instance of it"
            ) from None
    if lack := kind.lacking(value):
        raise InputError(f"{kind.word} {reference}: {name} is no {kind.expected}: {lack}")
    return value
