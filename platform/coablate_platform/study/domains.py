"""What one factor of a search can be: numbers, choices, subsets, placements of sites over two streams.

A domain draws from anything that suggests values as an Optuna trial does, so one declaration serves every sampler, a
grid, and trials written down earlier. Each value has exactly one encoding as named parameters, and what is illegal
cannot be drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coablate_platform.study.errors import InputError

Plain = bool | int | float | str | None
"""A parameter's value as storages and files hold it."""


class Suggester(Protocol):
    """Suggests values by parameter name; an Optuna trial is one."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Plain: ...


class Domain(Protocol):
    """What one factor can be. ``when`` names other factors, and the values with which alone this one exists."""

    @property
    def when(self) -> Mapping[str, Sequence[Any]]: ...

    @property
    def examples(self) -> Sequence[Any]:
        """Values that have the types that a value can have; of a placement the empty one, which any placement holds."""
        ...

    def suggest(self, name: str, trial: Suggester) -> Any:
        """Return a value; the parameters it is drawn by begin with ``name``."""
        ...

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        """Return the parameters with which :meth:`draw` gives ``value``.

        Raises:
            InputError: the domain has no such value.
        """
        ...


class _Range:
    """What the two kinds of numbers have in common."""

    low: float
    high: float
    log: bool
    when: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"range {self.low} to {self.high}: the low end must be below the high end")
        if self.log and self.low <= 0:
            raise InputError(f"range {self.low} to {self.high} is logarithmic: it must lie above 0")

    def __str__(self) -> str:
        scale = ", logarithmic" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}{_under(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Float(_Range):
    """A real number from ``low`` to ``high``, both possible, drawn evenly or evenly on a logarithmic scale.

    Raises:
        InputError: the range is empty, or is logarithmic and reaches 0.
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def examples(self) -> Sequence[float]:
        return (self.low + (self.high - self.low) / math.e,)  # no whole number

    def suggest(self, name: str, trial: Suggester) -> float:
        return trial.suggest_float(name, float(self.low), float(self.high), log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        return {name: float(_within(name, value, self.low, self.high))}


@dataclass(frozen=True, kw_only=True)
class Int(_Range):
    """A whole number from ``low`` to ``high``, both possible, drawn evenly or evenly on a logarithmic scale.

    Raises:
        InputError: the range is empty, or is logarithmic and reaches 0.
    """

    low: int
    high: int
    log: bool = False
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def examples(self) -> Sequence[int]:
        return (self.low, self.high)

    def suggest(self, name: str, trial: Suggester) -> int:
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        return {name: int(_within(name, value, self.low, self.high))}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values, without order. Values that are not plain (a tuple of sites) are given by name.

    Args:
        options: plain values, or name -> any value.
        when: see :class:`Domain`.

    Raises:
        InputError: no options, one twice, or one that is not plain and has no name.
    """

    options: Sequence[Plain] | Mapping[str, Any]
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, option in self._named.items():
            if not isinstance(key, Plain) or type(option).__module__.startswith("ray.tune"):
                raise InputError(f"a Choice's options are plain values, or named ones (name -> value), not {option!r}")
        if not self.options:
            raise InputError("a Choice has no options")
        if len(self._named) < len(self.options):
            raise InputError(f"a Choice has an option twice: {list(self.options)}")

    @property
    def _named(self) -> dict[Any, Any]:
        return dict(self.options) if isinstance(self.options, Mapping) else {option: option for option in self.options}

    @property
    def examples(self) -> Sequence[Any]:
        return tuple(self._named.values())

    def suggest(self, name: str, trial: Suggester) -> Any:
        return self._named[trial.suggest_categorical(name, tuple(self._named))]

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        for key, option in self._named.items():
            if option == value and type(option) is type(value):
                return {name: key}
        raise InputError(f"{name}: {value!r} is none of {', '.join(map(repr, self._named))}")

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self._named))}{_under(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Any of some named things together, in their order: a tuple of ``least`` to ``most`` of them.

    Raises:
        InputError: nothing to choose from, a name twice, or numbers that no subset has.
    """

    of: Sequence[str]
    least: int = 0
    most: int | None = None
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.of or len(set(self.of)) < len(self.of):
            raise InputError(f"a Subset is of different names, got {list(self.of)}")
        if not 0 <= self.least <= self._most <= len(self.of):
            raise InputError(f"a Subset of {len(self.of)} cannot have {self.least} to {self._most} members")

    @property
    def _most(self) -> int:
        return len(self.of) if self.most is None else self.most

    @property
    def is_free(self) -> bool:
        """Whether any subset will do."""
        return self.least == 0 and self._most == len(self.of)

    @property
    def examples(self) -> Sequence[tuple[str, ...]]:
        return (tuple(self.of),)

    def suggest(self, name: str, trial: Suggester) -> tuple[str, ...]:
        drawn: list[str] = []
        for place, member in enumerate(self.of):
            may = len(drawn) < self._most
            must = self.least - len(drawn) > len(self.of) - place - 1
            if _switch(f"{name}.{member}", trial, may=may, must=must):
                drawn.append(member)
        return tuple(drawn)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        if tuple(member for member in self.of if member in value) != tuple(value):
            raise InputError(f"{name}: {value!r} is no subset of {', '.join(self.of)} in this order")
        return _encoded(self, name, {f"{name}.{member}": member in value for member in self.of}, tuple(value))

    def __str__(self) -> str:
        return f"{self.least} to {self._most} of {', '.join(self.of)}{_under(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Sites that join two streams: a tuple in which each is behind the one before it, in both streams.

    For each stage of the second stream, in order, it is drawn whether a site stands there, and then at which stage of
    the first, behind the site before.

    Args:
        site: makes a site from two stages and its other fields, all by keyword.
        streams: field of a site -> that stream's stages in order; two of them.
        fields: further fields of a site, each with its own domain; they exist only where the site does.
        most: sites at most.
        least: sites at least.
        when: see :class:`Domain`.

    Raises:
        InputError: not two streams, numbers of sites that no placement has, or a field whose domain has a condition.
    """

    site: Any
    streams: Mapping[str, Sequence[str]]
    fields: Mapping[str, Domain] = field(default_factory=dict)
    most: int
    least: int = 0
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.streams) != 2:
            raise InputError(f"a Placement joins two streams, got {list(self.streams)}")
        fit = min(len(stages) for stages in self.streams.values())
        if not 0 <= self.least <= self.most <= fit:
            raise InputError(f"a Placement over these streams cannot have {self.least} to {self.most} sites")
        if conditional := [name for name, domain in self.fields.items() if domain.when]:
            raise InputError(
                f"a site's field {conditional[0]!r} cannot have a condition: it exists where the site does"
            )

    @property
    def examples(self) -> Sequence[tuple[Any, ...]]:
        return ((),)

    def suggest(self, name: str, trial: Suggester) -> tuple[Any, ...]:
        (first, ahead), (second, stages) = self.streams.items()
        sites: list[Any] = []
        behind = -1  # index in the first stream of the last site
        for place, stage in enumerate(stages):
            owed = self.least - len(sites)
            may = len(sites) < self.most and behind + 1 < len(ahead)
            here = f"{name}.{stage}"
            if not _switch(here, trial, may=may, must=owed > len(stages) - place - 1):
                continue
            last = len(ahead) - max(owed, 1)  # leaves room for those that must follow
            behind = trial.suggest_int(f"{here}.{first}", behind + 1, last) if behind + 1 < last else last
            others = {key: domain.suggest(f"{here}.{key}", trial) for key, domain in self.fields.items()}
            try:
                sites.append(self.site(**{first: ahead[behind], second: stage}, **others))
            except ValueError as error:
                raise InputError(f"{name}: {error}") from None
        return tuple(sites)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        (first, ahead), (second, stages) = self.streams.items()
        parameters: dict[str, Plain] = {f"{name}.{stage}": False for stage in stages}
        for site in value:
            stage, other = getattr(site, second), getattr(site, first)
            if stage not in stages or other not in ahead:
                raise InputError(f"{name}: site {site} is not over these stages")
            here = f"{name}.{stage}"
            parameters |= {here: True, f"{here}.{first}": list(ahead).index(other)}
            for key, domain in self.fields.items():
                parameters |= domain.encode(f"{here}.{key}", getattr(site, key))
        return _encoded(self, name, parameters, tuple(value))

    def __str__(self) -> str:
        stages = " × ".join(f"{stages[0]} … {stages[-1]}" for stages in self.streams.values())
        fields = "".join(f"; {name}: {domain}" for name, domain in self.fields.items())
        return f"{self.least} to {self.most} sites over {stages}{fields}{_under(self.when)}"


class FixedTrial:
    """Suggests what is known already, and keeps what it was asked for in ``asked``.

    Args:
        parameters: parameter -> value.
        otherwise: what to say of parameters that are not among them.
    """

    def __init__(self, parameters: Mapping[str, Plain], otherwise: Mapping[str, Plain] | None = None) -> None:
        self._parameters = dict(otherwise or {}) | dict(parameters)
        self.asked: dict[str, Plain] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(_within(name, self._known(name), low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(_within(name, self._known(name), low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Plain:
        value = self._known(name)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise InputError(f"{name}: {value!r} is none of {', '.join(map(repr, choices))}")
        return value

    def _known(self, name: str) -> Plain:
        if name not in self._parameters:
            raise InputError(f"{name}: no value is known")
        self.asked[name] = self._parameters[name]
        return self._parameters[name]


def _switch(name: str, trial: Suggester, *, may: bool, must: bool) -> bool:
    """Draw a yes or no where both are possible."""
    return bool(trial.suggest_categorical(name, (False, True))) if may and not must else must


def _encoded(domain: Domain, name: str, parameters: dict[str, Plain], value: Any) -> dict[str, Plain]:
    """Return those of ``parameters`` that drawing ``value`` asks for."""
    known = FixedTrial(parameters)
    if domain.suggest(name, known) != value:
        raise InputError(f"{name}: {value!r} cannot be drawn")
    return known.asked


def _under(when: Mapping[str, Sequence[Any]]) -> str:
    conditions = " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in when.items())
    return f" where {conditions}" if conditions else ""


def _within(name: str, value: Any, low: float, high: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name}: {value!r} is not from {low} to {high}")
    return value
