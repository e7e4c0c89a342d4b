"""Parameter importance: the share of the metric's variance over the trials that each parameter explains by itself.

Computed by fANOVA (Hutter et al., ICML 2014) and PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna implements them.
The shares are not made to add up to 1, and each is compared with what chance gives: with few trials, pure noise has a
parameter that seems to explain half of the variance.

Only values that can be compared enter: those of all trials after an epoch that all have reached, or the final values of
completed trials. A parameter that only some trials have is evaluated among these.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.search.samplers import quiet
from coablate_platform.study.suggesters import PlainValue
from coablate_platform.train.events import EpochReport

LEAST_TRIALS = 10
TRIALS_A_PARAMETER = 2.5
"""With fewer trials than these no importance is computed: chance alone then gives a parameter half of the variance."""
LEAST_FOR_PED_ANOVA = 20
"""Its best tenth of fewer trials is one trial."""
PERMUTATIONS = 100
BOOTSTRAPS = 20
_TREES, _FEW_TREES = 64, 4  # of the forest that is shown, and of those that only tell its noise
_DEPTH = 4
"""Depth of the trees: deeper ones follow the noise of some tens of trials."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The importance of one parameter.

    Args:
        parameter: the parameter's name.
        fanova: share of the variance that it explains by itself, from 0 to 1. What the shares leave to 1 are
            interactions and noise.
        interval: the 95 % interval of ``fanova``, over trials drawn again (percentile bootstrap); None for a parameter
            that only some trials have.
        chance: the share that the strongest parameter would reach by chance in one of twenty searches, from the same
            scores in random order; None likewise.
        ped_anova: share of the divergence between the best tenth of the trials and all of them, from 0 to 1; None with
            fewer than :data:`LEAST_FOR_PED_ANOVA` trials.
        trials: how many trials were compared.
    """

    parameter: str
    fanova: float
    interval: tuple[float, float] | None
    chance: float | None
    ped_anova: float | None
    trials: int

    @property
    def told_from_noise(self) -> bool:
        """Whether the parameter is known to explain more than chance would."""
        return self.chance is not None and self.fanova > self.chance


def least_trials(parameters: int) -> int:
    """Return how many trials the importances of so many parameters need."""
    return max(LEAST_TRIALS, math.ceil(TRIALS_A_PARAMETER * parameters))


def importances(
    trials: Sequence[TrialRecord], reports: Mapping[str, Sequence[EpochReport]], metric: str, epoch: int | None
) -> list[Importance]:
    """Return the importance of each parameter, highest fANOVA first; empty if the trials are too few or too alike.

    Args:
        trials: the trials of a search.
        reports: run id -> its reports.
        metric: name of the metric in the reports, such as ``validation/accuracy``.
        epoch: compare the metric of all trials after this epoch; None compares the final values of completed trials.
    """
    scores = scores_of(trials, reports, metric, epoch)
    scored = [trial for trial in trials if trial.number in scores]
    ranges = _ranges(scored)
    common = [name for name in ranges if all(name in trial.params for trial in scored)]
    results = _evaluate(scored, scores, ranges, common)
    if results:
        results = _with_noise(results, _Points(scored, scores, {i.parameter: ranges[i.parameter] for i in results}))
    for name in ranges:
        if name not in common:
            having = [trial for trial in scored if name in trial.params]
            results += [i for i in _evaluate(having, scores, ranges, [*common, name]) if i.parameter == name]
    return sorted(results, key=lambda importance: -importance.fanova)


def scores_of(
    trials: Sequence[TrialRecord], reports: Mapping[str, Sequence[EpochReport]], metric: str, epoch: int | None
) -> dict[int, float]:
    """Return trial number -> metric: of all trials after an epoch, or (None) the final values of completed ones."""
    if epoch is None:
        return {trial.number: trial.values[0] for trial in trials if trial.outcome is TrialOutcome.COMPLETE}
    return {
        trial.number: report.metrics[metric]
        for trial in trials
        for report in reports.get(trial.run_id, ())
        if report.epoch == epoch
    }


def _ranges(trials: Sequence[TrialRecord]) -> dict[str, BaseDistribution]:
    """Return parameter -> a distribution that covers its ranges in all trials; they differ if the space has changed.

    A parameter whose kind has changed is left out.
    """
    ranges: dict[str, BaseDistribution | None] = {}
    for trial in trials:
        for name, text in trial.ranges.items():
            new = json_to_distribution(text)
            ranges[name] = _union(ranges[name], new) if name in ranges else new
    return {name: distribution for name, distribution in ranges.items() if distribution is not None}


def _union(one: BaseDistribution | None, other: BaseDistribution) -> BaseDistribution | None:
    """Return a distribution that covers both; None if they are of different kinds, or ``one`` is None already."""
    if isinstance(one, CategoricalDistribution) and isinstance(other, CategoricalDistribution):
        return CategoricalDistribution(tuple(dict.fromkeys([*one.choices, *other.choices])))
    if isinstance(one, FloatDistribution) and isinstance(other, FloatDistribution):
        return FloatDistribution(min(one.low, other.low), max(one.high, other.high), log=one.log and other.log)
    if isinstance(one, IntDistribution) and isinstance(other, IntDistribution):
        return IntDistribution(min(one.low, other.low), max(one.high, other.high), log=one.log and other.log)
    return None


def _evaluate(
    trials: Sequence[TrialRecord],
    scores: Mapping[int, float],
    ranges: Mapping[str, BaseDistribution],
    parameters: Sequence[str],
) -> list[Importance]:
    """Return the importances of parameters that every trial has; empty if the trials are too few or too alike."""
    varied = [name for name in parameters if len({repr(trial.params[name]) for trial in trials}) > 1]
    different = len({scores[trial.number] for trial in trials})
    if not varied or len(trials) < least_trials(len(varied)) or different < 2:
        return []
    points = _Points(trials, scores, {name: ranges[name] for name in varied})
    fanova = points.fanova()
    ped_anova = points.ped_anova() if len(trials) >= LEAST_FOR_PED_ANOVA else {}
    return [
        Importance(
            parameter=name,
            fanova=fanova[name],
            interval=None,
            chance=None,
            ped_anova=ped_anova.get(name),
            trials=len(trials),
        )
        for name in varied
    ]


def _with_noise(results: Sequence[Importance], points: "_Points") -> list[Importance]:
    """Return importances with their intervals, and with what chance gives."""
    random, rows = np.random.default_rng(0), np.arange(results[0].trials)
    by_chance = [points.fanova(scored_as=random.permutation(rows), trees=_FEW_TREES) for _ in range(PERMUTATIONS)]
    chance = float(np.quantile([max(shares.values()) for shares in by_chance], 0.95))
    again = [points.fanova(rows=random.choice(rows, len(rows)), trees=_FEW_TREES) for _ in range(BOOTSTRAPS)]

    def interval(name: str) -> tuple[float, float]:
        low, high = np.quantile([shares[name] for shares in again], [0.025, 0.975])
        return float(low), float(high)

    return [replace(result, interval=interval(result.parameter), chance=chance) for result in results]


class _Points:
    """Trials as points of Optuna's evaluators. Parameters on a log scale are their logarithms.

    Optuna's fANOVA integrates over the values as they are, so that most of a logarithmic range would hardly count.
    """

    def __init__(
        self, trials: Sequence[TrialRecord], scores: Mapping[int, float], ranges: Mapping[str, BaseDistribution]
    ) -> None:
        self._names = list(ranges)
        self._values = [scores[trial.number] for trial in trials]
        self._ranges = {name: _on_linear_scale(distribution) for name, distribution in ranges.items()}
        self._params = [
            {name: _coordinate(trial.params[name], distribution) for name, distribution in ranges.items()}
            for trial in trials
        ]
        quiet()

    def fanova(
        self,
        rows: Iterable[int] | None = None,
        scored_as: Sequence[int] | NDArray[np.int64] | None = None,
        trees: int = _TREES,
    ) -> dict[str, float]:
        """Return the share of the variance that each parameter explains by itself.

        Args:
            rows: the trials to take, with repetitions; None: all of them.
            scored_as: for each trial, the trial whose score it is given; None: its own.
            trees: number of trees of the random forest.
        """
        evaluator = FanovaImportanceEvaluator(seed=0, n_trees=trees, max_depth=_DEPTH)
        return self._importances(evaluator, rows, scored_as)

    def ped_anova(self) -> dict[str, float]:
        """Return each parameter's share of the divergence between the best tenth of the trials and all of them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            evaluator = PedAnovaImportanceEvaluator()
        found = self._importances(evaluator)
        total = sum(found.values()) or 1.0
        return {name: value / total for name, value in found.items()}

    def _importances(
        self,
        evaluator: BaseImportanceEvaluator,
        rows: Iterable[int] | None = None,
        scored_as: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> dict[str, float]:
        everyone = range(len(self._values))
        chosen, scored_as = list(everyone if rows is None else rows), everyone if scored_as is None else scored_as
        values = [self._values[scored_as[row]] for row in chosen]
        if len(set(values)) < 2:
            return dict.fromkeys(self._names, 0.0)
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            [
                optuna.trial.create_trial(value=value, params=self._params[row], distributions=self._ranges)
                for row, value in zip(chosen, values, strict=True)
            ]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            found = get_param_importances(study, evaluator=evaluator, params=self._names, normalize=False)
        return {name: float(value) for name, value in found.items()}


def _on_linear_scale(distribution: BaseDistribution) -> BaseDistribution:
    """Return the distribution of :func:`_coordinate`."""
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
        return FloatDistribution(math.log10(distribution.low), math.log10(distribution.high))
    return distribution


def _coordinate(value: PlainValue, distribution: BaseDistribution) -> PlainValue:
    """Return a parameter's value, or its logarithm where its distribution is logarithmic."""
    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
        assert isinstance(value, int | float)  # a numeric range gives numbers only
        return math.log10(value)
    return value
