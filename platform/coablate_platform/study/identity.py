"""What makes two runs the same run: canonical JSON of configuration, data fingerprint and seed, hashed."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_type_hints

from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError


def canonical(value: Any) -> Any:
    """Return ``value`` as JSON values: dataclasses as objects, with their class under ``kind`` where their field allows
    several, as a run's model does.

    Every field is written out, defaults too, so that a changed default is a changed run. A whole number in a field for
    real ones is written as a real one: ``width=1`` and ``width=1.0`` are one setting.

    Raises:
        TypeError: a value has no canonical form.
        InputError: a dataclass that stands for one of several has a field ``kind`` of its own.
    """
    return _canonical(value, None)


def _canonical(value: Any, declared: frozenset[type] | None) -> Any:
    """``declared`` are the classes that the value's field names; None where it is no field's."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = _declared(type(value))
        fields = {
            field.name: _canonical(getattr(value, field.name), known[field.name]) for field in dataclasses.fields(value)
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


@functools.cache
def _declared(kind: type) -> dict[str, frozenset[type]]:
    """Return for each of a dataclass's fields the classes that its annotation names, at whatever depth."""
    try:
        hints = get_type_hints(kind)
    except NameError as error:
        raise InputError(f"{kind.__qualname__}: a field's annotation cannot be read at run time: {error}") from None
    return {field.name: frozenset(_classes(hints[field.name])) for field in dataclasses.fields(kind)}


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
    """Return a run's identity, 64 hex digits.

    Args:
        config: the whole of it.
        fingerprint: the data's.
        seed: (study seed, run seed).
        lineage: what else decides what it computes, where it does not begin from its seed alone.
    """
    return digest([config, fingerprint, list(seed), *([list(lineage)] if lineage else [])])
