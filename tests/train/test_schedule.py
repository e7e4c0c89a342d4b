"""Learning rates follow torch's own schedulers, step by step, without holding any state."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from coablate_platform.study.config import TrainingConfig
from coablate_platform.train.schedule import learning_rate

RATE = 0.02


def torchs(make, steps: int) -> list[float]:
    """The rates that a torch scheduler gives for the first ``steps`` steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OneCycleLR sets its first rate by a step of its own
            scheduler.step()
    return rates


def ours(per_epoch: int, **settings) -> list[float]:
    config = TrainingConfig(learning_rate=RATE, **settings)
    return [learning_rate(config, step, per_epoch) for step in range(config.epochs * per_epoch)]


@pytest.mark.parametrize(("epochs", "per_epoch"), [(1, 10), (5, 7), (30, 4)])
def test_one_cycle(epochs, per_epoch):
    total = epochs * per_epoch

    def make(optimiser):
        return lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total + 1, cycle_momentum=False)

    def exact(optimiser):
        return lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total, cycle_momentum=False)

    expected = torchs(exact, total - 1)  # torch refuses the step behind its last
    found = ours(per_epoch, epochs=epochs, schedule="one_cycle")
    assert found[:-1] == pytest.approx(expected, rel=1e-9)
    assert found[-1] == pytest.approx(RATE / 25e4)
    assert found[:-1] != pytest.approx(torchs(make, total - 1), rel=1e-3)


@pytest.mark.parametrize("per_epoch", [1, 9])
def test_cosine(per_epoch):
    expected = torchs(lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, 6 * per_epoch), 6 * per_epoch)
    assert ours(per_epoch, epochs=6, schedule="cosine") == pytest.approx(expected, rel=1e-9)


def test_steps():
    milestones = [2 * 5, 4 * 5]
    expected = torchs(lambda optimiser: lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.3), 6 * 5)
    found = ours(5, epochs=6, schedule="step", step_epochs=(2, 4), step_factor=0.3)
    assert found == pytest.approx(expected, rel=1e-9)


def test_constant():
    assert ours(4, epochs=3, schedule="constant") == [RATE] * 12


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_warmup_rises_in_equal_parts_to_the_rate(schedule):
    found = ours(5, epochs=8, schedule=schedule, warmup_epochs=2, step_epochs=(6,))
    assert found[:10] == pytest.approx([RATE * part / 10 for part in range(1, 11)])
    assert found[10] == RATE
    assert found[-1] < RATE or schedule == "constant"


def test_a_budget_of_one_step_has_a_rate():
    for schedule in ("one_cycle", "cosine", "step", "constant"):
        assert all(0 < rate <= RATE for rate in ours(1, epochs=1, schedule=schedule))
