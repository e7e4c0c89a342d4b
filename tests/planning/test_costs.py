"""The estimate of a run's time is from the steps that the run would take, and ends on a slow machine too."""

import dataclasses

import pytest
from clips import MemoryClips

from coablate_model.cc_dfarm import CCDFARM
from coablate_platform.planning import costs
from coablate_platform.study.config import DataConfig, RunConfig, TrainingConfig

MODEL = CCDFARM(streams=("skeleton",), tiam="none", hcn_features=8)


@pytest.fixture
def timed(monkeypatch):
    """The number of clips in each step that is timed."""
    sizes = []
    random_batch = costs.random_batch
    monkeypatch.setattr(
        costs, "random_batch", lambda shape, clips, views: sizes.append(clips) or random_batch(shape, clips)
    )
    return sizes


def estimate(model=MODEL, **training) -> float:
    config = RunConfig(model=model, data=DataConfig(), training=TrainingConfig(**training))
    return costs.seconds_per_run(config, MemoryClips(train=64), threads=1)


@pytest.mark.parametrize(
    ("training", "clips"),
    [
        ({"batch_size": 32}, 32),
        ({"batch_size": 32, "accumulate": 4}, 8),
        ({"batch_size": 32, "workers": 2}, 16),
        ({"batch_size": 32, "workers": 2, "accumulate": 3}, 6),
        ({"batch_size": 500}, 64),
    ],
)
def test_the_steps_are_those_of_a_worker_s_micro_batch(timed, training, clips):
    assert estimate(**training) > 0
    assert timed == [2, clips]


def test_a_machine_too_slow_for_a_step_is_judged_by_two_clips(timed, monkeypatch):
    monkeypatch.setattr(costs, "TIMED_S", 1e-9)
    assert estimate(batch_size=32) > 0
    assert timed == [2]


def test_alternating_training_takes_two_steps_a_batch(monkeypatch):
    monkeypatch.setattr(costs, "_fastest", lambda work, times, device: 1.0)
    model = CCDFARM(width=0.125, hcn_features=8, mffm_channels=16)
    joint, alternating = (estimate(dataclasses.replace(model, training=mode)) for mode in ("joint", "alternating"))
    assert 1.5 < alternating / joint <= 2
