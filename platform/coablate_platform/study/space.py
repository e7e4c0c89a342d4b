"""What a search may vary: factors by the dotted field of the configuration, drawn one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coablate_platform.study.domains import Choice, Domain, FixedTrial, Float, Int, Placement, Plain, Subset, Suggester
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.overrides import overlap


@dataclass(frozen=True)
class Space:
    """Factors by the dotted field that they vary, in the order in which they are drawn.

    Raises:
        InputError: no factors, one that is no domain of this module, one within another, or a condition on what is not
            declared before it.
    """

    factors: Mapping[str, Domain]

    def __post_init__(self) -> None:
        if not self.factors:
            raise InputError("a search's space is empty: it has no factors")
        before: list[str] = []
        for name, domain in self.factors.items():
            if not isinstance(domain, Float | Int | Choice | Subset | Placement):
                kinds = "Float, Int, Choice, Subset or Placement"
                raise InputError(f"factor {name}: expected {kinds}, got {type(domain).__module__}.{domain!r}")
            for other in domain.when:
                if other not in before:
                    hint = "is declared after it" if other in self.factors else f"is none{did_you_mean(other, before)}"
                    raise InputError(f"factor {name}: its condition is on {other!r}, which {hint}")
                for value in domain.when[other]:
                    self.factors[other].encode(other, value)
            for other in before:
                if overlap(name, other):
                    raise InputError(f"factors {other!r} and {name!r} clash: one is within the other")
            before.append(name)

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """Return dotted field -> value for every factor that exists in this draw."""
        drawn: dict[str, Any] = {}
        for name, domain in self.factors.items():
            if all(other in drawn and drawn[other] in values for other, values in domain.when.items()):
                drawn[name] = domain.suggest(name, trial)
        return drawn

    def decode(self, parameters: Mapping[str, Plain]) -> dict[str, Any]:
        """Return what these parameters draw.

        Raises:
            InputError: one is missing, or outside what the space allows.
        """
        return self.suggest(FixedTrial(parameters))

    def can_suggest(self, trial: Suggester) -> bool:
        """Return whether a trial's parameters make a configuration of this space."""
        try:
            self.suggest(trial)
        except InputError:
            return False
        return True

    @property
    def is_fixed(self) -> bool:
        """Whether every draw has the same parameters with the same ranges."""
        return not any(
            domain.when or isinstance(domain, Placement) or (isinstance(domain, Subset) and not domain.is_free)
            for domain in self.factors.values()
        )

    def encode(self, changes: Mapping[str, Any]) -> dict[str, Plain]:
        """Return the parameters that draw these values; ``changes`` may leave out factors that do not exist with them.

        Raises:
            InputError: a value is outside its factor, or something is no factor.
        """
        if unknown := [name for name in changes if name not in self.factors]:
            raise InputError(f"{unknown[0]!r} is no factor{did_you_mean(unknown[0], self.factors)}")
        exist: set[str] = set()
        found: dict[str, Plain] = {}
        for name, domain in self.factors.items():
            met = all(other in exist and changes[other] in values for other, values in domain.when.items())
            if name in changes and met:
                exist.add(name)
                found |= domain.encode(name, changes[name])
        return found

    def grid(self, most: int) -> list[dict[str, Plain]]:
        """Return the parameters of every configuration, where there are finitely many.

        Raises:
            InputError: a factor is a range of real numbers, or there are more than ``most``.
        """
        found: list[dict[str, Plain]] = []
        for parameters in _every(self):
            if len(found) == most:
                raise InputError(f"the space has more than the {most} configurations that the grid may try")
            found.append(parameters)
        return found


class _GridTrial:
    """Suggests the value that a digit stands for at each question, and keeps how many values there were.

    Args:
        digits: the choice at each question so far; questions beyond them get a zero.
    """

    def __init__(self, digits: list[int]) -> None:
        self._digits = digits
        self.sizes: list[int] = []
        self.asked: dict[str, Plain] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise InputError(f"factor {name} is a range of real numbers: a grid cannot try them all, use a Choice")

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        value = low + self._digit(high - low + 1)
        self.asked[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        self.asked[name] = choices[self._digit(len(choices))]
        return self.asked[name]

    def _digit(self, size: int) -> int:
        """Return the choice at this question, which has so many values."""
        question = len(self.sizes)
        if question == len(self._digits):
            self._digits.append(0)
        self.sizes.append(size)
        return self._digits[question]


def _every(space: Space) -> Iterator[dict[str, Plain]]:
    """Walk through all draws, the last question's answer changing fastest."""
    digits: list[int] = []
    while True:
        trial = _GridTrial(digits)
        space.suggest(trial)
        yield trial.asked
        while digits and digits[-1] + 1 == trial.sizes[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1
