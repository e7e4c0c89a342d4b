"""Declares a search: a base configuration, a search space, a sampler, a stopping rule, and what is confirmed."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge

from coablate_platform.study.config import RunConfig
from coablate_platform.study.domains import Choice, Subset
from coablate_platform.study.errors import InputError
from coablate_platform.study.extensions import Kind, load_object
from coablate_platform.study.overrides import apply_changes, check_type, difference, field_value, fields_overlap
from coablate_platform.study.space import Space
from coablate_platform.study.study import SAME_FOR_ARMS, Arm, Resources, Study, check_study_name
from coablate_platform.study.suggesters import FixedTrial, PlainValue
from coablate_platform.study.validation import Count, CountOrZero, Expected, check_fields

SAMPLERS = ("random", "qmc", "tpe", "gp", "cmaes", "nsga2", "grid")
SAMPLER_KIND = Kind(
    label="sampler",
    unknown_prefix="no sampler",
    group="coablate.samplers",
    expected="factory (search, number) -> optuna.samplers.BaseSampler",
    mismatch=lambda value: "" if callable(value) else "it is not callable",
)
Cost = Literal["flops", "parameters", "latency"]
"""What a search may minimise beside its metric. The model's description gives the first two; latency is measured."""
COST_LABELS = {"flops": "FLOPs of a clip", "parameters": "parameters", "latency": "latency of a clip, µs"}

SAME_FOR_TRIALS = (*SAME_FOR_ARMS, "data.validation", "training.selection")
"""Fields that are the same in all trials of a search: otherwise trials could not be compared."""
RUNG_RULES = ("asha", "asha_promotion", "hyperband")
"""Stopping rules that compare trials at the rungs of successive halving."""
_LEARN_AT_RUNGS = ("tpe", "gp")
"""Samplers that are shown the trials of one rung at a time, where the stopping rule has rungs."""
_LEARN_FROM_COMPLETED = ("gp", "cmaes", "nsga2")
"""Optuna's samplers that ignore trials which were stopped early."""
CONFIRMED = "confirmed"
REFERENCE = "reference"
LEAST_POPULATION = 2
GRACE_SHARE = 1 / 13
"""The grace period where none is declared, as a share of the full budget: after fewer epochs trials are ordered by how
fast they rise. Measured on LCBench, see ``docs/performance.md``."""
TRIAL_SEED = 0
"""Run seed of all trials. A confirmation uses later seeds, not the one by which its arms were selected."""


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The stopping rule: when a trial is stopped before its full budget.

    Args:
        rule: ``asha`` (asynchronous successive halving: stops a trial that is not among the best of a rung),
            ``asha_promotion`` (pauses such a trial, and takes it on later if it is among the best by then),
            ``hyperband`` (several brackets of successive halving, which differ in their grace period), ``median``
            (stops a trial whose best value is worse than the median of the others at the same epoch), ``pbt``
            (population-based training: copies of better members, with perturbed parameters, replace the worst
            members), or ``none``.
        grace: grace period: number of epochs before a trial can be stopped; None: a thirteenth of the full budget, and
            at least 1. With ``pbt``, the perturbation interval: the epochs from one comparison of the members to the
            next.
        reduction: reduction factor η: one in η trials continues at a rung, and each rung is at η times the epoch of
            the rung before. With ``pbt``, one in η members is replaced.
        paused: with ``asha_promotion``, how many paused trials keep their checkpoints. Where there are more, those
            with the lowest place in their rung are given up. It bounds the disk that a search needs.

    Raises:
        InputError: a number is out of range.
    """

    rule: Literal["none", "asha", "asha_promotion", "hyperband", "median", "pbt"] = "asha"
    grace: Count | None = None
    reduction: Annotated[int, Ge(2), Expected("a whole number of at least 2")] = 3
    paused: Count = 50

    def __post_init__(self) -> None:
        check_fields(self, "stopping: ")

    def grace_of(self, epochs: int) -> int:
        """Return the grace period in epochs, of a full budget of so many."""
        return max(1, round(epochs * GRACE_SHARE)) if self.grace is None else self.grace

    def may_stop_before(self, epochs: int) -> bool:
        """Return whether the rule can stop a trial before it has trained for this number of epochs."""
        return self.rule != "none" and self.grace_of(epochs) < epochs


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search. A study file holds it under the name ``STUDY``.

    Trials are compared by their metric on the validation split. The base is always the first trial, and the reference
    arm of the confirmation.

    Args:
        name: short name, used in folders.
        title: one line for people.
        base: the configuration that trials change; also the first trial.
        space: the search space.
        trials: number of trials; with ``pbt``, the size of the population.
        sampler: ``random``, ``qmc``, ``tpe``, ``gp``, ``cmaes``, ``nsga2``, ``grid``, the name of a sampler that a
            package has registered, or ``module:factory``. The factory is called with the search and the number of a
            trial, and returns the sampler that suggests this trial. The sampler may learn only from the Optuna study,
            and its random numbers must derive from the search's seed and the trial's number.
        stopping: the stopping rule.
        costs: what is minimised beside the metric: ``flops``, ``parameters`` or ``latency``. Latency is that of one
            clip's forward pass on the driver's machine, measured when a trial is suggested. With costs, the result is
            a Pareto front.
        points: configurations that are enqueued before the sampler's own suggestions: dotted field -> value.
        confirm: number of best trials that the confirmation runs again at the full budget.
        seeds: number of run seeds of the confirmation.
        seed: study seed; every random stream, the sampler's too, derives from it.
        resources: what each worker reserves.

    Raises:
        InputError: a number is out of range, the base or a point is outside the space, there is no such sampler, or the
            sampler, the stopping rule and the space cannot be combined.
    """

    name: str
    title: str
    base: RunConfig
    space: Space
    trials: Count = 50
    sampler: str = "tpe"
    stopping: Stopping = Stopping()
    costs: Sequence[Cost] = ()
    points: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    confirm: Count = 3
    seeds: Count = 3
    seed: CountOrZero = 0
    resources: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        check_fields(self, f"search {self.name}: ")
        check_study_name(self.name)
        if self.base.data.validation == "none":
            raise InputError(
                f"search {self.name}: trials are compared on the validation split, which needs "
                "data.validation='subjects'"
            )
        for name in self.space.factors:
            if shared := [path for path in SAME_FOR_TRIALS if fields_overlap(name, path)]:
                raise InputError(f"search {self.name}: {shared[0]} cannot vary: all trials must share it")
        self._check_types()
        for point in self.initial_points:
            self.config(self.space.decode(point))
        self._check_sampler()
        _ = self.enqueued  # raises where a grid is too large or infinite

    @functools.cached_property
    def initial_points(self) -> list[dict[str, PlainValue]]:
        """Parameters of the base and of ``points``."""
        try:
            base = self.space.encode(self.factor_values(self.base))
        except InputError as error:
            raise InputError(f"search {self.name}: the base is outside the space: {error}") from None
        points = [base]
        for number, point in enumerate(self.points, 1):
            where = f"search {self.name}: point {number}"
            if unknown := [name for name in point if name not in self.space.factors]:
                raise InputError(f"{where} sets {unknown[0]!r}, which is not a factor")
            try:
                parameters = self.space.encode(self.factor_values(apply_changes(self.base, point)))
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            if unused := [name for name in point if name not in self.space.decode(parameters)]:
                raise InputError(f"{where} sets {unused[0]}, which does not exist there: its condition does not hold")
            if parameters in points:
                twin = points.index(parameters)
                raise InputError(f"{where} is the same configuration as {f'point {twin}' if twin else 'the base'}")
            points.append(parameters)
        if len(points) > self.trials:
            raise InputError(
                f"search {self.name}: the base and {len(self.points)} points are {len(points)} trials, expected trials "
                f"of at least that, got {self.trials}"
            )
        return points

    @functools.cached_property
    def enqueued(self) -> list[dict[str, PlainValue]]:
        """Parameters that are tried before the sampler is used: the initial points, and all points of a grid."""
        return (
            _without_repetitions([*self.initial_points, *self.space.grid(self.trials)])
            if self.sampler == "grid"
            else self.initial_points
        )

    @functools.cached_property
    def base_parameters(self) -> dict[str, PlainValue]:
        """Parameters of the base's values, also of factors whose condition does not hold in the base.

        They stand in for a factor that was added to the space after a trial: the trial ran with the base's value. A
        value outside the factor's domain has no parameters; the samplers then cannot learn from such a trial.
        """
        parameters: dict[str, PlainValue] = {}
        for name, value in self.factor_values(self.base).items():
            with contextlib.suppress(InputError):
                parameters |= self.space.factors[name].encode(name, value)
        return parameters

    def fixed_trial(self, parameters: Mapping[str, PlainValue]) -> FixedTrial:
        """Return a trial that suggests recorded parameters again, and the base's for factors that were added since."""
        return FixedTrial(parameters, otherwise=self.base_parameters)

    @property
    def learns_at_rungs(self) -> bool:
        """Whether the sampler learns from trials after the same number of epochs, rung by rung."""
        return self.sampler in _LEARN_AT_RUNGS and self.stopping.rule in RUNG_RULES

    @property
    def trial_count(self) -> int:
        """Number of trials: ``trials``, or the number of a grid's configurations where that is smaller."""
        return min(self.trials, len(self.enqueued)) if self.sampler == "grid" else self.trials

    def factor_values(self, config: RunConfig) -> dict[str, Any]:
        """Return a configuration's values of the factors: dotted field -> value."""
        return {name: field_value(config, name) for name in self.space.factors}

    def config(self, changes: Mapping[str, Any]) -> RunConfig:
        """Return the whole configuration of a trial from its changes of the base."""
        return apply_changes(self.base, changes)

    def override(self, changes: Mapping[str, Any], seeds: int | None = None) -> "Search":
        """Return the search with a changed base.

        Args:
            changes: dotted field -> value.
            seeds: another number of confirmation seeds, or None to keep it.

        Raises:
            InputError: a field is unknown, a value has the wrong type, or a field is a factor of this search.
        """
        for path in changes:
            if clash := [name for name in self.space.factors if fields_overlap(name, path)]:
                raise InputError(
                    f"{path}: search {self.name} varies {clash[0]}; only fields that all trials share can be set"
                )
        return dataclasses.replace(self, base=apply_changes(self.base, changes), seeds=seeds or self.seeds)

    def with_options(self, trials: int | None = None, sampler: str | None = None, grace: int | None = None) -> "Search":
        """Return the search with options overridden; None keeps an option.

        Args:
            trials: number of trials.
            sampler: name of the sampler.
            grace: grace period in epochs.

        Raises:
            InputError: no such sampler, it cannot search the space, or the stopping rule ``none`` has no grace period.
        """
        if sampler is not None and sampler not in SAMPLERS:
            sampler = load_object(sampler, SAMPLER_KIND, SAMPLERS).reference
        if grace is not None and self.stopping.rule == "none":
            raise InputError(f"--grace: search {self.name} has no grace period, since its stopping rule is 'none'")
        return dataclasses.replace(
            self,
            trials=self.trials if trials is None else trials,
            sampler=sampler or self.sampler,
            stopping=self.stopping if grace is None else dataclasses.replace(self.stopping, grace=grace),
        )

    def confirmation(self, best: Mapping[str, RunConfig]) -> Study:
        """Return the confirmation: a study that runs the best trials and the base again, at the full budget.

        Args:
            best: arm name -> configuration of a trial; without the base, which is the reference arm.
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
            first_seed=TRIAL_SEED + 1,
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
        if self.sampler in ("qmc", "gp", "cmaes") and not self.space.is_static:
            raise InputError(
                f"search {self.name}: sampler {self.sampler} needs the same parameters in every trial, but this space "
                "has conditions or a placement; use tpe or random"
            )
        if self.sampler == "cmaes" and any(isinstance(domain, Choice | Subset) for domain in domains):
            raise InputError(f"search {self.name}: sampler cmaes needs numbers, not choices or subsets; use tpe or gp")
        if self.stopping.rule == "pbt":
            self._check_population()
        elif (
            not self.learns_at_rungs
            and self.sampler in _LEARN_FROM_COMPLETED
            and self.stopping.may_stop_before(self.base.epochs)
        ):
            raise InputError(
                f"search {self.name}: sampler {self.sampler} learns only from completed trials, of which stopping rule "
                f"{self.stopping.rule!r} leaves few; use stopping rule 'none', --grace {self.base.epochs}, or "
                "sampler tpe"
            )
        if self.base.pretraining is not None and self.stopping.rule != "none":
            raise InputError(
                f"search {self.name}: stopping rule {self.stopping.rule!r} compares trials by the validation metric, "
                "which pre-training does not have; use stopping rule 'none'"
            )
        if self.costs and (self.sampler in ("gp", "cmaes") or self.stopping.rule != "none"):
            raise InputError(
                f"search {self.name}: with costs there is no single best trial; expected stopping rule 'none' and "
                f"sampler nsga2, tpe, random, qmc or grid, got {self.stopping.rule!r} and {self.sampler}"
            )

    def _check_population(self) -> None:
        if self.sampler == "grid":
            raise InputError(
                f"search {self.name}: population-based training changes parameters during training; a grid cannot"
            )
        if fixed := [name for name in ("training.optimiser", "training.precision") if name in self.space.factors]:
            raise InputError(
                f"search {self.name}: {fixed[0]} cannot vary: members of a population take over the state of the "
                "optimiser and of the loss scaling"
            )
        if self.base.training.selection != "last":
            raise InputError(
                f"search {self.name}: in a population training.selection must be 'last', not "
                f"{self.base.training.selection!r}: a copied member does not have its parent's earlier weights"
            )
        if self.trials < LEAST_POPULATION:
            raise InputError(
                f"search {self.name}: a population has {self.trials} trials, expected at least "
                f"{LEAST_POPULATION}: one replaces another"
            )
        grace = self.stopping.grace_of(self.base.epochs)
        if grace >= self.base.epochs:
            raise InputError(
                f"search {self.name}: the population is compared every {grace} epochs but trains only "
                f"for {self.base.epochs}; stopping.grace must be smaller"
            )


def _without_repetitions(points: Sequence[dict[str, PlainValue]]) -> list[dict[str, PlainValue]]:
    return [point for place, point in enumerate(points) if point not in points[:place]]
