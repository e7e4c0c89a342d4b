"""A run of two phases is one run: one count of epochs, one line of checkpoints, and one test at its end."""

import pytest
import torch
from clips import MemoryClips
from self_supervised import SelfSupervised, two_phases
from trainings import SMALL, numbers, run

from coablate_platform.planning.checks import check
from coablate_platform.study.config import DataConfig, Pretraining, RunConfig, TrainingConfig
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import apply_changes
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, RunUpdate
from coablate_platform.train.state import initial_state


def test_epochs_are_counted_over_both_phases_and_the_test_is_read_once(tmp_path):
    clips = MemoryClips()
    asked = []
    evaluate = clips.evaluate
    clips.evaluate = lambda split, *rest: asked.append(split) or evaluate(split, *rest)
    events = run(two_phases(), tmp_path, clips)
    assert [event.epoch for event in events] == [1, 2, 3, 4, 5, 5]
    assert [RunUpdate.of_epoch(event).phase for event in events[:-1]] == ["pretraining"] * 3 + [""] * 2
    assert isinstance(events[-1], Conclusion)
    assert asked.count("test") == 1
    assert asked[-2] == "test"  # and then the gallery of the test's retrieval


def test_metrics_name_their_phase_and_retrieval_comes_at_the_end_of_each(tmp_path):
    *epochs, conclusion = run(two_phases(), tmp_path)
    first, last = epochs[0].metrics, epochs[2].metrics
    assert set(first) == {"pretraining/train/loss", "pretraining/train/loss_spread"}
    assert set(last) - set(first) == {"pretraining/validation/retrieval"}
    assert {"train/accuracy", "validation/accuracy", "validation/loss"} <= set(epochs[3].metrics)
    assert ["validation/retrieval" in epoch.metrics for epoch in epochs] == [False] * 4 + [True]
    assert 0 <= conclusion.metrics["retrieval"] <= 1
    assert conclusion.metrics["accuracy"] >= 0


@pytest.mark.parametrize("interrupted", [1, 2, 3, 4, 5])
def test_a_run_resumes_within_either_phase_and_between_them_bit_for_bit(tmp_path, interrupted):
    whole = run(two_phases(), tmp_path / "whole")
    run(two_phases(), tmp_path / "parts", stop_after=interrupted)
    rest = run(two_phases(), tmp_path / "parts")
    assert numbers(rest) == numbers(whole[interrupted:])
    assert (rest[-1].predictions.scores == whole[-1].predictions.scores).all()


def test_each_phase_changes_only_its_own_parameters(tmp_path):
    def weights_after(task, events: int, folder) -> dict[str, torch.Tensor]:
        run(task, folder, stop_after=events)
        return Checkpoints(str(folder)).load()["model"]

    task = two_phases()
    before = initial_state(task.config, MemoryClips().shape, task.seed, torch.device("cpu")).model.state_dict()
    between, after = weights_after(task, 3, tmp_path / "one"), weights_after(task, 5, tmp_path / "two")
    assert torch.equal(before["classify.weight"], between["classify.weight"])
    assert not torch.equal(before["encoder.1.weight"], between["encoder.1.weight"])
    assert torch.equal(between["encoder.1.weight"], after["encoder.1.weight"])
    assert not torch.equal(between["classify.weight"], after["classify.weight"])


def test_a_phase_has_a_schedule_of_its_own(tmp_path, monkeypatch):
    rates = []
    monkeypatch.setattr(
        "coablate_platform.train.loop.learning_rate",
        lambda config, step, steps: rates.append((config.epochs, step)) or 1e-3,
    )
    run(two_phases(), tmp_path)
    assert rates == [(3, step) for step in range(6)] + [(2, step) for step in range(4)]


def test_settings_of_a_phase_are_checked():
    shape = MemoryClips().shape
    config = two_phases().config
    check(config, shape)
    with pytest.raises(InputError, match=r"pretraining.accumulate=2: the loss of Spread needs the whole batch"):
        check(apply_changes(config, {"pretraining.accumulate": 2}), shape)
    with pytest.raises(InputError, match=r"pretraining.batch_size=7: cannot be shared evenly by 2 workers"):
        check(apply_changes(config, {"training.workers": 2, "pretraining.batch_size": 7}), shape)
    with pytest.raises(InputError, match=r"pretraining.epochs: 0|pretraining.epochs=0"):
        apply_changes(config, {"pretraining.epochs": 0})
    with pytest.raises(InputError, match="'retrieval' is evaluated after the last epoch only"):
        check(apply_changes(config, {"training.metric": "retrieval", "training.selection": "best"}), shape)
    check(apply_changes(config, {"training.metric": "retrieval"}), shape)


def test_only_a_model_that_can_be_pre_trained_has_the_phase():
    with pytest.raises(InputError, match=r"pretraining: CCDFARM has no pretraining_objective"):
        RunConfig(model=SMALL, data=DataConfig(), training=TrainingConfig(), pretraining=Pretraining())
    assert RunConfig(model=SelfSupervised(), data=DataConfig(), training=TrainingConfig()).epochs == 30
