"""Changes to a configuration by dotted field, checked against the fields' types: an arm's and ``--set``'s one way.

A configuration is a tree of frozen dataclasses; ``model.fusion`` names a field in it. pydantic checks the values.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from coablate_platform.study.config import TRAINING_PRESETS, TrainingConfig
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.extensions import Kind, lacking, load_object

Config = TypeVar("Config")


def _no_model(value: object) -> str:
    members = ("modalities", "build", "objective", "describe")
    return lacking(value, members) or ("" if dataclasses.is_dataclass(value) else "it is no dataclass")


def _no_preset(value: object) -> str:
    return "" if isinstance(value, TrainingConfig) else f"it is of type {type(value).__name__}"


MODELS = Kind(
    word="model",
    unknown="model: no model",
    group="coablate.models",
    expected="model configuration",
    lacking=_no_model,
    classes=True,
)
PRESETS = Kind(
    word="training preset",
    unknown="training: no training preset",
    group="coablate.presets",
    expected="TrainingConfig",
    lacking=_no_preset,
)


def apply(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return ``config`` with every dotted field in ``changes`` replaced, all those of a part at once: what the part
    refuses is what comes out, not what it would be on the way.

    Raises:
        InputError: a field does not exist (the nearest is named), or a value is not of the field's type.
    """
    replaced: Config = _replaced(config, [(path.split("."), path, value) for path, value in changes.items()])
    return replaced


def part(config: object, path: str) -> Any:
    """Return the value of a dotted field.

    Raises:
        InputError: a field does not exist (the nearest is named).
    """
    for name in path.split("."):
        names = [field.name for field in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
        if name not in names:
            raise InputError(f"{path}: the configuration has no field {name!r}{did_you_mean(name, names)}")
        config = getattr(config, name)
    return config


def overlap(one: str, other: str) -> bool:
    """Say whether two dotted fields are the same, or one is within the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def check_type(config: object, path: str, value: Any) -> None:
    """Check that a dotted field can hold a value, whatever the other fields say.

    Raises:
        InputError: the field does not exist, or the value is not of its type.
    """
    part(config, path)
    owner, _, name = path.rpartition(".")
    _typed(part(config, owner) if owner else config, name, value, path)


def parse(text: str) -> tuple[str, Any]:
    """Read ``a.b=c`` as a dotted field and a value: JSON where it is JSON (numbers, lists, null), else a string.

    Raises:
        InputError: there is no ``=`` or no field in front of it.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set {text}: expected field=value, for example training.epochs=5")
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), {"None": None, "True": True, "False": False}.get(value, value)


def difference(config: object, reference: object) -> dict[str, Any]:
    """Return the dotted fields in which ``config`` departs from ``reference``, with config's values.

    A part that is of another class, or no dataclass, is one difference as a whole.
    """
    if config == reference:
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # callers pass dataclasses
        mine, theirs = getattr(config, field.name), getattr(reference, field.name)
        if mine == theirs:
            continue
        if dataclasses.is_dataclass(mine) and type(mine) is type(theirs):
            found |= {f"{field.name}.{below}": value for below, value in difference(mine, theirs).items()}
        else:
            found[field.name] = mine
    return found


def changes_text(changes: Mapping[str, Any]) -> str:
    """Write dotted fields with their canonical values in one line: a site as its fields, numbers in few digits."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in changes.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_plain(part)}' for name, part in value.items() if part is not None)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _replaced(config: Any, changes: Sequence[tuple[list[str], str, Any]]) -> Any:
    """Apply changes, each with its way from ``config`` down, its whole path, and the value."""
    new: dict[str, Any] = {}
    said: dict[str, str] = {}
    below: dict[str, list[tuple[list[str], str, Any]]] = {}
    for (name, *rest), path, value in changes:
        names = [field.name for field in dataclasses.fields(config)]
        if name not in names:
            where = path[: len(path) - len(".".join([name, *rest]))].rstrip(".") or "the configuration"
            raise InputError(f"{path}: {where} has no field {name!r}{did_you_mean(name, names)}")
        if not rest:
            new[name], said[name] = _typed(config, name, value, path), f"{path}={value!r}"
            below.pop(name, None)
        elif dataclasses.is_dataclass(current := new.get(name, getattr(config, name))):
            below.setdefault(name, []).append((rest, path, value))
        else:
            raise InputError(f"{path}: {name!r} is a plain value ({current!r}) and has no field {rest[0]!r}")
    new |= {name: _replaced(new.get(name, getattr(config, name)), inner) for name, inner in below.items()}
    try:
        return dataclasses.replace(config, **new)
    except ValueError as error:
        to_blame = [said[name] for name in said if _refuses(config, name, new[name])] or list(said.values())
        raise InputError(f"{', '.join(to_blame)}: {error}") from None


def _refuses(config: Any, name: str, value: Any) -> bool:
    try:
        dataclasses.replace(config, **{name: value})
    except ValueError:
        return True
    return False


def _typed(config: Any, name: str, value: Any, path: str) -> Any:
    """Return ``value`` as the field ``name`` of ``config`` holds it."""
    if path == "training" and isinstance(value, str):
        return TRAINING_PRESETS.get(value) or load_object(value, PRESETS, TRAINING_PRESETS).value
    if path == "model" and isinstance(value, str):
        return load_object(value, MODELS).value
    if dataclasses.is_dataclass(value):  # a whole part (a model, a preset) stands in as it is
        return value
    if dataclasses.is_dataclass(part := getattr(config, name)):
        first = dataclasses.fields(part)[0].name
        raise InputError(f"{path}={value!r}: {name} is set field by field, for example {path}.{first}=…")
    hint = get_type_hints(type(config))[name]
    try:
        strict = ConfigDict(arbitrary_types_allowed=True)
        return TypeAdapter(hint, config=strict).validate_python(value)
    except ValidationError as error:
        expected = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        expected = expected.replace("typing.", "")
        raise InputError(f"{path}={value!r}: {error.errors()[0]['msg']} (expected {expected})") from None
