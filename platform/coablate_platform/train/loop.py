"""The training loop. It imports no Ray; model, objective, data and checkpoints are passed in.

    for event in train(task, data, checkpoints, record_epoch, device): ...

yields an :class:`EpochReport` per epoch and a :class:`Conclusion` at the end. The caller may stop after any event: a
reported epoch is recorded and checkpointed. The same call later resumes from the checkpoint, on a CPU bit for bit.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coablate_platform.study.config import Phase
from coablate_platform.study.model import Objective
from coablate_platform.train import distributed, whole_batch
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.evaluate import conclude, finite_metrics, to_device, validate
from coablate_platform.train.events import Conclusion, EpochReport
from coablate_platform.train.failures import DivergedError
from coablate_platform.train.optimise import take_step
from coablate_platform.train.precision import check_precision
from coablate_platform.train.schedule import learning_rate
from coablate_platform.train.seeding import seed_generators
from coablate_platform.train.state import TrainingState, initial_state
from coablate_platform.train.task import DataSplits, Task


def train(
    task: Task,
    data: DataSplits,
    checkpoints: Checkpoints,
    record_epoch: Callable[[EpochReport], None],
    device: torch.device,
) -> Iterator[EpochReport | Conclusion]:
    """Train for the full budget, then test the selected epoch's weights, unless the run is not to be tested.

    Resumes from the newest checkpoint where there is one. Every worker calls it.

    Args:
        task: the run.
        data: the clips, for the run's protocol and seed.
        checkpoints: the run's checkpoints; all workers read them, rank 0 writes them.
        record_epoch: records an epoch; called on rank 0, before the epoch's checkpoint is written.
        device: where to train.

    Yields:
        A report after each epoch, then the conclusion. When the generator is resumed after the conclusion, which the
        caller has then recorded, it deletes the checkpoints.

    Raises:
        DivergedError: a loss, score or metric is not finite.
        ValueError: the device does not support the precision, or a parameter cannot be initialised.
    """
    leader = distributed.rank() == 0
    state = _load_or_start(task, data, checkpoints, device)
    for phase in task.config.phases:
        if state.epoch >= phase.ends and phase.name:
            continue
        if state.phase != phase.name:
            state.begin(phase)
        network = _parallel(state.model, phase.objective)
        while state.epoch < phase.ends:
            report = _epoch(network, phase, data, state, device)
            if leader:
                record_epoch(report)
            _save_checkpoint(state, phase, report.metrics, checkpoints)
            yield report
    conclusion = conclude(task, state, data, device)
    if leader:
        checkpoints.save_weights(state.model.state_dict())
    yield conclusion
    if leader:  # the caller has recorded the conclusion
        checkpoints.clear()


def _parallel(model: nn.Module, objective: object) -> nn.Module:
    """Return the network as several workers train it together; with one worker the network itself."""
    if distributed.world_size() == 1:
        return model
    if whole_batch.is_needed(objective):
        whole_batch.share_batch_norms(model)
    return DistributedDataParallel(model)


def _epoch(
    network: nn.Module, phase: Phase, data: DataSplits, state: TrainingState, device: torch.device
) -> EpochReport:
    """Train one epoch of a phase, evaluate it on the validation split, and return its report."""
    started = time.perf_counter()
    metrics = _train_epoch(network, phase, data, state, device)
    distributed.broadcast_buffers(state.model)  # batch norm's running statistics, which each worker has of its own
    state.epoch += 1
    if data.sizes["validation"]:
        found = validate(state, phase, data, device)
        metrics |= {f"validation/{name}": value for name, value in found.items()}
    if phase.name:
        metrics = {f"{phase.name}/{name}": value for name, value in metrics.items()}
    return EpochReport(epoch=state.epoch, metrics=metrics, seconds=time.perf_counter() - started)


def _load_or_start(task: Task, data: DataSplits, checkpoints: Checkpoints, device: torch.device) -> TrainingState:
    """Return the state in the newest checkpoint, or the state before the first step where there is none."""
    config = task.config.training
    check_precision(config, device)
    state = initial_state(task.config, data.shape, task.seed, device)
    seed_generators(task.seed, distributed.rank())
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = config.deterministic, not config.deterministic
    if (saved := checkpoints.load()) is not None:
        state.begin(next(phase for phase in task.config.phases if phase.name == saved["phase"]))
        state.load_state_dict(saved)
        for group in state.parameter_groups():
            group["weight_decay"] = state.weight_decay  # the checkpoint may be a copy of another run's
    epochs = sorted(set(distributed.all_gather(state.epoch)))
    if len(epochs) > 1:
        found = ", ".join(map(str, epochs))
        raise RuntimeError(f"the workers found checkpoints of different epochs ({found}); all must see one folder")
    return state


def _train_epoch(
    network: nn.Module, phase: Phase, data: DataSplits, state: TrainingState, device: torch.device
) -> dict[str, float]:
    """Train one epoch and return the losses and metrics over all workers, with the prefix ``train/``.

    Raises:
        DivergedError: a mean loss, a score or a metric is not finite.
    """
    network.train()
    config, objective = phase.training, phase.objective
    steps, turns = max(data.sizes[phase.split] // config.batch_size, 1), len(state.optimisers)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
    scores, labels = [], []
    epoch = state.epoch - phase.begins
    batches = data.train(state.epoch, phase, distributed.rank(), distributed.world_size())
    for number, batch in enumerate(batches, start=epoch * steps):
        on_device = to_device(batch, device)
        for group in state.parameter_groups():
            group["lr"] = learning_rate(config, number, steps)
        for turn in range(turns):
            for outputs, losses, weight in take_step(
                network, objective, on_device, config, state, turns * number + turn
            ):
                for name, value in losses.items():
                    sums[name] += value * (weight / turns)
                if turn == 0 and isinstance(objective, Objective):  # before the other turns change the network
                    scores.append(objective.predict(outputs).detach().float())
        labels.append(batch["label"])
    means = {name: _mean_over_workers(total / len(labels)) for name, total in sums.items()}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise DivergedError(f"the training {name} became {mean} in epoch {state.epoch + 1}")
    metrics = {}
    if isinstance(objective, Objective):
        metrics = finite_metrics(
            objective,
            distributed.all_gather_tensor(torch.cat(scores)),
            distributed.all_gather_tensor(torch.cat(labels)),
            f"training of epoch {state.epoch + 1}",
        )
    return {f"train/{name}": value for name, value in (metrics | means).items()}


def _save_checkpoint(state: TrainingState, phase: Phase, metrics: dict[str, float], checkpoints: Checkpoints) -> None:
    """Write the checkpoint of an epoch, with its weights where the selection rule selects them so far."""
    config = phase.training
    value = metrics.get(f"validation/{config.metric}", float("-inf"))
    if value > state.best if config.selection == "best" else state.epoch - phase.begins == config.selection:
        state.best = value
        state.select()
    packed = state.state_dict()
    if distributed.rank() == 0:
        checkpoints.save(packed)


def _mean_over_workers(value: Tensor) -> float:
    return float(torch.tensor(distributed.all_gather(float(value))).mean())
