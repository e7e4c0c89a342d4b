"""The domains of a search space's factors: numbers, choices, subsets, placements of fusion sites.

A domain suggests values from any :class:`~coablate_platform.study.suggesters.Suggester`. One declaration therefore
serves every sampler, a grid and recorded trials. Each value has exactly one encoding as named parameters, and only
valid values can be suggested.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from coablate_platform.study.errors import InputError
from coablate_platform.study.suggesters import FixedTrial, PlainValue, Suggester, number_in_range
from coablate_platform.study.validation import Values, check_fields


@runtime_checkable
class Domain(Protocol):
    """The values that one factor can take.

    ``when`` is the factor's condition, other factor -> values: the factor exists only in trials in which each of those
    factors exists and has one of those values.
    """

    @property
    def when(self) -> Mapping[str, Sequence[Any]]: ...

    @property
    def examples(self) -> Sequence[Any]:
        """Values against which the type of the configuration's field is checked; a placement's example has no sites."""
        ...

    def suggest(self, name: str, trial: Suggester) -> Any:
        """Return a value of factor ``name``; the names of the parameters that are suggested begin with ``name``."""
        ...

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        """Return the parameters from which :meth:`suggest` makes ``value``.

        Raises:
            InputError: the domain has no such value.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class _Range:
    """What Float and Int have in common."""

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, f"{type(self).__name__}: ")
        if not self.low < self.high:
            raise InputError(f"range {self.low} to {self.high}: the low end must be below the high end")
        if self.log and self.low <= 0:
            raise InputError(f"range {self.low} to {self.high}: a logarithmic range must lie above 0")

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}{_condition_text(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Float(_Range):
    """A real number from ``low`` to ``high``, both included, on a linear or a logarithmic (``log``) scale.

    Raises:
        InputError: the range is empty, or is logarithmic and does not lie above 0.
    """

    @property
    def examples(self) -> Sequence[float]:
        return (self.low + (self.high - self.low) / math.e,)  # not a whole number

    def suggest(self, name: str, trial: Suggester) -> float:
        return trial.suggest_float(name, float(self.low), float(self.high), log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        return {name: float(number_in_range(name, value, self.low, self.high))}


@dataclass(frozen=True, kw_only=True)
class Int(_Range):
    """A whole number from ``low`` to ``high``, both included, on a linear or a logarithmic (``log``) scale.

    Raises:
        InputError: the range is empty, or is logarithmic and does not lie above 0.
    """

    low: int
    high: int

    @property
    def examples(self) -> Sequence[int]:
        return (self.low, self.high)

    def suggest(self, name: str, trial: Suggester) -> int:
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        return {name: int(number_in_range(name, value, self.low, self.high))}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several unordered values, as a categorical parameter.

    Args:
        options: plain values, or name -> value where the values are not plain, such as tuples of sites. The parameter
            then holds the name.
        when: see :class:`Domain`.

    Raises:
        InputError: no options, an option twice, or a value that is not plain and has no name.
    """

    options: Sequence[PlainValue] | Mapping[str, Any]
    when: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not isinstance(self.options, Sequence | Mapping):
            raise InputError(f"a Choice's options={self.options!r}: expected a list of values")
        for key, option in self._by_key.items():
            if not isinstance(key, PlainValue) or type(option).__module__.startswith("ray.tune"):
                raise InputError(
                    "a Choice's options must be plain values (bool, int, float, str, None), or named ones "
                    f"(name -> value), got {option!r}"
                )
        if not self.options:
            raise InputError("a Choice has no options")
        if len(self._by_key) < len(self.options):
            raise InputError(f"a Choice has an option twice: {list(self.options)}")
        check_fields(self, "Choice: ")

    @property
    def _by_key(self) -> dict[PlainValue, Any]:
        """The parameter's values, with the values of the factor that they stand for."""
        pairs = self.options.items() if isinstance(self.options, Mapping) else ((key, key) for key in self.options)
        return dict(pairs)

    @property
    def examples(self) -> Sequence[Any]:
        return tuple(self._by_key.values())

    def suggest(self, name: str, trial: Suggester) -> Any:
        return self._by_key[trial.suggest_categorical(name, tuple(self._by_key))]

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        for key, option in self._by_key.items():
            if option == value and type(option) is type(value):
                return {name: key}
        raise InputError(f"{name}: {value!r} is not one of {', '.join(map(repr, self._by_key))}")

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self._by_key))}{_condition_text(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A subset of several names, as a tuple in the order of ``of``. Each member is one boolean parameter.

    Args:
        of: the names to choose from.
        least: smallest number of members.
        most: largest number of members; None: all of them.
        when: see :class:`Domain`.

    Raises:
        InputError: nothing to choose from, a name twice, or numbers of members that no subset has.
    """

    of: Sequence[str]
    least: int = 0
    most: int | None = None
    when: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "Subset: ")
        if not self.of or len(set(self.of)) < len(self.of):
            raise InputError(f"a Subset needs different names to choose from, got {list(self.of)}")
        if not 0 <= self.least <= self._most <= len(self.of):
            raise InputError(f"a Subset of {len(self.of)} names cannot have {self.least} to {self._most} members")

    @property
    def _most(self) -> int:
        return len(self.of) if self.most is None else self.most

    @property
    def is_unrestricted(self) -> bool:
        """Whether every subset of ``of`` is allowed, from the empty one to all names."""
        return self.least == 0 and self._most == len(self.of)

    @property
    def examples(self) -> Sequence[tuple[str, ...]]:
        return (tuple(self.of),)

    def suggest(self, name: str, trial: Suggester) -> tuple[str, ...]:
        members: list[str] = []
        for index, member in enumerate(self.of):
            left = len(self.of) - index - 1
            possible = len(members) < self._most
            required = self.least - len(members) > left
            if _suggest_bool(f"{name}.{member}", trial, possible=possible, required=required):
                members.append(member)
        return tuple(members)

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        if tuple(member for member in self.of if member in value) != tuple(value):
            raise InputError(f"{name}: {value!r} is not a subset of {', '.join(self.of)} in this order")
        return _used_parameters(self, name, {f"{name}.{member}": member in value for member in self.of}, tuple(value))

    def __str__(self) -> str:
        return f"{self.least} to {self._most} of {', '.join(self.of)}{_condition_text(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A tuple of sites, each of which joins a stage of one stream to a stage of another.

    Along the tuple, the stages move forward in both streams. The parameters are, for each stage of the second stream in
    order: a boolean, whether a site is there; and where it is, the index of its stage in the first stream, above the
    index of the site before.

    Args:
        site: makes a site from its two stages and its other fields, all passed by keyword.
        streams: two streams: field of the site -> that stream's stages in order.
        fields: further fields of a site, each with its domain; their parameters exist only where the site does.
        most: largest number of sites.
        least: smallest number of sites.
        when: see :class:`Domain`.

    Raises:
        InputError: not two streams, numbers of sites that no placement has, or a field whose domain has a condition.
    """

    site: Callable[..., object]
    streams: Mapping[str, Sequence[str]]
    fields: Mapping[str, Domain] = field(default_factory=dict)
    most: int
    least: int = 0
    when: Mapping[str, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "Placement: ")
        if len(self.streams) != 2:
            raise InputError(f"a Placement joins two streams, got {list(self.streams)}")
        possible = min(len(stages) for stages in self.streams.values())
        if not 0 <= self.least <= self.most <= possible:
            raise InputError(
                f"a Placement over these streams cannot have {self.least} to {self.most} sites; expected numbers from "
                f"0 to {possible}"
            )
        if conditional := [name for name, domain in self.fields.items() if domain.when]:
            raise InputError(
                f"a Placement's field {conditional[0]!r} cannot have a condition: a site always has all its fields"
            )

    @property
    def examples(self) -> Sequence[tuple[object, ...]]:
        return ((),)

    def suggest(self, name: str, trial: Suggester) -> tuple[object, ...]:
        (first, first_stages), (second, second_stages) = self.streams.items()
        sites: list[object] = []
        position = -1  # the last site's index in the first stream
        for index, stage in enumerate(second_stages):
            missing = self.least - len(sites)
            left = len(second_stages) - index - 1
            parameter = f"{name}.{stage}"
            possible = len(sites) < self.most and position + 1 < len(first_stages)
            if not _suggest_bool(parameter, trial, possible=possible, required=missing > left):
                continue
            lowest, highest = position + 1, len(first_stages) - max(missing, 1)  # leaves room for the missing sites
            position = trial.suggest_int(f"{parameter}.{first}", lowest, highest) if lowest < highest else highest
            fields = {key: domain.suggest(f"{parameter}.{key}", trial) for key, domain in self.fields.items()}
            try:
                sites.append(self.site(**{first: first_stages[position], second: stage}, **fields))
            except ValueError as error:
                raise InputError(f"{name}: {error}") from None
        return tuple(sites)

    def encode(self, name: str, value: Any) -> dict[str, PlainValue]:
        (first, first_stages), (second, second_stages) = self.streams.items()
        parameters: dict[str, PlainValue] = {f"{name}.{stage}": False for stage in second_stages}
        for site in value:
            first_stage, second_stage = getattr(site, first), getattr(site, second)
            if first_stage not in first_stages or second_stage not in second_stages:
                raise InputError(
                    f"{name}: site {site}: expected {first} to be one of {', '.join(first_stages)}, and {second} to be "
                    f"one of {', '.join(second_stages)}"
                )
            parameter = f"{name}.{second_stage}"
            parameters |= {parameter: True, f"{parameter}.{first}": list(first_stages).index(first_stage)}
            for key, domain in self.fields.items():
                parameters |= domain.encode(f"{parameter}.{key}", getattr(site, key))
        return _used_parameters(self, name, parameters, tuple(value))

    def __str__(self) -> str:
        stages = " × ".join(f"{stages[0]} … {stages[-1]}" for stages in self.streams.values())
        fields = "".join(f"; {name}: {domain}" for name, domain in self.fields.items())
        return f"{self.least} to {self.most} sites over {stages}{fields}{_condition_text(self.when)}"


def _suggest_bool(name: str, trial: Suggester, *, possible: bool, required: bool) -> bool:
    """Suggest a boolean parameter; where only one value is valid, return it and suggest nothing."""
    if possible and not required:
        return bool(trial.suggest_categorical(name, (False, True)))
    return required


def _used_parameters(
    domain: Domain, name: str, parameters: dict[str, PlainValue], value: object
) -> dict[str, PlainValue]:
    """Return those of ``parameters`` that the domain uses to suggest ``value``.

    Raises:
        InputError: the domain suggests another value from them.
    """
    trial = FixedTrial(parameters)
    if domain.suggest(name, trial) != value:
        raise InputError(f"{name}: {value!r} is outside the domain: {domain}")
    return trial.params


def _condition_text(when: Mapping[str, Sequence[Any]]) -> str:
    conditions = " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in when.items())
    return f" where {conditions}" if conditions else ""
