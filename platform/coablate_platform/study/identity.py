"""What makes two runs the same run: canonical JSON of configuration, data fingerprint and seed, hashed."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from coablate_platform.study.config import RunConfig


def canonical(value: Any) -> Any:
    """Return ``value`` as JSON values: dataclasses as objects, a model's with its class under ``kind``.

    Every field is written out, defaults too, so that a changed default is a changed run.

    Raises:
        TypeError: a value has no canonical form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: canonical(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, RunConfig):
            model = type(value.model)
            fields["model"]["kind"] = f"{model.__module__}.{model.__qualname__}"
        return fields
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{value!r} ({type(value).__name__}) has no canonical form; configurations hold plain values")


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
