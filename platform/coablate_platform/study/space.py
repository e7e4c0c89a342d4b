"""The search space: factors by the dotted field of the configuration that they set, suggested in a fixed order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coablate_platform.study.domains import Choice, Domain, Float, Int, Placement, Subset
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.overrides import fields_overlap
from coablate_platform.study.suggesters import FixedTrial, PlainValue, Suggester


@dataclass(frozen=True)
class Space:
    """The factors of a search.

    Args:
        factors: dotted field of the configuration -> its domain. Values are suggested in this order, so a condition
            may name only factors that are declared before its own.

    Raises:
        InputError: there are no factors; a domain is not one of Coablate's; a factor's field is within another's; a
            condition names a factor that is not declared before its own, or a value that this factor does not have.
    """

    factors: Mapping[str, Domain]

    def __post_init__(self) -> None:
        if not isinstance(self.factors, Mapping):
            raise InputError(f"Space: factors={self.factors!r}: expected a mapping, dotted field -> domain")
        if not self.factors:
            raise InputError("the search space is empty: it has no factors")
        before: list[str] = []
        for name, domain in self.factors.items():
            if not isinstance(domain, Float | Int | Choice | Subset | Placement):
                kinds = "Float, Int, Choice, Subset or Placement"
                raise InputError(f"factor {name}: expected {kinds}, got {type(domain).__module__}.{domain!r}")
            self._check_condition(name, domain, before)
            for other in before:
                if fields_overlap(name, other):
                    raise InputError(f"factors {other!r} and {name!r} overlap: one is within the other")
            before.append(name)

    def _check_condition(self, name: str, domain: Domain, before: list[str]) -> None:
        """Check that a condition names factors declared before its own, and values that they can have."""
        for other, values in domain.when.items():
            if other in before:
                for value in values:
                    self.factors[other].encode(other, value)
            elif other in self.factors:
                raise InputError(f"factor {name}: its condition names {other!r}, which must be declared before it")
            else:
                hint = did_you_mean(other, before)
                raise InputError(f"factor {name}: its condition names {other!r}, which is not a factor{hint}")

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """Suggest a value for every factor whose condition holds.

        Returns:
            Dotted field -> value.
        """
        values: dict[str, Any] = {}
        for name, domain in self.factors.items():
            if _holds(domain.when, values):
                values[name] = domain.suggest(name, trial)
        return values

    def decode(self, parameters: Mapping[str, PlainValue]) -> dict[str, Any]:
        """Return the values that these parameters encode: dotted field -> value.

        Raises:
            InputError: a parameter is missing, or its value is outside the space.
        """
        return self.suggest(FixedTrial(parameters))

    def can_suggest(self, trial: Suggester) -> bool:
        """Return whether the trial's parameters are all there and within this space."""
        try:
            self.suggest(trial)
        except InputError:
            return False
        return True

    @property
    def is_static(self) -> bool:
        """Whether every trial has the same parameters with the same ranges, as some samplers need."""
        return not any(
            domain.when or isinstance(domain, Placement) or (isinstance(domain, Subset) and not domain.is_unrestricted)
            for domain in self.factors.values()
        )

    def encode(self, changes: Mapping[str, Any]) -> dict[str, PlainValue]:
        """Return the parameters that encode these values.

        Args:
            changes: dotted field -> value. A value whose factor's condition does not hold is left out of the result.

        Raises:
            InputError: a value is outside its factor's domain, or a field is not a factor.
        """
        if unknown := [name for name in changes if name not in self.factors]:
            raise InputError(f"{unknown[0]!r} is not a factor{did_you_mean(unknown[0], self.factors)}")
        values: dict[str, Any] = {}
        parameters: dict[str, PlainValue] = {}
        for name, domain in self.factors.items():
            if name in changes and _holds(domain.when, values):
                values[name] = changes[name]
                parameters |= domain.encode(name, changes[name])
        return parameters

    def grid(self, most: int) -> list[dict[str, PlainValue]]:
        """Return the parameters of every configuration in a finite space.

        Args:
            most: the largest number of configurations that is allowed.

        Raises:
            InputError: a factor is a range of real numbers, or there are more than ``most`` configurations.
        """
        points: list[dict[str, PlainValue]] = []
        for parameters in _all_points(self):
            if len(points) == most:
                raise InputError(f"the space has more than the {most} configurations that the grid may try")
            points.append(parameters)
        return points


def _holds(when: Mapping[str, Sequence[Any]], values: Mapping[str, Any]) -> bool:
    """Return whether a condition holds, given the values of the factors that exist."""
    return all(other in values and values[other] in allowed for other, allowed in when.items())


class _GridTrial:
    """Suggests one point of the grid: for each parameter in turn, the choice whose index is given.

    Args:
        digits: index of the choice for each parameter. Where there are more parameters, zeros are appended to it.

    Attributes:
        params: the values suggested so far, by parameter.
        sizes: number of choices of each parameter.
    """

    def __init__(self, digits: list[int]) -> None:
        self._digits = digits
        self.params: dict[str, PlainValue] = {}
        self.sizes: list[int] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise InputError(f"factor {name} is a range of real numbers, which a grid cannot list; use a Choice")

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        value = low + self._next_digit(high - low + 1)
        self.params[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[PlainValue]) -> PlainValue:
        self.params[name] = choices[self._next_digit(len(choices))]
        return self.params[name]

    def _next_digit(self, size: int) -> int:
        """Return the index of the choice for the next parameter, which has ``size`` choices."""
        place = len(self.sizes)
        if place == len(self._digits):
            self._digits.append(0)
        self.sizes.append(size)
        return self._digits[place]


def _all_points(space: Space) -> Iterator[dict[str, PlainValue]]:
    """Yield the parameters of all configurations by counting up the digits, the last one fastest."""
    digits: list[int] = []
    while True:
        trial = _GridTrial(digits)
        space.suggest(trial)
        yield trial.params
        while digits and digits[-1] + 1 == trial.sizes[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1
