"""Which factors of a search matter: the share of the trials' variance that each parameter explains.

fANOVA (Hutter et al., ICML 2014) and PED-ANOVA (Watanabe et al., IJCAI 2023) as Optuna implements them. Trials are
judged where they can be compared: all of them after an epoch that all reached, and those that came to their end.
A parameter that exists only in some trials is judged among these.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.search.samplers import quiet
from coablate_platform.train.events import EpochReport

LEAST_TRIALS = 4
"""Fewer say nothing of variance."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much one parameter explains.

    Args:
        parameter: its name.
        fanova: share of the variance, from 0 to 1.
        ped_anova: share of the divergence between the best tenth and the rest, from 0 to 1.
        trials: how many trials were compared.
    """

    parameter: str
    fanova: float
    ped_anova: float
    trials: int


def importances(
    trials: Sequence[TrialRecord], reports: Mapping[str, Sequence[EpochReport]], metric: str, epoch: int | None
) -> list[Importance]:
    """Return the parameters, most important by fANOVA first; empty where the trials say nothing.

    Args:
        trials: of a search.
        reports: run id -> what it reported.
        metric: name of the report's metric.
        epoch: the epoch after which trials are compared; None compares what completed trials ended with.
    """
    scores = scores_of(trials, reports, metric, epoch)
    judged = [trial for trial in trials if trial.number in scores]
    if len(judged) < LEAST_TRIALS or len(set(scores.values())) < 2:
        return []
    ranges = _ranges(judged)
    common = [name for name in ranges if all(name in trial.params for trial in judged)]
    found = _judge(judged, scores, ranges, common, common)
    for name in ranges:
        having = [trial for trial in judged if name in trial.params]
        if name not in common and len(having) >= LEAST_TRIALS:
            found += _judge(having, scores, ranges, [*common, name], [name])
    return sorted(found, key=lambda importance: -importance.fanova)


def scores_of(
    trials: Sequence[TrialRecord], reports: Mapping[str, Sequence[EpochReport]], metric: str, epoch: int | None
) -> dict[int, float]:
    """Return the metric by trial number, after an epoch, or (None) that completed trials ended with."""
    if epoch is None:
        return {trial.number: trial.values[0] for trial in trials if trial.outcome is TrialOutcome.COMPLETE}
    return {
        trial.number: report.metrics[metric]
        for trial in trials
        for report in reports.get(trial.run_id, ())
        if report.epoch == epoch
    }


def _ranges(trials: Sequence[TrialRecord]) -> dict[str, BaseDistribution]:
    """Return for each parameter what holds all that it was drawn from: ranges may differ from trial to trial."""
    ranges: dict[str, Any] = {}
    for trial in trials:
        for name, text in trial.ranges.items():
            new = json_to_distribution(text)
            ranges[name] = _joined(ranges[name], new) if name in ranges else new
    return {name: drawn for name, drawn in ranges.items() if drawn is not None}


def _joined(one: Any, other: Any) -> BaseDistribution | None:
    """Return what holds both; None where a factor has become one of another kind."""
    if type(one) is not type(other):  # also where it has been of several kinds already
        return None
    if isinstance(one, CategoricalDistribution):
        return CategoricalDistribution(tuple(dict.fromkeys([*one.choices, *other.choices])))
    kind = FloatDistribution if isinstance(one, FloatDistribution) else IntDistribution
    return kind(min(one.low, other.low), max(one.high, other.high), log=one.log and other.log)


def _judge(
    trials: Sequence[TrialRecord],
    scores: Mapping[int, float],
    ranges: Mapping[str, BaseDistribution],
    parameters: Sequence[str],
    wanted: Sequence[str],
) -> list[Importance]:
    """Return the importances of ``wanted`` among ``parameters``, which all the trials have."""
    varied = [name for name in parameters if len({repr(trial.params[name]) for trial in trials}) > 1]
    if not varied or len({scores[trial.number] for trial in trials}) < 2:
        return []
    quiet()
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                value=scores[trial.number],
                params={name: trial.params[name] for name in varied},
                distributions={name: ranges[name] for name in varied},
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fanova = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=varied)
        ped_anova = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=varied)
    return [
        Importance(parameter=name, fanova=float(fanova[name]), ped_anova=float(ped_anova[name]), trials=len(trials))
        for name in varied
        if name in wanted
    ]
