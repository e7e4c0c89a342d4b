"""The training loop. It imports no Ray; model, objective, data and checkpoints are passed in.

    for event in train(task, data, checkpoints, record_epoch, device): ...

yields an :class:`EpochReport` per epoch and a :class:`Conclusion` at the end. The caller may stop after any event: a
reported epoch is recorded and checkpointed. The same call later resumes from the checkpoint, on a CPU bit for bit.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coablate_platform.study.config import ClipShape, Objective, RunConfig, TrainingConfig
from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Predictions
from coablate_platform.train.failures import DivergedError
from coablate_platform.train.optimise import take_step
from coablate_platform.train.precision import autocast, check_precision
from coablate_platform.train.provenance import Origin
from coablate_platform.train.schedule import learning_rate
from coablate_platform.train.seeding import seed_generators
from coablate_platform.train.state import TrainingState, initial_state

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run.

    Args:
        run_id: identity of the run.
        config: the run's configuration.
        seed: (study seed, run seed).
        origin: the run's origin; None for a run that is not recorded.
        tested: whether the selected epoch's weights are tested. Trials of a search are not: whoever chooses among many
            by looking at the test split has no test split any more.
    """

    run_id: str
    config: RunConfig
    seed: tuple[int, int]
    origin: Origin | None = None
    tested: bool = True


class DataSplits(Protocol):
    """The clips of a run, divided into the splits ``train``, ``validation`` and ``test``.

    ``rank`` is the rank of a worker and ``world`` the number of workers. A batch is described at
    :class:`~coablate_platform.study.config.ModelConfig`.
    """

    @property
    def shape(self) -> ClipShape:
        """The sizes of the clips."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Number of clips by split."""
        ...

    @property
    def names(self) -> list[str]:
        """Names of the clips by row in the store."""
        ...

    def train(self, epoch: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the augmented batches of an epoch (from 0); a worker gets an equal share of each batch."""
        ...

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the batches of a split without augmentation; a worker gets its share of the split's clips."""
        ...


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
    config, leader = task.config.training, distributed.rank() == 0
    state = _load_or_start(task, data, checkpoints, device)
    objective = task.config.model.objective()
    network = state.model
    if distributed.world_size() > 1:
        network = DistributedDataParallel(network)
    while state.epoch < config.epochs:
        started = time.perf_counter()
        metrics = _train_epoch(network, objective, data, config, state, device)
        distributed.broadcast_buffers(state.model)  # batch norm's running statistics, which each worker has of its own
        if data.sizes["validation"]:
            found = _evaluate(state, objective, data, "validation", config, device)
            values = _finite_metrics(objective, found.scores, found.labels, f"validation of epoch {state.epoch + 1}")
            metrics |= {f"validation/{name}": value for name, value in (values | {"loss": found.loss}).items()}
        state.epoch += 1
        report = EpochReport(epoch=state.epoch, metrics=metrics, seconds=time.perf_counter() - started)
        if leader:
            record_epoch(report)
        _save_checkpoint(state, config, metrics, checkpoints)
        yield report
    conclusion = _conclude(task, state, objective, data, device)
    if leader:
        checkpoints.save_weights(state.model.state_dict())
    yield conclusion
    if leader:  # the caller has recorded the conclusion
        checkpoints.clear()


def _load_or_start(task: Task, data: DataSplits, checkpoints: Checkpoints, device: torch.device) -> TrainingState:
    """Return the state in the newest checkpoint, or the state before the first step where there is none."""
    config = task.config.training
    check_precision(config, device)
    state = initial_state(task.config, data.shape, task.seed, device)
    seed_generators(task.seed, distributed.rank())
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = config.deterministic, not config.deterministic
    if (saved := checkpoints.load()) is not None:
        state.load_state_dict(saved)
        for group in state.parameter_groups():
            group["weight_decay"] = config.weight_decay  # the checkpoint may be a copy of another run's
    epochs = sorted(set(distributed.all_gather(state.epoch)))
    if len(epochs) > 1:
        found = ", ".join(map(str, epochs))
        raise RuntimeError(f"the workers found checkpoints of different epochs ({found}); all must see one folder")
    return state


def _train_epoch(
    network: nn.Module,
    objective: Objective,
    data: DataSplits,
    config: TrainingConfig,
    state: TrainingState,
    device: torch.device,
) -> dict[str, float]:
    """Train one epoch and return the losses and metrics over all workers, with the prefix ``train/``.

    Raises:
        DivergedError: a mean loss, a score or a metric is not finite.
    """
    network.train()
    steps, turns = max(data.sizes["train"] // config.batch_size, 1), len(state.optimisers)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
    scores, labels = [], []
    batches = data.train(state.epoch, config.batch_size, distributed.rank(), distributed.world_size())
    for number, batch in enumerate(batches, start=state.epoch * steps):
        on_device = _to_device(batch, device)
        for group in state.parameter_groups():
            group["lr"] = learning_rate(config, number, steps)
        for turn in range(turns):
            for outputs, losses, weight in take_step(
                network, objective, on_device, config, state, turns * number + turn
            ):
                for name, value in losses.items():
                    sums[name] += value * (weight / turns)
                if turn == 0:  # before the batch's other turns have changed the network
                    scores.append(objective.predict(outputs).detach().float())
        labels.append(batch["label"])
    means = {name: _mean_over_workers(total / len(labels)) for name, total in sums.items()}
    for name, mean in means.items():
        if not math.isfinite(mean):
            raise DivergedError(f"the training {name} became {mean} in epoch {state.epoch + 1}")
    metrics = _finite_metrics(
        objective,
        distributed.all_gather_tensor(torch.cat(scores)),
        distributed.all_gather_tensor(torch.cat(labels)),
        f"training of epoch {state.epoch + 1}",
    )
    return {f"train/{name}": value for name, value in (metrics | means).items()}


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    """What a network says of N clips, in the store's order, on the CPU.

    Args:
        scores: scores of the K classes, (N, K).
        labels: classes of the clips, (N,).
        rows: rows of the clips in the store, (N,).
        loss: mean training loss over the clips; of an objective with turns, the mean over the turns too.
    """

    scores: Tensor
    labels: Tensor
    rows: Tensor
    loss: float


@torch.no_grad()
def _evaluate(
    state: TrainingState,
    objective: Objective,
    data: DataSplits,
    split: str,
    config: TrainingConfig,
    device: torch.device,
) -> _Evaluation:
    """Evaluate the network on a split."""
    model, turns = state.model, len(state.optimisers)
    model.eval()
    parts, loss = [], 0.0
    for batch in data.evaluate(split, config.batch_size, distributed.rank(), distributed.world_size()):
        on_device = _to_device(batch, device)
        with autocast(config, device):
            outputs = model(on_device)
            scores = objective.predict(outputs)
            losses = [float(objective.loss(outputs, on_device, turn)["loss"]) for turn in range(turns)]
        loss += sum(losses) / turns * len(batch["label"])
        parts.append((scores.float().cpu(), batch["label"], batch["index"]))
    columns = (
        [torch.cat(column) for column in zip(*parts, strict=True)] if parts else None
    )  # a worker may have no clips
    scores, labels, rows = (distributed.all_gather_tensor(columns[place] if columns else None) for place in range(3))
    order = rows.argsort()
    mean = sum(distributed.all_gather(loss)) / len(rows)
    return _Evaluation(scores=scores[order], labels=labels[order], rows=rows[order], loss=mean)


def _finite_metrics(objective: Objective, scores: Tensor, labels: Tensor, where: str) -> dict[str, float]:
    """Return the objective's metrics.

    Raises:
        DivergedError: a score is NaN or +∞, which has no rank among the others, or a metric is not finite.
    """
    if torch.isnan(scores).any() or torch.isposinf(scores).any():
        count = int((torch.isnan(scores) | torch.isposinf(scores)).any(1).sum())
        raise DivergedError(f"the scores of {count} of {len(scores)} clips are not finite in the {where}")
    metrics = objective.metrics(scores, labels)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} in the {where}")
    return metrics


def _save_checkpoint(
    state: TrainingState, config: TrainingConfig, metrics: dict[str, float], checkpoints: Checkpoints
) -> None:
    """Write the checkpoint of an epoch, with its weights where the selection rule selects them so far."""
    value = metrics.get(f"validation/{config.metric}", float("-inf"))
    if value > state.best if config.selection == "best" else state.epoch == config.selection:
        state.best = value
        state.select()
    packed = state.state_dict()
    if distributed.rank() == 0:
        checkpoints.save(packed)


def _conclude(
    task: Task, state: TrainingState, objective: Objective, data: DataSplits, device: torch.device
) -> Conclusion:
    """Load the selected epoch's weights, and test them if the run is to be tested.

    Raises:
        DivergedError: a score or a metric is not finite.
    """
    config, epoch = task.config.training, state.epoch
    if config.selection != "last":
        state.model.load_state_dict(state.selected_weights)
        epoch = state.selected
    if not task.tested:
        return Conclusion(epoch=epoch)
    found = _evaluate(state, objective, data, "test", config, device)
    metrics = _finite_metrics(objective, found.scores, found.labels, f"test of epoch {epoch}")
    names = [data.names[row] for row in found.rows.tolist()]
    predictions = Predictions(names=names, labels=found.labels.numpy(), scores=found.scores.numpy())
    return Conclusion(epoch=epoch, metrics=metrics, predictions=predictions)


def _mean_over_workers(value: Tensor) -> float:
    return float(torch.tensor(distributed.all_gather(float(value))).mean())


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
