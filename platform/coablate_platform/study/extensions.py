"""Loads users' extensions by reference: ``package.module:Name``, ``path/to/file.py:Name``, or a registered name.

An installed package registers its extensions under entry points, one group for each kind (``coablate.models``, …).
"""

import contextlib
import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from coablate_platform.study import source
from coablate_platform.study.errors import InputError, did_you_mean, first_line

_FILE = re.compile(r"(?P<location>.+\.py)(?::(?P<name>\w+))?")
_OBJECT = re.compile(r"(?P<location>[A-Za-z_][\w.]*):(?P<name>\w+)")
_MODULE = re.compile(r"(?P<location>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)")
_DEFINED = (type, FunctionType, BuiltinFunctionType)
"""Types of objects that name the module that defines them."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of extension.

    Args:
        label: what messages call it.
        unknown_prefix: beginning of the message about an unknown name; the name follows.
        group: group of its entry points.
        expected: the expected type, for messages.
        mismatch: returns why an object is not of this kind; empty if it is.
        instantiate: whether a reference to a class is accepted and means an instance made without arguments.
        default_name: name of the object in a module, so that ``package.module`` alone is a reference; empty: none.
        is_study: whether it is a study, whose file gets a module name with a prefix.
    """

    label: str
    unknown_prefix: str
    group: str
    expected: str
    mismatch: Callable[[Any], str]
    instantiate: bool = False
    default_name: str = ""
    is_study: bool = False


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A loaded object, and the reference by which other processes can load it; it holds no path of a file."""

    value: Any
    reference: str


def type_mismatch(value: object, *types: type) -> str:
    """Return an object's type, as text for a message, if it is none of some types; empty if it is."""
    return "" if isinstance(value, types) else f"it is of type {type(value).__name__}"


def missing_attributes(value: object, names: Collection[str]) -> str:
    """Return which of these attributes an object lacks, as text for a message; empty if it has all."""
    missing = [name for name in names if not hasattr(value, name)]
    return f"it has no {' and no '.join(missing)}" if missing else ""


def absolute_reference(reference: str) -> str:
    """Return a reference in which the path of a file is absolute; other references are returned unchanged."""
    found = _FILE.fullmatch(reference)
    return reference if found is None else _with_name(Path(found["location"]).resolve(), found["name"])


def reference_to_copy(reference: str, folder: Path, *, is_study: bool) -> str:
    """Return a reference to the copy of a file; references that name no file are returned unchanged.

    Args:
        reference: reference to the original.
        folder: folder of the copies.
        is_study: whether the file is the study's, whose copy is named after its module.
    """
    found = _FILE.fullmatch(reference)
    if found is None:
        return reference
    original = Path(found["location"])
    stem = source.study_module_name(original) if is_study else original.stem
    return _with_name(folder / f"{stem}.py", found["name"])


def file_of(reference: str) -> Path | None:
    """Return the file that a reference names, or None if it names no file."""
    found = _FILE.fullmatch(reference)
    return None if found is None else Path(found["location"])


def registered(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the entry points of a kind that installed packages have registered, by name."""
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=kind.group)}


def load_object(reference: str, kind: Kind, known: Collection[str] = ()) -> Loaded:
    """Load the object that a reference names.

    Args:
        reference: ``module:Name``, ``file.py:Name``, ``file.py`` if exactly one object in it fits, or the name of an
            entry point.
        kind: the expected kind.
        known: built-in names, to suggest the nearest one to an unknown name.

    Raises:
        InputError: the name is unknown, the module cannot be imported or does not define the object, or the object is
            not of the kind.
    """
    entries = registered(kind)
    if reference in entries or (found := _split(reference, kind)) is None:
        if reference not in entries:
            names = [*known, *entries]
            hint = did_you_mean(reference, names) if names else "; expected package.module:Name or FILE.py:Name"
            raise InputError(f"{kind.unknown_prefix} {reference!r}{hint}")
        with errors_as_input_error(f"{kind.label} {reference}"):
            value = entries[reference].load()
        return Loaded(value=_checked(value, entries[reference].value, reference, kind), reference=reference)
    location, name = found
    with errors_as_input_error(f"{kind.label} {reference}"):
        is_file = location.endswith(".py")
        module = source.import_file(Path(location), study=kind.is_study) if is_file else source.import_module(location)
    name = name or kind.default_name or _only_candidate(module, reference, kind)
    return Loaded(value=_attribute(module, name, reference, kind), reference=f"{module.__name__}:{name}")


@contextlib.contextmanager
def errors_as_input_error(prefix: str) -> Iterator[None]:
    """Turn every error that a user's code raises in the block into an InputError.

    Args:
        prefix: beginning of the message: what was being loaded or called.

    Raises:
        InputError: the block raised an error.
    """
    try:
        yield
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"{prefix}: no module named {error.name!r}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{prefix}: {type(error).__name__}: {error}") from error


def _with_name(file: Path, name: str | None) -> str:
    return str(file) if name is None else f"{file}:{name}"


def _split(reference: str, kind: Kind) -> tuple[str, str | None] | None:
    """Split a reference into module or file, and name; return None for a plain name."""
    if (found := _FILE.fullmatch(reference) or _OBJECT.fullmatch(reference)) is not None:
        return found["location"], found["name"]
    return (reference, None) if kind.default_name and _MODULE.fullmatch(reference) else None


def _attribute(module: ModuleType, name: str, reference: str, kind: Kind) -> Any:
    if not hasattr(module, name):
        candidates = _candidates(module, kind)
        hint = did_you_mean(name, candidates) if candidates else ""
        raise InputError(f"{kind.label} {reference}: {module.__file__} defines no {name} of type {kind.expected}{hint}")
    return _checked(getattr(module, name), name, reference, kind)


def _only_candidate(module: ModuleType, reference: str, kind: Kind) -> str:
    """Return the name of the one object of a kind in a module."""
    names = _candidates(module, kind)
    if len(names) != 1:
        several = f"several; name one of {', '.join(f'{reference}:{name}' for name in names)}"
        raise InputError(
            f"{kind.label} {reference}: expected one {kind.expected} in it, found {several if names else 'none'}"
        )
    return names[0]


def _candidates(module: ModuleType, kind: Kind) -> list[str]:
    """Return the public names of a module's objects of a kind, without classes and functions that it imports."""

    def counts(value: object) -> bool:
        if isinstance(value, type) and not kind.instantiate:
            return False
        imported = isinstance(value, _DEFINED) and value.__module__ != module.__name__
        return not imported and not kind.mismatch(value)

    return [name for name, value in vars(module).items() if not name.startswith("_") and counts(value)]


def _checked(value: Any, name: str, reference: str, kind: Kind) -> Any:
    """Return an object of the kind, instantiated if it is a class.

    Raises:
        InputError: it cannot be instantiated, or is not of the kind.
    """
    if kind.instantiate and isinstance(value, type):
        try:
            value = value()
        except Exception as error:
            raise InputError(
                f"{kind.label} {reference}: {name} cannot be instantiated without arguments ({first_line(error)}); "
                "name an instance of it"
            ) from None
    if mismatch := kind.mismatch(value):
        raise InputError(f"{kind.label} {reference}: {name} is no {kind.expected}: {mismatch}")
    return value
