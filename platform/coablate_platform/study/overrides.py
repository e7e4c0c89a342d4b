"""Changes of a configuration by dotted field, checked against the fields' types.

Arms, factors of a search and the ``--set`` option all use them. A configuration is a tree of frozen dataclasses, and
``model.fusion`` names the field ``fusion`` of its part ``model``.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from coablate_platform.study.config import TRAINING_PRESETS, TrainingConfig
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.extensions import Kind, load_object, type_mismatch
from coablate_platform.study.model import model_mismatch
from coablate_platform.study.validation import checked_value, field_types

Config = TypeVar("Config")


MODEL_KIND = Kind(
    label="model",
    unknown_prefix="model: no model",
    group="coablate.models",
    expected="model configuration",
    mismatch=model_mismatch,
    instantiate=True,
)
PRESET_KIND = Kind(
    label="training preset",
    unknown_prefix="training: no training preset",
    group="coablate.presets",
    expected="TrainingConfig",
    mismatch=lambda value: type_mismatch(value, TrainingConfig),
)


def apply_changes(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return ``config`` with every dotted field in ``changes`` replaced.

    All changes within a part are made at once, so the part validates only the result. A change of a whole part is made
    before changes within it, in whatever order they are given.

    Args:
        config: a tree of frozen dataclasses.
        changes: dotted field -> value, of the field's type or as JSON holds it.

    Raises:
        InputError: a field does not exist (the message names the nearest), a value is not of the field's type, or the
            part refuses it.
    """
    changed: Config = _replace_fields(config, [(path.split("."), path, value) for path, value in changes.items()])
    return changed


def field_value(config: object, path: str) -> Any:
    """Return the value of a dotted field.

    Raises:
        InputError: the field does not exist (the message names the nearest).
    """
    for name in path.split("."):
        names = [field.name for field in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
        if name not in names:
            raise InputError(f"{path}: the configuration has no field {name!r}{did_you_mean(name, names)}")
        config = getattr(config, name)
    return config


def fields_overlap(one: str, other: str) -> bool:
    """Return whether two dotted fields are the same, or one is within the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def check_type(config: object, path: str, value: object) -> None:
    """Check a value against the type of a dotted field alone, without validating its part.

    Raises:
        InputError: the field does not exist, or the value is not of its type.
    """
    field_value(config, path)
    owner, _, name = path.rpartition(".")
    _typed(field_value(config, owner) if owner else config, name, value, path)


def parse_change(text: str) -> tuple[str, Any]:
    """Parse ``a.b=c``, as ``--set`` takes it, into a dotted field and a value.

    The value is parsed as JSON (numbers, lists, null). ``None``, ``True`` and ``False`` are read as Python's; anything
    else is a string.

    Raises:
        InputError: there is no ``=``, or no field in front of it.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set {text}: expected field=value, for example training.epochs=5")
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), {"None": None, "True": True, "False": False}.get(value, value)


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Parse the values of all ``--set`` options: dotted field -> value.

    Raises:
        InputError: as :func:`parse_change`, or two options set one field.
    """
    changes: dict[str, Any] = {}
    for path, value in map(parse_change, texts):
        if path in changes:
            raise InputError(f"--set {path}: set twice, to {changes[path]!r} and to {value!r}")
        changes[path] = value
    return changes


def difference(config: object, reference: object) -> dict[str, Any]:
    """Return the dotted fields in which ``config`` differs from ``reference``, with the values of ``config``.

    A part whose class differs is one difference as a whole. Applied to ``reference``, the result gives ``config``.
    """
    if config == reference:
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # both are dataclasses
        mine, theirs = getattr(config, field.name), getattr(reference, field.name)
        if mine == theirs:
            continue
        if dataclasses.is_dataclass(mine) and type(mine) is type(theirs):
            found |= {f"{field.name}.{below}": value for below, value in difference(mine, theirs).items()}
        else:
            found[field.name] = mine
    return found


def changes_text(changes: Mapping[str, object]) -> str:
    """Write changes in one line for people.

    Args:
        changes: dotted field -> value as canonical JSON values; real numbers are rounded to four digits.
    """
    return ", ".join(f"{name}={_value_text(value)}" for name, value in changes.items())


def _value_text(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_value_text(part)}' for name, part in value.items() if part is not None)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_value_text, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _replace_fields(config: Any, changes: Sequence[tuple[list[str], str, Any]]) -> Any:
    """Return ``config`` with fields replaced.

    Args:
        config: a dataclass, the whole configuration or a part of it.
        changes: for each change the names from ``config`` down to the field, the whole dotted field, and the value.
    """
    new: dict[str, Any] = {}
    texts: dict[str, str] = {}
    below: dict[str, list[tuple[list[str], str, Any]]] = {}
    for (name, *rest), path, value in sorted(changes, key=lambda change: len(change[0])):  # whole parts first
        names = [field.name for field in dataclasses.fields(config)]
        if name not in names:
            where = path[: len(path) - len(".".join([name, *rest]))].rstrip(".") or "the configuration"
            raise InputError(f"{path}: {where} has no field {name!r}{did_you_mean(name, names)}")
        if not rest:
            new[name], texts[name] = _typed(config, name, value, path), f"{path}={value!r}"
        elif dataclasses.is_dataclass(current := new.get(name, getattr(config, name))):
            below.setdefault(name, []).append((rest, path, value))
        elif current is None:
            raise InputError(f"{path}: {name!r} is null in this study, so it has no field {rest[0]!r} to set")
        else:
            raise InputError(f"{path}: {name!r} is a plain value ({current!r}) and has no field {rest[0]!r}")
    new |= {name: _replace_fields(new.get(name, getattr(config, name)), inner) for name, inner in below.items()}
    try:
        return dataclasses.replace(config, **new)
    except ValueError as error:
        refused = [texts[name] for name in texts if _refuses(config, name, new[name])] or list(texts.values())
        raise InputError(f"{', '.join(refused)}: {error}") from None


def _refuses(config: Any, name: str, value: object) -> bool:
    """Return whether the dataclass refuses the value even if no other field changes."""
    try:
        dataclasses.replace(config, **{name: value})
    except ValueError:
        return True
    return False


def _typed(config: Any, name: str, value: Any, path: str) -> Any:
    """Return ``value`` as the field ``name`` of ``config`` holds it."""
    if path == "training" and isinstance(value, str):
        return TRAINING_PRESETS.get(value) or load_object(value, PRESET_KIND, TRAINING_PRESETS).value
    if path == "model" and isinstance(value, str):
        return load_object(value, MODEL_KIND).value
    if dataclasses.is_dataclass(value):  # a whole part (a model, a preset) stands in as it is
        return value
    if value is not None and dataclasses.is_dataclass(part := getattr(config, name)):
        first = dataclasses.fields(part)[0].name
        raise InputError(f"{path}={value!r}: {name} is set field by field, for example {path}.{first}=…")
    kind: type = type(config)
    return checked_value(field_types(kind)[name], value, path)
