"""Ranks a search's trials: the best of them, and where all can be compared."""

from collections.abc import Sequence

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.study.identity import digest


def best(costs: Sequence[str], trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Return the best trials that came to their end, each configuration once.

    Args:
        costs: what the metric is traded against.
        trials: all of them.
        most: how many to return; with costs, of the Pareto front, by the metric.
    """
    ended = [trial for trial in trials if trial.outcome is TrialOutcome.COMPLETE]
    if costs:
        ended = [trial for trial in ended if not any(_beats(other, trial) for other in ended)]
    ranked = sorted(ended, key=lambda trial: (-trial.values[0], trial.number))
    best_of: dict[str, TrialRecord] = {}
    for trial in ranked:
        best_of.setdefault(digest(trial.config), trial)
    return list(best_of.values())[:most]


def common_epoch(trials: Sequence[TrialRecord]) -> int:
    """Return the last epoch that all trials reached which did not fail: there they can be compared; 0 without any."""
    return min((trial.epoch for trial in trials if trial.values), default=0)


def _beats(other: TrialRecord, trial: TrialRecord) -> bool:
    """Whether ``other`` is nowhere worse and somewhere better; costs count against it."""
    pairs = list(zip(_gains(other), _gains(trial), strict=True))
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def _gains(trial: TrialRecord) -> tuple[float, ...]:
    return (trial.values[0], *(-cost for cost in trial.values[1:]))
