"""What a search may vary: typed factors over a configuration's dotted fields, drawn one after the other.

A space draws from anything that suggests values as an Optuna trial does, so one declaration serves every sampler, a
grid, and trials written down earlier. Each configuration has exactly one encoding as named parameters, and what is
illegal cannot be drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coablate_platform.study.errors import InputError, did_you_mean

Plain = bool | int | float | str | None
"""A parameter's value as storages and files hold it."""


class Suggest(Protocol):
    """Suggests values by parameter name; an Optuna trial is one."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Any: ...


class Domain(Protocol):
    """What one factor can be. ``when`` names other factors, and the values with which alone this one exists."""

    @property
    def when(self) -> Mapping[str, Sequence[Any]]: ...

    def draw(self, name: str, suggest: Suggest) -> Any:
        """Return a value; the parameters it is drawn by begin with ``name``."""
        ...

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        """Return the parameters with which :meth:`draw` gives ``value``.

        Raises:
            InputError: the domain has no such value.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Float:
    """A real number from ``low`` to ``high``, both possible, drawn evenly or evenly on a logarithmic scale.

    Raises:
        InputError: the range is empty, or is logarithmic and reaches 0.
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range(self)

    def draw(self, name: str, suggest: Suggest) -> float:
        return suggest.suggest_float(name, float(self.low), float(self.high), log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        return {name: float(_within(self, name, value))}


@dataclass(frozen=True, kw_only=True)
class Int:
    """A whole number from ``low`` to ``high``, both possible, drawn evenly or evenly on a logarithmic scale.

    Raises:
        InputError: the range is empty, or is logarithmic and reaches 0.
    """

    low: int
    high: int
    log: bool = False
    when: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range(self)

    def draw(self, name: str, suggest: Suggest) -> int:
        return suggest.suggest_int(name, self.low, self.high, log=self.log)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        return {name: int(_within(self, name, value))}


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

    def draw(self, name: str, suggest: Suggest) -> Any:
        return self._named[suggest.suggest_categorical(name, tuple(self._named))]

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        for key, option in self._named.items():
            if option == value and type(option) is type(value):
                return {name: key}
        raise InputError(f"{name}: {value!r} is none of {', '.join(map(repr, self._named))}")


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

    def draw(self, name: str, suggest: Suggest) -> tuple[str, ...]:
        drawn: list[str] = []
        for place, member in enumerate(self.of):
            may = len(drawn) < self._most
            must = self.least - len(drawn) > len(self.of) - place - 1
            if _switch(f"{name}.{member}", suggest, may=may, must=must):
                drawn.append(member)
        return tuple(drawn)

    def encode(self, name: str, value: Any) -> dict[str, Plain]:
        if tuple(member for member in self.of if member in value) != tuple(value):
            raise InputError(f"{name}: {value!r} is no subset of {', '.join(self.of)} in this order")
        return _encoded(self, name, {f"{name}.{member}": member in value for member in self.of}, tuple(value))


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

    def draw(self, name: str, suggest: Suggest) -> tuple[Any, ...]:
        (first, ahead), (second, stages) = self.streams.items()
        sites: list[Any] = []
        behind = -1  # index in the first stream of the last site
        for place, stage in enumerate(stages):
            owed = self.least - len(sites)
            may = len(sites) < self.most and behind + 1 < len(ahead)
            here = f"{name}.{stage}"
            if not _switch(here, suggest, may=may, must=owed > len(stages) - place - 1):
                continue
            last = len(ahead) - max(owed, 1)  # leaves room for those that must follow
            behind = suggest.suggest_int(f"{here}.{first}", behind + 1, last) if behind + 1 < last else last
            others = {key: domain.draw(f"{here}.{key}", suggest) for key, domain in self.fields.items()}
            sites.append(self.site(**{first: ahead[behind], second: stage}, **others))
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
                if name.startswith(f"{other}.") or other.startswith(f"{name}."):
                    raise InputError(f"factors {other!r} and {name!r} clash: one is within the other")
            before.append(name)

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """Return dotted field -> value for every factor that exists in this draw."""
        drawn: dict[str, Any] = {}
        for name, domain in self.factors.items():
            if all(other in drawn and drawn[other] in values for other, values in domain.when.items()):
                drawn[name] = domain.draw(name, suggest)
        return drawn

    def draw_known(self, parameters: Mapping[str, Plain]) -> dict[str, Any]:
        """Return what these parameters draw.

        Raises:
            InputError: one is missing, or outside what the space allows.
        """
        return self.draw(Known(parameters))

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
        return {
            key: plain
            for name, domain in self.factors.items()
            if name in changes
            and all(other in changes and changes[other] in values for other, values in domain.when.items())
            for key, plain in domain.encode(name, changes[name]).items()
        }

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


class Known:
    """Suggests what is known already, and keeps what it was asked for in ``asked``.

    Args:
        parameters: parameter -> value.
        otherwise: what to say of parameters that are not among them.
    """

    def __init__(self, parameters: Mapping[str, Plain], otherwise: Mapping[str, Plain] | None = None) -> None:
        self._parameters = dict(otherwise or {}) | dict(parameters)
        self.asked: dict[str, Plain] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self._number(name, low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._number(name, low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Any:
        value = self._known(name)
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise InputError(f"{name}: {value!r} is none of {', '.join(map(repr, choices))}")
        return value

    def _number(self, name: str, low: float, high: float) -> Any:
        value = self._known(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InputError(f"{name}: {value!r} is not from {low} to {high}")
        return value

    def _known(self, name: str) -> Plain:
        if name not in self._parameters:
            raise InputError(f"{name}: no value is known")
        self.asked[name] = self._parameters[name]
        return self._parameters[name]


class _Counting:
    """Suggests the value that a number stands for at each question, and keeps how many there were."""

    def __init__(self, digits: list[int]) -> None:
        self._digits = digits
        self.sizes: list[int] = []
        self.asked: dict[str, Plain] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        raise InputError(f"factor {name} is a range of real numbers: a grid cannot try them all, use a Choice")

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self._next(name, range(low, high + 1)))

    def suggest_categorical(self, name: str, choices: Sequence[Plain]) -> Any:
        return self._next(name, choices)

    def _next(self, name: str, values: Sequence[Any]) -> Any:
        place = len(self.sizes)
        if place == len(self._digits):
            self._digits.append(0)
        self.sizes.append(len(values))
        self.asked[name] = values[self._digits[place]]
        return self.asked[name]


def _every(space: Space) -> Iterator[dict[str, Plain]]:
    """Walk through all draws, the last question's answer changing fastest."""
    digits: list[int] = []
    while True:
        suggest = _Counting(digits)
        space.draw(suggest)
        yield suggest.asked
        while digits and digits[-1] + 1 == suggest.sizes[len(digits) - 1]:
            digits.pop()
        if not digits:
            return
        digits[-1] += 1


def _switch(name: str, suggest: Suggest, *, may: bool, must: bool) -> bool:
    """Draw a yes or no where both are possible."""
    return bool(suggest.suggest_categorical(name, (False, True))) if may and not must else must


def _encoded(domain: Domain, name: str, parameters: dict[str, Plain], value: Any) -> dict[str, Plain]:
    """Return those of ``parameters`` that drawing ``value`` asks for."""
    known = Known(parameters)
    if domain.draw(name, known) != value:
        raise InputError(f"{name}: {value!r} cannot be drawn")
    return known.asked


def _check_range(domain: Float | Int) -> None:
    if not domain.low < domain.high:
        raise InputError(f"range {domain.low} to {domain.high}: the low end must be below the high end")
    if domain.log and domain.low <= 0:
        raise InputError(f"range {domain.low} to {domain.high} is logarithmic: it must lie above 0")


def _within(domain: Float | Int, name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not domain.low <= value <= domain.high:
        raise InputError(f"{name}: {value!r} is not from {domain.low} to {domain.high}")
    return value
