"""The declared search: a base configuration, what may vary, how to look, and what is confirmed at the end."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from coablate_platform.study.config import RunConfig
from coablate_platform.study.domains import Choice, FixedTrial, Plain, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, load_object
from coablate_platform.study.overrides import apply, check_type, difference, overlap, part
from coablate_platform.study.space import Space
from coablate_platform.study.study import SHARED, Arm, Resources, Study

SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2", "grid")
SAMPLER_KIND = Kind(
    word="sampler",
    unknown="no sampler",
    group="coablate.samplers",
    expected="factory (search, number) -> optuna.samplers.BaseSampler",
    lacking=lambda value: "" if callable(value) else "it cannot be called",
)
Cost = Literal["flops", "parameters", "latency"]
"""What a search may trade accuracy against: the first two come from a model's description, the last is measured."""
COST_LABELS = {"flops": "FLOPs of a clip", "parameters": "parameters", "latency": "latency of a clip, µs"}

SAME_FOR_TRIALS = (*SHARED, "data.validation", "training.selection")
"""Fields that all trials of a search have in common."""
_LEARN_FROM_ENDS = ("gp", "cmaes", "nsga2")
"""Samplers that Optuna lets learn from completed trials alone."""
CONFIRMED = "confirmed"
REFERENCE = "reference"
LEAST_POPULATION = 2
SEARCH_SEED = 0  # of every trial; the confirmation's seeds come after it, so that no lucky one is counted twice


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When a trial is given up.

    Args:
        rule: ``asha`` (asynchronous successive halving), ``hyperband`` (brackets of it that differ in ``grace``),
            ``median`` (worse than half of the others at the same epoch), ``pbt`` (population-based training: the worst
            go on from the weights of better ones, with parameters near theirs), or ``none``.
        grace: epochs that every trial gets; in a population, epochs from one comparison of its members to the next.
        reduction: of those that reach a rung, one in so many goes on; the next rung is so many times later. In a
            population, one in so many is replaced.

    Raises:
        InputError: a number is out of range.
    """

    rule: Literal["none", "asha", "hyperband", "median", "pbt"] = "asha"
    grace: int = 1
    reduction: int = 3

    def __post_init__(self) -> None:
        if self.grace < 1 or self.reduction < 2:
            raise InputError(
                f"stopping: grace is {self.grace} and reduction {self.reduction}, expected at least 1 and at least 2"
            )

    def gives_up_before(self, epochs: int) -> bool:
        """Whether a trial may be given up before it has trained for so many epochs."""
        return self.rule != "none" and self.grace < epochs


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search is one value in one file; ``STUDY`` is the name under which it is found there.

    Trials are judged by the validation split. The base is always the first trial and the reference of the confirmation.

    Args:
        name: short name, used in folders.
        title: one line for people.
        base: the configuration that trials depart from, and the first of them.
        space: what may vary.
        trials: how many configurations are tried; with ``pbt``, the size of the population.
        sampler: ``random``, ``qmc``, ``tpe``, ``gp``, ``cmaes``, ``nsga2``, ``grid``, one that a package has
            registered, or ``module:factory``: called with the search and a trial's number, it returns the sampler that
            suggests this trial. What a sampler learns from is Optuna's study alone, and what it draws follows from the
            search's seed and the number.
        stopping: when a trial is given up.
        costs: what the metric is traded against, ``flops``, ``parameters`` or ``latency`` (of one clip's forward pass
            where the search is driven from, measured when a trial is drawn); with any, the result is a Pareto front.
        points: configurations that are tried before the sampler's own: dotted field -> value.
        confirm: how many of the best are run again at the full budget.
        seeds: seeds of the confirmation.
        seed: study seed; every random stream, and every draw of the sampler, derives from it.
        resources: what each worker holds.

    Raises:
        InputError: the base or a point is outside the space, there is no such sampler, or sampler, stopping rule and
            space do not go together.
    """

    name: str
    title: str
    base: RunConfig
    space: Space
    trials: int = 50
    sampler: str = "tpe"
    stopping: Stopping = Stopping()
    costs: Sequence[Cost] = ()
    points: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    confirm: int = 3
    seeds: int = 3
    seed: int = 0
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("confirm", 1), ("seeds", 1)):
            if getattr(self, name) < least:
                raise InputError(f"search {self.name}: {name} is {getattr(self, name)}, expected at least {least}")
        if self.base.data.validation == "none":
            raise InputError(
                f"search {self.name}: trials are judged by validation, which needs data.validation='subjects'"
            )
        for name in self.space.factors:
            if shared := [path for path in SAME_FOR_TRIALS if overlap(name, path)]:
                raise InputError(f"search {self.name}: {shared[0]} cannot vary, trials could not be compared")
        self._check_types()
        for point in self.initial_points:
            self.config(self.space.decode(point))
        self._check_sampler()
        len(self.enqueued)  # a grid that cannot be walked through says so here

    @functools.cached_property
    def initial_points(self) -> list[dict[str, Plain]]:
        """Parameters of the base, and of the points."""
        try:
            given = [self.space.encode(self.factor_values(self.base))]
        except InputError as error:
            raise InputError(f"search {self.name}: the base is outside the space: {error}") from None
        for point in self.points:
            if unknown := [name for name in point if name not in self.space.factors]:
                raise InputError(f"search {self.name}: a point names {unknown[0]!r}, which does not vary")
        return _once(
            [*given, *(self.space.encode(self.factor_values(apply(self.base, point))) for point in self.points)]
        )

    @functools.cached_property
    def enqueued(self) -> list[dict[str, Plain]]:
        """Parameters that no sampler is asked for: those that are declared, and those of a grid's configurations."""
        return (
            _once([*self.initial_points, *self.space.grid(self.trials)])
            if self.sampler == "grid"
            else self.initial_points
        )

    @functools.cached_property
    def base_parameters(self) -> dict[str, Plain]:
        """Parameters of the base's values, whether or not their factors exist in it.

        A trial from before a factor was added ran with the base's value, also where the base does not meet the
        factor's condition.
        """
        found: dict[str, Plain] = {}
        for name, value in self.factor_values(self.base).items():
            with contextlib.suppress(InputError):  # outside the factor: such trials keep their place, and teach nothing
                found |= self.space.factors[name].encode(name, value)
        return found

    def fixed_trial(self, parameters: Mapping[str, Plain]) -> FixedTrial:
        """Return what a trial drew, to be drawn again; of factors that were added since, it has the base's values."""
        return FixedTrial(parameters, otherwise=self.base_parameters)

    @property
    def size(self) -> int:
        """How many trials there will be; a grid has no more than its configurations."""
        return min(self.trials, len(self.enqueued)) if self.sampler == "grid" else self.trials

    def factor_values(self, config: RunConfig) -> dict[str, Any]:
        """Return the values that a configuration has in this space's factors."""
        return {name: part(config, name) for name in self.space.factors}

    def config(self, changes: Mapping[str, Any]) -> RunConfig:
        """Return the whole configuration of what was drawn."""
        return apply(self.base, changes)

    def override(self, changes: Mapping[str, Any], seeds: int | None = None) -> "Search":
        """Return the search over a changed base, and with another number of confirmation seeds where one is given.

        Raises:
            InputError: a field is unknown, a value of the wrong type, or the field is a factor of this search.
        """
        for path in changes:
            if clash := [name for name in self.space.factors if overlap(name, path)]:
                raise InputError(f"{path}: search {self.name} varies {clash[0]}; only what all trials share can be set")
        return dataclasses.replace(self, base=apply(self.base, changes), seeds=seeds or self.seeds)

    def with_options(self, trials: int | None = None, sampler: str | None = None, grace: int | None = None) -> "Search":
        """Return the search with another number of trials, another sampler, or another grace, where one is given.

        Raises:
            InputError: no such sampler, it does not go together with the space, or no trial is ever given up.
        """
        if sampler is not None and sampler not in SAMPLERS:
            sampler = load_object(sampler, SAMPLER_KIND, SAMPLERS).reference
        if grace is not None and self.stopping.rule == "none":
            raise InputError(f"--grace: search {self.name} gives no trial up, its stopping rule is 'none'")
        return dataclasses.replace(
            self,
            trials=self.trials if trials is None else trials,
            sampler=sampler or self.sampler,
            stopping=self.stopping if grace is None else dataclasses.replace(self.stopping, grace=grace),
        )

    def confirmation(self, best: Mapping[str, RunConfig]) -> Study:
        """Return the study that runs the best configurations and the base again at the full budget.

        Args:
            best: name -> configuration; the base, which is the reference, is none of them.
        """
        arms = [Arm(name=REFERENCE, changes={})]
        arms += [Arm(name=name, changes=difference(config, self.base)) for name, config in best.items()]
        return Study(
            name=f"{self.name}-{CONFIRMED}",
            title=f"{self.title}: the best, confirmed",
            base=self.base,
            arms=tuple(arms),
            reference=REFERENCE,
            seeds=self.seeds,
            first_seed=SEARCH_SEED + 1,
            seed=self.seed,
            resources=self.resources,
        )

    def _check_types(self) -> None:
        for name, domain in self.space.factors.items():
            for value in domain.examples:
                try:
                    check_type(self.base, name, value)
                except InputError as error:
                    raise InputError(f"search {self.name}: factor {name} does not fit its field: {error}") from None

    def _check_sampler(self) -> None:
        if self.sampler not in SAMPLERS:
            load_object(self.sampler, SAMPLER_KIND, SAMPLERS)
        domains = list(self.space.factors.values())
        if self.sampler in ("qmc", "gp", "cmaes") and not self.space.is_fixed:
            raise InputError(
                f"search {self.name}: sampler {self.sampler} needs the same parameters in every trial, and this space "
                "has conditions or a placement; tpe and random can search it"
            )
        if self.sampler == "cmaes" and any(isinstance(domain, Choice | Subset) for domain in domains):
            raise InputError(f"search {self.name}: sampler cmaes needs numbers; tpe and gp can search choices")
        if self.stopping.rule == "pbt":
            self._check_population()
        elif self.sampler in _LEARN_FROM_ENDS and self.stopping.gives_up_before(self.base.training.epochs):
            raise InputError(
                f"search {self.name}: sampler {self.sampler} learns only from trials that came to their end, of which "
                f"stopping {self.stopping.rule!r} leaves few; give none up (stopping 'none', or --grace "
                f"{self.base.training.epochs}), or let tpe draw"
            )
        if self.costs and (self.sampler in ("gp", "cmaes") or self.stopping.rule != "none"):
            raise InputError(
                f"search {self.name}: with costs there is no one best, so that stopping must be 'none' and the sampler "
                f"nsga2, tpe, random, qmc or grid (got {self.stopping.rule} and {self.sampler})"
            )

    def _check_population(self) -> None:
        if self.sampler == "grid":
            raise InputError(f"search {self.name}: a population changes its parameters as it trains, a grid cannot")
        if fixed := [name for name in ("training.optimiser", "training.precision") if name in self.space.factors]:
            raise InputError(f"search {self.name}: a population hands its optimiser's state on, {fixed[0]} cannot vary")
        if self.base.training.selection != "last":
            raise InputError(
                f"search {self.name}: a population's members have no epochs before their own; training.selection must "
                f"be 'last', not {self.base.training.selection!r}"
            )
        if self.trials < LEAST_POPULATION:
            raise InputError(
                f"search {self.name}: a population of {self.trials} has nobody to replace; trials must be at least "
                f"{LEAST_POPULATION}"
            )
        if self.stopping.grace >= self.base.training.epochs:
            raise InputError(
                f"search {self.name}: its population is compared every {self.stopping.grace} epochs and trains for "
                f"{self.base.training.epochs}: it would never be"
            )


def _once(points: Sequence[dict[str, Plain]]) -> list[dict[str, Plain]]:
    return [point for place, point in enumerate(points) if point not in points[:place]]
