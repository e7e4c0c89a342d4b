"""The training loop. It imports no Ray and knows no task: model, data and checkpoints come as objects.

    for event in train(task, data, checkpoints, record, device): ...

yields an :class:`EpochReport` an epoch and a :class:`Conclusion` at the end. Whoever drives it may stop after any
event: what was reported is recorded and checkpointed, and the same call later goes on from there, bit for bit on CPU.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coablate_platform.study.config import ClipShape, RunConfig, TrainingConfig
from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Predictions
from coablate_platform.train.failures import DivergedError
from coablate_platform.train.precision import autocast, check_precision, sound_gradients
from coablate_platform.train.provenance import Origin
from coablate_platform.train.schedule import learning_rate
from coablate_platform.train.seeding import generator_states, initialise, restore_generators, start_streams

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One run: its identity, its configuration, (study seed, run seed), and where it comes from, if it is recorded."""

    run_id: str
    config: RunConfig
    seed: tuple[int, int]
    origin: Origin | None = None


class Clips(Protocol):
    """What the loop reads. Ranks get equal shares of a training batch, and of a split's rows."""

    @property
    def shape(self) -> ClipShape: ...

    @property
    def sizes(self) -> dict[str, int]: ...

    @property
    def names(self) -> list[str]: ...

    def train(self, epoch: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]: ...

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]: ...


@dataclass(kw_only=True)
class State:
    """Everything that a checkpoint carries between two epochs."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0  # epochs done
    best: float = float("-inf")
    selected: int = 0  # epoch whose weights lie aside; 0: none

    def pack(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": distributed.gather(generator_states()),
            "epoch": self.epoch,
            "best": self.best,
            "selected": self.selected,
        }

    def unpack(self, packed: dict[str, Any]) -> None:
        self.model.load_state_dict(packed["model"])
        self.optimiser.load_state_dict(packed["optimiser"])
        self.scaler.load_state_dict(packed["scaler"])
        restore_generators(packed["generators"][distributed.rank()])
        self.epoch, self.best, self.selected = packed["epoch"], packed["best"], packed["selected"]


def train(
    task: Task, data: Clips, checkpoints: Checkpoints, record: Callable[[EpochReport], None], device: torch.device
) -> Iterator[EpochReport | Conclusion]:
    """Train to the full budget, epoch by epoch, then test once with the selected epoch's weights.

    Args:
        task: what to run.
        data: clips of this task's protocol and seed.
        checkpoints: where this run's state lies; used on rank 0 for writing, by all for reading.
        record: writes an epoch down before its checkpoint is made; called on rank 0.
        device: where to train.

    Raises:
        DivergedError: the training loss of an epoch is not finite.
    """
    config, leader = task.config.training, distributed.rank() == 0
    state = _begin(task, data, checkpoints, device)
    objective = task.config.model.objective()
    network = state.model
    if distributed.world() > 1:
        network = DistributedDataParallel(network)
    while state.epoch < config.epochs:
        started = time.perf_counter()
        metrics = _train_epoch(network, objective, data, config, state, device)
        if data.sizes["validation"]:
            scores, labels, _ = _scores(state.model, objective, data, "validation", config, device)
            metrics |= {f"validation/{name}": value for name, value in objective.metrics(scores, labels).items()}
        state.epoch += 1
        report = EpochReport(epoch=state.epoch, metrics=metrics, seconds=time.perf_counter() - started)
        if leader:
            record(report)
        _checkpoint(state, config, metrics, checkpoints)
        yield report
    conclusion = _conclude(state, objective, data, config, checkpoints, device)
    if leader:
        checkpoints.save_weights(state.model.state_dict())
    yield conclusion
    if leader:  # reached once the conclusion has been recorded
        checkpoints.clear()


def _begin(task: Task, data: Clips, checkpoints: Checkpoints, device: torch.device) -> State:
    config = task.config.training
    check_precision(config, device)
    model = new_network(task.config, data.shape, task.seed).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    state = State(model=model, optimiser=_optimiser(model, config), scaler=scaler)
    start_streams(task.seed, distributed.rank())
    if (packed := checkpoints.load()) is not None:
        state.unpack(packed)
        for group in state.optimiser.param_groups:
            group["weight_decay"] = config.weight_decay  # the weights may be another's, who had another decay
    return state


def new_network(config: RunConfig, shape: ClipShape, seed: tuple[int, int]) -> nn.Module:
    """Return a run's network as it is before its first step."""
    model = config.model.build(shape)
    initialise(model, seed)
    return fast_layout(model)


def fast_layout(model: nn.Module) -> nn.Module:
    """Lay 3-D convolutions out channels last; the numbers stay those of the contiguous layout, the steps are faster."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


def _optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return kind(model.parameters(), rate, weight_decay=decay)


def _train_epoch(
    network: nn.Module, objective: Any, data: Clips, config: TrainingConfig, state: State, device: torch.device
) -> dict[str, float]:
    network.train()
    steps = max(data.sizes["train"] // config.batch_size, 1)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
    scores, labels = [], []
    batches = data.train(state.epoch, config.batch_size, distributed.rank(), distributed.world())
    for step, batch in enumerate(batches, start=state.epoch * steps):
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(config, step, steps)
        for outputs, losses, share in _backward(network, objective, _to(batch, device), config, state, step):
            for name, value in losses.items():
                sums[name] += value.detach().float() * share
            scores.append(objective.predict(outputs).detach().float())
        labels.append(batch["label"])
        _step(network, config, state)
    means = {name: _mean_over_workers(total / len(labels)) for name, total in sums.items()}
    if not torch.isfinite(torch.tensor(means["loss"])):
        raise DivergedError(f"the training loss became {means['loss']} in epoch {state.epoch + 1}")
    judged = objective.metrics(distributed.join(torch.cat(scores)), distributed.join(torch.cat(labels)))
    return {f"train/{name}": value for name, value in (judged | means).items()}


def _backward(
    network: nn.Module, objective: Any, batch: Batch, config: TrainingConfig, state: State, step: int
) -> Iterator[tuple[Any, dict[str, Tensor], float]]:
    """Accumulate one batch's gradient in parts; yield each part's outputs, losses and share of the batch."""
    state.optimiser.zero_grad(set_to_none=True)
    size = len(batch["label"])
    part = -(-size // config.accumulate)
    for start in range(0, size, part):
        piece = {name: tensor[start : start + part] for name, tensor in batch.items()}
        share, device = len(piece["label"]) / size, piece["label"].device
        last = start + part >= size
        together = isinstance(network, DistributedDataParallel) and not last
        with network.no_sync() if together else contextlib.nullcontext():  # type: ignore[operator]
            with autocast(config, device):
                outputs = network(piece)
                losses = objective.loss(outputs, piece, step)
            with sound_gradients(config, device):
                state.scaler.scale(losses["loss"] * share).backward()
        yield outputs, losses, share


def _step(network: nn.Module, config: TrainingConfig, state: State) -> None:
    if config.clip_norm is not None:
        state.scaler.unscale_(state.optimiser)
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
    state.scaler.step(state.optimiser)
    state.scaler.update()


@torch.no_grad()
def _scores(
    model: nn.Module, objective: Any, data: Clips, split: str, config: TrainingConfig, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a split's scores (N, K), labels (N,) and store rows (N,), in store order, on the CPU."""
    model.eval()
    parts = []
    for batch in data.evaluate(split, config.batch_size, distributed.rank(), distributed.world()):
        with autocast(config, device):
            scores = objective.predict(model(_to(batch, device)))
        parts.append((scores.float().cpu(), batch["label"], batch["index"]))
    scores, labels, rows = (distributed.join(torch.cat(column)) for column in zip(*parts, strict=True))
    order = rows.argsort()
    return scores[order], labels[order], rows[order]


def _checkpoint(state: State, config: TrainingConfig, metrics: dict[str, float], checkpoints: Checkpoints) -> None:
    leader = distributed.rank() == 0
    value = metrics.get(f"validation/{config.metric}", float("-inf"))
    preferred = value > state.best if config.selection == "best" else state.epoch == config.selection
    if preferred:
        state.best, state.selected = value, state.epoch
        if leader:
            checkpoints.save_selected(state.model.state_dict())
    packed = state.pack()
    if leader:
        checkpoints.save(packed)


def _conclude(
    state: State, objective: Any, data: Clips, config: TrainingConfig, checkpoints: Checkpoints, device: torch.device
) -> Conclusion:
    epoch = state.epoch
    if config.selection != "last":
        weights = checkpoints.load_selected()
        if weights is None:
            raise DivergedError(f"no epoch could be selected by {config.selection!r}")
        state.model.load_state_dict(weights)
        epoch = state.selected
    scores, labels, rows = _scores(state.model, objective, data, "test", config, device)
    predictions = Predictions(
        names=[data.names[row] for row in rows.tolist()], labels=labels.numpy(), scores=scores.numpy()
    )
    return Conclusion(epoch=epoch, metrics=objective.metrics(scores, labels), predictions=predictions)


def _mean_over_workers(value: Tensor) -> float:
    return float(torch.tensor(distributed.gather(float(value))).mean())


def _to(batch: Batch, device: torch.device) -> Batch:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
