"""Learning-rate schedules as pure functions of the optimiser step: a checkpoint needs no state of the schedule."""

import math

from coablate_platform.study.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of an optimiser step.

    ``one_cycle`` rises along a cosine from 1/25 of the peak rate to the peak over the first 30 % of all steps, then
    falls along a cosine to 1/250000 of the peak.

    Args:
        config: schedule, peak rate, warm-up and number of epochs.
        step: the optimiser step, counted from 0 over the whole run.
        steps_per_epoch: number of optimiser steps per epoch.

    Source: one cycle: Smith & Topin 2018 as in torch's ``OneCycleLR``, without its cycle of the momentum.
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        peak, top = max(0.3 * total - 1, 1.0), config.learning_rate
        if step <= peak:
            return _cosine(top / 25, top, step / peak)
        return _cosine(top, top / 25e4, (step - peak) / max(total - 1 - peak, 1.0))
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "cosine":
        return _cosine(config.learning_rate, 0.0, (step - warmup) / max(total - warmup, 1))
    if config.schedule == "step":
        steps_passed = sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
        return float(config.learning_rate * config.step_factor**steps_passed)
    return config.learning_rate


def _cosine(start: float, end: float, progress: float) -> float:
    """Interpolate from ``start`` to ``end`` along half a cosine; ``progress`` is from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
