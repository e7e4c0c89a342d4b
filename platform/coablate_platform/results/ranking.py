"""Ranks the trials of a search, and finds the epochs at which they are compared."""

import math
from collections.abc import Sequence

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.search.rungs import halving_epochs
from coablate_platform.study.identity import digest
from coablate_platform.study.plan import SearchPlan
from coablate_platform.study.search import RUNG_RULES


def best(costs: Sequence[str], trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Return the best completed trials, at most one for each configuration, best metric first.

    A validation split of some hundred clips cannot tell many trials apart. Equal ones are ordered by their validation
    loss, then by the mean of their metric over the last epochs, then by number.

    Args:
        costs: names of the search's costs; if there are any, only trials on the Pareto front are returned.
        trials: all trials of the search.
        most: how many to return at most.
    """
    completed = [trial for trial in trials if trial.outcome is TrialOutcome.COMPLETE]
    if costs:
        completed = [trial for trial in completed if not any(_dominates(other, trial) for other in completed)]
    ranked = sorted(completed, key=_order)
    best_of: dict[str, TrialRecord] = {}  # digest of the configuration -> its best trial
    for trial in ranked:
        best_of.setdefault(digest(trial.config), trial)
    return list(best_of.values())[:most]


def _order(trial: TrialRecord) -> tuple[float, float, float, int]:
    """Return what trials are sorted by, the best first; of equals, one without a validation loss comes last."""
    loss = math.inf if trial.loss is None else trial.loss
    return (-trial.values[0], loss, -(trial.values[0] if trial.late is None else trial.late), trial.number)


def tied(costs: Sequence[str], trials: Sequence[TrialRecord]) -> int:
    """Return how many configurations have the best metric of the search; of a Pareto front, 0."""
    found = [] if costs else best(costs, trials, len(trials))
    return sum(trial.values[0] == found[0].values[0] for trial in found)


def common_epoch(trials: Sequence[TrialRecord]) -> int:
    """Return the last epoch that all completed and pruned trials have reached; 0 if there are none."""
    return min((trial.epoch for trial in trials if trial.values), default=0)


def rung_epochs(plan: SearchPlan) -> list[int]:
    """Return the epochs after which the stopping rule compares trials: rungs, or the renewals of a population.

    The last epoch is none of them. Empty for the other rules, which have no such epochs.
    """
    grace = plan.stopping.grace_of(plan.epochs)
    if plan.stopping.rule == "pbt":
        return list(range(grace, plan.epochs, grace))
    if plan.stopping.rule not in RUNG_RULES:
        return []
    return halving_epochs(plan.stopping, plan.epochs)[:-1]


def _dominates(other: TrialRecord, trial: TrialRecord) -> bool:
    """Return whether ``other`` is no worse than ``trial`` in the metric and every cost, and better in one of them."""
    pairs = list(zip(_gains(other), _gains(trial), strict=True))
    return all(one >= two for one, two in pairs) and any(one > two for one, two in pairs)


def _gains(trial: TrialRecord) -> tuple[float, ...]:
    """Return the metric and the negated costs: more is better in each."""
    return (trial.values[0], *(-cost for cost in trial.values[1:]))
