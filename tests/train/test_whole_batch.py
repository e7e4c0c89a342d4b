"""With an objective that needs the whole batch, two workers have the gradients of one on the joined batch."""

import pytest
import torch
from clips import MemoryClips
from self_supervised import two_phases
from trainings import CPU, numbers, on_two_workers, run

from coablate_platform.train import distributed, whole_batch
from coablate_platform.train.loop import _parallel
from coablate_platform.train.optimise import take_step
from coablate_platform.train.state import initial_state


def _gradients(folder: str) -> dict:
    """Return the gradients of the first step of pre-training, without dropout."""
    task = two_phases(workers=distributed.world_size())
    phase = task.config.phases[0]
    state = initial_state(task.config, MemoryClips().shape, task.seed, CPU)
    for module in state.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network = _parallel(state.model, phase.objective).train()
    batch = next(MemoryClips().train(0, phase, distributed.rank(), distributed.world_size()))
    [(_, losses, _)] = list(take_step(network, phase.objective, batch, phase.training, state, 0))
    gradients = {name: p.grad.numpy() for name, p in state.model.named_parameters() if p.grad is not None}
    running = {name: buffer.numpy() for name, buffer in state.model.named_buffers() if "running" in name}
    return gradients | running | {"loss": losses["loss"].numpy()}


@pytest.mark.timeout(120)
def test_two_workers_have_the_gradients_of_one_on_the_joined_batch(tmp_path, free_port):
    alone, pair = _gradients(""), on_two_workers(_gradients, free_port, tmp_path)
    assert alone.keys() == pair.keys()
    assert any("projector.1.running_var" in name for name in alone)
    for name, value in alone.items():
        assert pair[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def _run(folder: str) -> list:
    return numbers(run(two_phases(workers=2), folder))


@pytest.mark.timeout(120)
def test_two_workers_train_both_phases(tmp_path, free_port):
    epochs = on_two_workers(_run, free_port, tmp_path)
    assert [epoch for epoch, _ in epochs] == [1, 2, 3, 4, 5, 5]


def test_one_worker_gathers_nothing():
    batch = {"x": torch.ones(2)}
    assert whole_batch.gather(batch) is batch
