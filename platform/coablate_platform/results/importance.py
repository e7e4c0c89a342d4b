"""Parameter importance: the share of the metric's variance over the trials that each parameter explains.

Computed by fANOVA (Hutter et al., ICML 2014) and PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna implements them.
Only values that can be compared enter: those of all trials after an epoch that all have reached, or the final values of
completed trials. A parameter that only some trials have is evaluated among these.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
"""With fewer trials no importance is computed."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The importance of one parameter.

    Args:
        parameter: the parameter's name.
        fanova: share of the variance that it explains, from 0 to 1.
        ped_anova: share of the divergence between the best tenth of the trials and all of them, from 0 to 1.
        trials: how many trials were compared.
    """

    parameter: str
    fanova: float
    ped_anova: float
    trials: int


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
    if len(scored) < LEAST_TRIALS or len(set(scores.values())) < 2:
        return []
    ranges = _ranges(scored)
    common = [name for name in ranges if all(name in trial.params for trial in scored)]
    results = _evaluate(scored, scores, ranges, common, common)
    for name in ranges:
        having = [trial for trial in scored if name in trial.params]
        if name not in common and len(having) >= LEAST_TRIALS:
            results += _evaluate(having, scores, ranges, [*common, name], [name])
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
    wanted: Sequence[str],
) -> list[Importance]:
    """Return the importances of ``wanted``, computed together with all ``parameters``, which every trial has."""
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
