"""The identity of a run: a digest of the canonical JSON of its configuration, data fingerprint and seeds."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.model import ReadsFiles
from coablate_platform.study.validation import field_types


def canonical(value: Any) -> Any:
    """Return the canonical form of ``value``, made of JSON values.

    A dataclass becomes an object. The object names the class under ``kind`` where the type of the field allows several
    classes, as a run's model does. Every field is written, defaults too: a changed default changes the run's identity.
    A whole number in a field of type float is written as a float: ``width=1`` and ``width=1.0`` are the same. Of a file
    (see :class:`~coablate_platform.study.model.ReadsFiles`) the content is written, as its SHA-256.

    Raises:
        TypeError: a value has no canonical form.
        InputError: a dataclass needs ``kind`` for its class and has a field of that name.
    """
    return _canonical(value, None)


def canonical_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes by dotted field in canonical form; a whole part names its class, which tells it from others."""
    several: frozenset[type] = frozenset()
    parts = {path: several if dataclasses.is_dataclass(value) else None for path, value in changes.items()}
    return {path: _canonical(value, parts[path]) for path, value in changes.items()}


def _canonical(value: Any, declared: frozenset[type] | None) -> Any:
    """Return the canonical form of a value.

    Args:
        value: anything.
        declared: the classes in the annotation of the field that holds the value; None where no field holds it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = _declared(type(value))
        files = value.file_fields if isinstance(value, ReadsFiles) else ()
        fields = {
            field.name: _canonical(getattr(value, field.name), known[field.name])
            if field.name not in files
            else _content(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        if declared is None or {kind for kind in declared if dataclasses.is_dataclass(kind)} == {type(value)}:
            return fields
        return fields | {"kind": _kind(value)}
    if isinstance(value, list | tuple):
        return [_canonical(item, declared) for item in value]
    if isinstance(value, dict):
        return {str(key): _canonical(item, declared) for key, item in value.items()}
    if type(value) is int and declared is not None and float in declared and int not in declared:
        return float(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} ({type(value).__name__}) has no canonical form; configurations hold plain values")


def _content(path: str | None) -> str | None:
    """Return the SHA-256 of a file; its path where there is no such file, which building the network will report."""
    if path is None or not Path(path).is_file():
        return path
    state = Path(path).stat()
    return f"sha256:{_sha256(path, state.st_size, state.st_mtime_ns)}"


@functools.cache
def _sha256(path: str, size: int, changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def _declared(kind: type) -> dict[str, frozenset[type]]:
    """Return for each field of a dataclass the classes in its annotation, those in type arguments included."""
    return {name: frozenset(_classes(hint)) for name, hint in field_types(kind).items()}


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _classes(part)


def _kind(value: Any) -> str:
    kind = type(value)
    if "kind" in (field.name for field in dataclasses.fields(value)):
        raise InputError(f"{kind.__qualname__} has a field named 'kind', which stands for its class; give it another")
    return f"{kind.__module__}.{kind.__qualname__}"


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``value``."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_id(config: RunConfig, fingerprint: str, seed: tuple[int, int], lineage: Sequence[str | int] = ()) -> str:
    """Return the identity of a run, 64 hex digits.

    Args:
        config: the run's configuration.
        fingerprint: fingerprint of the store.
        seed: (study seed, run seed).
        lineage: what else the result depends on, such as the parent of a population's member; empty for most runs.
    """
    return digest([config, fingerprint, list(seed), *([list(lineage)] if lineage else [])])
