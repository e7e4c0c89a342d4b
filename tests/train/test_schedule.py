"""Learning rates equal those of torch's schedulers at every step."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from coablate_platform.study.config import TrainingConfig
from coablate_platform.train.schedule import learning_rate

RATE = 0.02


def torch_rates(make, steps: int) -> list[float]:
    """Return the rates of a torch scheduler for the first ``steps`` steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], RATE)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OneCycleLR makes a step when it is created
            scheduler.step()
    return rates


def coablate_rates(per_epoch: int, **settings) -> list[float]:
    config = TrainingConfig(learning_rate=RATE, **settings)
    return [learning_rate(config, step, per_epoch) for step in range(config.epochs * per_epoch)]


@pytest.mark.parametrize(("epochs", "per_epoch"), [(1, 10), (5, 7), (30, 4)])
def test_one_cycle_equals_torch_s(epochs, per_epoch):
    total = epochs * per_epoch

    def make(optimiser):
        return lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total + 1, cycle_momentum=False)

    def exact(optimiser):
        return lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total, cycle_momentum=False)

    expected = torch_rates(exact, total - 1)  # torch refuses a step after the last
    found = coablate_rates(per_epoch, epochs=epochs, schedule="one_cycle")
    assert found[:-1] == pytest.approx(expected, rel=1e-9)
    assert found[-1] == pytest.approx(RATE / 25e4)
    assert found[:-1] != pytest.approx(torch_rates(make, total - 1), rel=1e-3)


@pytest.mark.parametrize("per_epoch", [1, 9])
def test_cosine_equals_torch_s(per_epoch):
    expected = torch_rates(lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, 6 * per_epoch), 6 * per_epoch)
    assert coablate_rates(per_epoch, epochs=6, schedule="cosine") == pytest.approx(expected, rel=1e-9)


def test_step_equals_torch_s_multi_step():
    milestones = [2 * 5, 4 * 5]
    expected = torch_rates(lambda optimiser: lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.3), 6 * 5)
    found = coablate_rates(5, epochs=6, schedule="step", step_epochs=(2, 4), step_factor=0.3)
    assert found == pytest.approx(expected, rel=1e-9)


def test_constant_stays_at_the_rate():
    assert coablate_rates(4, epochs=3, schedule="constant") == [RATE] * 12


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_warm_up_rises_linearly_to_the_rate(schedule):
    found = coablate_rates(5, epochs=8, schedule=schedule, warmup_epochs=2, step_epochs=(6,))
    assert found[:10] == pytest.approx([RATE * part / 10 for part in range(1, 11)])
    assert found[10] == RATE
    assert found[-1] < RATE or schedule == "constant"


def test_a_budget_of_one_step_has_a_valid_rate():
    for schedule in ("one_cycle", "cosine", "step", "constant"):
        assert all(0 < rate <= RATE for rate in coablate_rates(1, epochs=1, schedule=schedule))
