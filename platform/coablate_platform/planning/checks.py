"""Checks the values of a configuration before a run starts, beyond what its types check."""

from collections.abc import Callable
from operator import attrgetter

import torch

from coablate_platform.study.config import ClipShape, RunConfig
from coablate_platform.study.errors import InputError, did_you_mean

_RANGES: tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...] = (
    (
        "at least 1",
        lambda value: value >= 1,
        (
            *("training.epochs", "training.batch_size", "training.accumulate", "training.workers"),
            *("data.frames", "data.size", "data.skeleton_frames"),
        ),
    ),
    (
        "a number above 0",
        lambda value: value > 0,
        ("training.learning_rate", "training.clip_norm", "training.step_factor"),
    ),
    ("a share above 0 and at most 1", lambda value: 0 < value <= 1, ("data.crop_ratio", "data.spatial_crop")),
    ("a number from 0 to 1", lambda value: 0 <= value <= 1, ("data.flip",)),
    (
        "at least 0",
        lambda value: value >= 0,
        (
            *("training.weight_decay", "training.warmup_epochs"),
            *("data.colour", "data.rotation", "data.tilt", "data.scale", "data.jitter"),
        ),
    ),
)


def check(config: RunConfig, shape: ClipShape) -> None:
    """Check the training and data settings of a run; a model checks its own settings.

    Args:
        config: the run's configuration.
        shape: the sizes of its clips.

    Raises:
        InputError: a value is out of range, two values contradict each other, or the objective lacks the metric.
    """
    for expected, in_range, paths in _RANGES:
        for path in paths:
            value = attrgetter(path)(config)
            if value is not None and not in_range(value):
                raise InputError(f"{path}={value!r}: expected {expected}")
    training = config.training
    if isinstance(training.selection, int) and not 1 <= training.selection <= training.epochs:
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
