"""What a domain gets its values from: an Optuna trial, or recorded parameters.

A suggester is asked for one named parameter after another, as an Optuna trial is.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from coablate_platform.study.errors import InputError

PlainValue = bool | int | float | str | None
"""A parameter's value, of a type that Optuna's storages and JSON can hold."""


class Suggester(Protocol):
    """Suggests a value for a named parameter. ``optuna.Trial`` has these methods."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[PlainValue]) -> PlainValue: ...


class FixedTrial:
    """Suggests recorded values, as ``optuna.trial.FixedTrial`` does, and refuses those that are out of range.

    Its methods raise an :class:`~coablate_platform.study.errors.InputError` for a parameter that has no value, or whose
    value is outside the range or the choices.

    Args:
        parameters: parameter -> value.
        otherwise: values of parameters that ``parameters`` does not have.

    Attributes:
        params: the values suggested so far, by parameter.
    """

    def __init__(self, parameters: Mapping[str, PlainValue], otherwise: Mapping[str, PlainValue] | None = None) -> None:
        self._parameters = dict(otherwise or {}) | dict(parameters)
        self.params: dict[str, PlainValue] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(number_in_range(name, self._value(name), low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(number_in_range(name, self._value(name), low, high))

    def suggest_categorical(self, name: str, choices: Sequence[PlainValue]) -> PlainValue:
        value = self._value(name)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise InputError(f"{name}: {value!r} is not one of {', '.join(map(repr, choices))}")
        return value

    def _value(self, name: str) -> PlainValue:
        if name not in self._parameters:
            raise InputError(f"{name}: this parameter has no recorded value")
        self.params[name] = self._parameters[name]
        return self._parameters[name]


def number_in_range(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` where it is a number from ``low`` to ``high``, both included.

    Args:
        name: the parameter, for the error message.
        value: anything; a bool is no number.
        low: lower bound.
        high: upper bound.

    Raises:
        InputError: it is no number, or is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}: {value!r} is not a number from {low} to {high}")
    return value
