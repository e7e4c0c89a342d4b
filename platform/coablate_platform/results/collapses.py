"""Finds collapsed runs: completed ones that a mean and a spread over seeds would hide."""

import math
import statistics
from collections.abc import Mapping

from coablate_platform.journal.journal import RunRecord
from coablate_platform.results.statistics import share_variance

LEAST_FALL = 0.05
"""A fall by less is no collapse, however many clips there are."""
_DEVIATIONS = 6.0


def collapsed_seeds(records: Mapping[int, RunRecord], metric: str, clips: Mapping[str, int]) -> list[int]:
    """Return the seeds whose runs have collapsed.

    A run has collapsed if its test metric falls short of the arm's best seed, or if the tested epoch's validation
    metric falls short of its own best epoch, by more than 5 points and more than six standard deviations of a share of
    so many clips.

    Args:
        records: seed -> record, of an arm's completed runs.
        metric: name of the metric, a share of the clips.
        clips: split -> number of clips; without ``validation``, only the test metric is looked at.
    """
    if not records:
        return []
    values = {seed: record.metrics[metric] for seed, record in records.items()}
    allowed = _largest_fall(statistics.fmean(values.values()), clips["test"])
    best = max(values.values())
    split, validation = f"validation/{metric}", clips.get("validation", 0)
    return [
        seed
        for seed, record in sorted(records.items())
        if best - values[seed] > allowed or _falls_in_training(record, split, validation)
    ]


def _falls_in_training(record: RunRecord, metric: str, clips: int) -> bool:
    """Return whether a run's tested epoch lies below its own best one on the validation split."""
    values = {report.epoch: report.metrics[metric] for report in record.epochs if metric in report.metrics}
    if not clips or record.tested_epoch not in values:
        return False
    best = max(values.values())
    return best - values[record.tested_epoch] > _largest_fall(best, clips)


def _largest_fall(share: float, clips: int) -> float:
    return max(LEAST_FALL, _DEVIATIONS * math.sqrt(share_variance(share, clips)))
