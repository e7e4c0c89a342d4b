"""Checks the values of dataclass fields against their annotations, strictly, with messages for people.

The annotation is all that a field declares: its type, and with :data:`typing.Annotated` its range. Nothing is converted
but whole numbers to real ones, and lists to tuples. pydantic does the checks.
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from coablate_platform.study.errors import InputError, nearest


@dataclass(frozen=True)
class Expected:
    """Says in words which values an annotated type has."""

    text: str


Count = Annotated[int, Ge(1), Expected("a whole number of at least 1")]
CountOrZero = Annotated[int, Ge(0), Expected("a whole number of at least 0")]
Positive = Annotated[float, Gt(0), Expected("a number above 0")]
NotNegative = Annotated[float, Ge(0), Expected("a number of at least 0")]
Share = Annotated[float, Gt(0), Le(1), Expected("a number above 0 and at most 1")]
Probability = Annotated[float, Ge(0), Le(1), Expected("a number from 0 to 1")]


def _refuse_text(value: object) -> object:
    """Refuse a text, which Python takes for a sequence of its characters."""
    if isinstance(value, str):
        raise PydanticCustomError("text", "a text")
    return value


Values = Annotated[Sequence[Any], BeforeValidator(_refuse_text), Expected("a list")]

_PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def check_fields(instance: Any, where: str) -> None:
    """Check all fields of a dataclass; its ``__post_init__`` calls this first.

    A list in a field whose annotation is a tuple becomes a tuple, and a whole number in a real field becomes real.

    Args:
        instance: the dataclass.
        where: text in front of a field's name in messages, such as ``training.`` or ``study modules: ``.

    Raises:
        InputError: a value does not fit its annotation.
    """
    kind: type = type(instance)
    for name, hint in field_types(kind).items():
        value = getattr(instance, name)
        checked = checked_value(hint, value, f"{where}{name}")
        if checked is not value:
            object.__setattr__(instance, name, checked)


def check_tree(value: object, where: str) -> None:
    """Check the fields of a dataclass that does not check itself, and of all dataclasses within it.

    Args:
        value: a dataclass, such as a model's configuration; a list or tuple that may hold some; or any other value.
        where: the dotted field that holds it.

    Raises:
        InputError: a value does not fit its annotation.
    """
    if isinstance(value, list | tuple):
        for item in value:
            check_tree(item, where)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name, hint in field_types(type(value)).items():
            path, part = f"{where}.{name}", getattr(value, name)
            checked_value(hint, part, path)
            check_tree(part, path)


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields.

    Raises:
        InputError: an annotation cannot be read at run time.
    """
    try:
        hints = get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise InputError(f"{kind.__qualname__}: a field's annotation cannot be read at run time: {error}") from None
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def checked_value(hint: Any, value: Any, path: str) -> Any:
    """Return a value as a field with this annotation holds it.

    Args:
        hint: the annotation.
        value: a value of the annotated type, or as JSON holds it.
        path: the field, for messages.

    Raises:
        InputError: the value does not fit; the message says what was expected, with the nearest option.
    """
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        raise InputError(f"{path}={value!r}: expected {hint.__name__}")
    try:
        return _validate(_adapter(hint), value)
    except ValidationError as error:
        raise InputError(f"{path}={_short(value)}: {_mismatch(hint, value, error)}") from None


def _validate(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        if not isinstance(value, list | dict):
            raise
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):  # it holds other objects than JSON's
        return adapter.validate_python(tuple(value))
    return adapter.validate_json(text)  # strict checks take JSON's lists for tuples and its objects for dataclasses


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=_STRICT)


def _mismatch(hint: Any, value: Any, error: ValidationError) -> str:
    options = [option for part in _alternatives(hint) for option in _options(part)]
    if isinstance(value, str):
        if options:
            near = nearest(value, [option for option in options if isinstance(option, str)])
            return f"expected {_words(hint)}" + (f" (did you mean {near!r}?)" if near else "")
        if value.startswith("[") and any(get_origin(part) in (tuple, list) for part in _alternatives(hint)):
            return f'expected {_words(hint)}; as JSON, texts in a list need quotes, for example \'["a", "b"]\''
    inner = error.errors()[0]
    if inner["type"] == "value_error":  # raised by a dataclass that was made from JSON, with a message of its own
        return str(inner["ctx"]["error"])
    place = ".".join(str(part) for part in inner["loc"] if isinstance(part, int))
    if isinstance(inner.get("input"), float) and not abs(inner["input"]) < float("inf"):
        return f"expected {_words(hint)}, and it must be finite"
    where = f" (element {place}: {inner['input']!r})" if place and isinstance(value, list | tuple) else ""
    return f"expected {_words(hint)}{where}"


def _words(hint: Any) -> str:
    """Describe an annotated type for people."""
    if get_origin(hint) is Annotated:
        said = [part.text for part in get_args(hint) if isinstance(part, Expected)]
        return said[0] if said else _words(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType, Literal):
        options = [repr(option) for part in _alternatives(hint) for option in _options(part)]
        others = [_words(part) for part in _alternatives(hint) if not _options(part)]
        return _any_of(list(dict.fromkeys([*options, *others])))
    if hint in _PLAIN:
        return _PLAIN[hint]
    return str(getattr(hint, "__name__", hint)) if isinstance(hint, type) else _container(hint)


def _container(hint: Any) -> str:
    """Describe a list or mapping in words; anything else by its annotation."""
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not Ellipsis]
    name = getattr(origin, "__name__", "")
    if name in ("tuple", "list", "Sequence", "frozenset", "set"):
        return f"a list{_each(parts)}"
    if name in ("Mapping", "dict"):
        return f"a mapping{_each(parts[1:])}"
    return "a function" if name == "Callable" else str(hint).replace("typing.", "")


def _each(parts: list[Any]) -> str:
    words = [_words(part) for part in parts if part is not Any]
    return f", each {_any_of(list(dict.fromkeys(words)))}" if words else ""


def _any_of(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _options(hint: Any) -> list[Any]:
    return list(get_args(hint)) if get_origin(hint) is Literal else []


def _alternatives(hint: Any) -> Iterator[Any]:
    """Yield the types of a union, or the type itself."""
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _alternatives(part)
    else:
        yield hint


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
