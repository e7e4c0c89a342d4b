"""Several workers train like one: gradients, running statistics, checkpoints."""

import dataclasses

import pytest
import torch.distributed as dist
from clips import SHAPE, MemoryClips
from trainings import CPU, SKELETON, numbers, on_two_workers, run, task_of

from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.state import initial_state


def _plain_worker(folder: str) -> tuple:
    events = run(task_of(dataclasses.replace(SKELETON, hcn_dropout=0.0), epochs=2, workers=2), folder)
    return numbers(events), events[-1].predictions.scores


def _worker_with_batch_norm(folder: str) -> tuple:
    """Train once without and once with an interruption after the last epoch; one worker has no clip to validate."""
    task = task_of(dataclasses.replace(SKELETON, tiam="channel"), epochs=2, workers=2)
    clips = MemoryClips(validation=1, test=3)
    whole = run(task, f"{folder}/whole", clips)
    run(task, f"{folder}/parts", clips, stop_after=2)
    dist.barrier()  # rank 0 has written its checkpoint
    saved = list(Checkpoints(f"{folder}/parts").load()["model"])
    [conclusion] = run(task, f"{folder}/parts", clips)
    return numbers(whole), whole[-1].predictions.scores, conclusion.predictions.scores, saved


def _evaluating_worker(folder: str) -> list:
    """Return the running statistics with which each worker evaluates."""
    used = []
    task, clips = task_of(dataclasses.replace(SKELETON, tiam="channel"), epochs=1, workers=2), MemoryClips()
    evaluate = clips.evaluate

    def spied(split, *arguments):
        used.append({name: buffer.numpy().copy() for name, buffer in state.model.named_buffers()})
        return evaluate(split, *arguments)

    clips.evaluate = spied
    state = initial_state(task.config, clips.shape, task.seed, CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("coablate_platform.train.loop.initial_state", lambda *_: state)
        run(task, folder, clips)
    return distributed.all_gather(used)


@pytest.mark.timeout(120)
def test_two_workers_train_like_one_worker_on_the_whole_batch(tmp_path, free_port):
    """The mean of the gradients of equal shares is the gradient of the batch (HCN has no batch normalisation)."""
    alone = run(task_of(dataclasses.replace(SKELETON, hcn_dropout=0.0), epochs=2), tmp_path / "alone")
    pair, scores = on_two_workers(_plain_worker, free_port, tmp_path / "pair")
    for (_, one), (_, two) in zip(numbers(alone), pair, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    assert scores == pytest.approx(alone[-1].predictions.scores, rel=1e-3, abs=1e-4)


@pytest.mark.timeout(120)
def test_two_workers_with_batch_norm_resume_after_the_last_epoch(tmp_path, free_port):
    """And a worker without a clip of a split does not fail."""
    events, whole, resumed, saved = on_two_workers(_worker_with_batch_norm, free_port, tmp_path)
    assert [epoch for epoch, _ in events] == [1, 2, 2]
    assert any(name.endswith("running_var") for name in saved)
    assert whole.shape == (3, SHAPE.classes)
    assert (whole == resumed).all()


@pytest.mark.timeout(120)
def test_all_workers_evaluate_with_the_running_statistics_of_rank_0(tmp_path, free_port):
    first, second = on_two_workers(_evaluating_worker, free_port, tmp_path)
    assert len(first) == 2  # validation and test
    assert any(name.endswith("running_var") for name in first[0])
    for ours, theirs in zip(first, second, strict=True):
        assert all((ours[name] == theirs[name]).all() for name in ours)
