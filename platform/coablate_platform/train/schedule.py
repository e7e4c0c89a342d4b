"""Learning-rate schedules as pure functions of the step, so that resuming needs no schedule state."""

import math

from coablate_platform.study.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate for optimiser step ``step`` (from 0).

    ``one_cycle``: cosine from rate/25 up to the rate over 30 % of all steps, cosine down to rate/25e4 after it
    (Smith & Topin 2018 in torch's form, without the momentum cycle).
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
        passed = sum(step >= epoch * steps_per_epoch for epoch in config.step_epochs)
        return float(config.learning_rate * config.step_factor**passed)
    return config.learning_rate


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
