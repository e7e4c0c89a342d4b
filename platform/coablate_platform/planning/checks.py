"""Checks the settings of a run against each other before it starts, beyond what each field checks alone."""

import torch

from coablate_platform.study.config import ClipShape, RunConfig
from coablate_platform.study.errors import InputError, did_you_mean


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
    if training.batch_size % training.workers:
        raise InputError(
            f"training.batch_size={training.batch_size}: cannot be shared evenly by {training.workers} workers"
        )
    metrics = config.model.objective().metrics(torch.eye(shape.classes), torch.arange(shape.classes))
    if training.metric not in metrics:
        raise InputError(f"training.metric: no metric {training.metric!r}{did_you_mean(training.metric, metrics)}")
