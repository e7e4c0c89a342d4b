"""Checks the settings of a run against each other before it starts, beyond what each field checks alone."""

import torch

from coablate_platform.study.config import Phase, RunConfig
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.model import ClipShape, Retrieves
from coablate_platform.train.whole_batch import is_needed


def check(config: RunConfig, shape: ClipShape) -> None:
    """Check the training and data settings of a run against each other; each setting alone has been checked.

    Args:
        config: the run's configuration.
        shape: the sizes of its clips.

    Raises:
        InputError: two values contradict each other, or the objective lacks the metric.
    """
    training = config.training
    if isinstance(training.selection, int) and training.selection > training.epochs:
        raise InputError(
            f"training.selection={training.selection}: expected 'last', 'best' or an epoch from 1 to {training.epochs}"
        )
    if training.selection == "best" and config.data.validation == "none":
        raise InputError("training.selection='best': needs data.validation='subjects', a split to select by")
    for phase in config.phases:
        _check_batches(phase)
    objective, right, labels = config.model.objective(), torch.eye(shape.classes), torch.arange(shape.classes)
    found = objective.metrics(right, labels)
    retrieved = objective.retrieval_metrics(right, labels, right, labels) if isinstance(objective, Retrieves) else {}
    metrics = found | retrieved
    if training.metric not in metrics:
        raise InputError(f"training.metric: no metric {training.metric!r}{did_you_mean(training.metric, metrics)}")
    if training.selection == "best" and training.metric not in found:
        raise InputError(
            f"training.selection='best': {training.metric!r} is evaluated after the last epoch only; use 'last'"
        )


def _check_batches(phase: Phase) -> None:
    """Check how a phase's batches are cut."""
    part, training = phase.name or "training", phase.training
    if training.batch_size % training.workers:
        raise InputError(
            f"{part}.batch_size={training.batch_size}: cannot be shared evenly by {training.workers} workers"
        )
    if training.accumulate > 1 and is_needed(phase.objective):
        raise InputError(
            f"{part}.accumulate={training.accumulate}: the loss of {type(phase.objective).__name__} needs the whole "
            "batch at once; use 1"
        )
