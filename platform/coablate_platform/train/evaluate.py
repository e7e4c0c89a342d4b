"""Evaluates a network on a split: its scores, its loss, and where the objective retrieves, its features."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from coablate_platform.study.config import Phase
from coablate_platform.study.model import FitsToValidation, HasHeads, Objective, Retrieves
from coablate_platform.train import distributed
from coablate_platform.train.events import Conclusion, Predictions
from coablate_platform.train.failures import DivergedError
from coablate_platform.train.precision import autocast
from coablate_platform.train.state import TrainingState
from coablate_platform.train.task import Batch, DataSplits, Task

_HEAD = "head "


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    """What a network says of N clips, in the store's order, on the CPU.

    Args:
        labels: classes of the clips, (N,).
        rows: rows of the clips in the store, (N,).
        scores: scores of the K classes, (N, K); without columns where nothing is classified.
        heads: scores (N, K) by head, where the objective has heads.
        features: features of the clips, (N, D); without columns where the objective does not retrieve.
        loss: mean training loss over the clips; of an objective with turns, the mean over the turns too; 0 where
            nothing is classified.
    """

    labels: Tensor
    rows: Tensor
    scores: Tensor
    heads: dict[str, Tensor]
    features: Tensor
    loss: float


@torch.no_grad()
def _evaluate(state: TrainingState, phase: Phase, data: DataSplits, split: str, device: torch.device) -> _Evaluation:
    """Evaluate the network on a split."""
    model, objective = state.model, phase.objective
    model.eval()
    parts: dict[str, list[Tensor]] = defaultdict(list)
    loss = 0.0
    for batch in data.evaluate(split, phase.training.batch_size, distributed.rank(), distributed.world_size()):
        on_device = to_device(batch, device)
        with autocast(phase.training, device):
            outputs = model(on_device)
            if isinstance(objective, Objective):
                losses = [objective.loss(outputs, on_device, turn)["loss"] for turn in range(len(state.optimisers))]
                loss += float(torch.stack(losses).mean()) * len(batch["label"])
            found = _scores(objective, outputs)
        for name, tensor in {"label": batch["label"], "index": batch["index"], **found}.items():
            parts[name].append(tensor.cpu() if name in batch else tensor.float().cpu())
    joined = distributed.all_gather({name: torch.cat(tensors) for name, tensors in parts.items()})
    columns = {name: torch.cat([own[name] for own in joined if own]) for name in max(joined, key=len)}
    order = columns["index"].argsort()
    columns = {name: column[order] for name, column in columns.items()}
    nothing = torch.zeros(len(order), 0)
    return _Evaluation(
        labels=columns["label"],
        rows=columns["index"],
        scores=columns.get("scores", nothing),
        heads={name.removeprefix(_HEAD): column for name, column in columns.items() if name.startswith(_HEAD)},
        features=columns.get("features", nothing),
        loss=sum(distributed.all_gather(loss)) / len(order),
    )


def _scores(objective: object, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what an objective makes of the outputs: scores, scores of heads, features."""
    found: dict[str, Tensor] = {}
    if isinstance(objective, Objective):
        found["scores"] = objective.predict(outputs)
    if isinstance(objective, HasHeads):
        found |= {f"{_HEAD}{name}": scores for name, scores in objective.head_scores(outputs).items()}
    if isinstance(objective, Retrieves):
        found["features"] = objective.features(outputs)
    return found


def validate(state: TrainingState, phase: Phase, data: DataSplits, device: torch.device) -> dict[str, float]:
    """Return the metrics of a phase on the validation split, and its loss where clips are classified.

    Retrieval needs a pass over the clips that train. It is evaluated after the phase's last epoch only.

    Raises:
        DivergedError: a score or metric is not finite.
    """
    objective, where, metrics = phase.objective, f"validation of epoch {state.epoch}", {}
    last = state.epoch == phase.ends
    if not isinstance(objective, Objective) and not last:
        return {}
    found = _evaluate(state, phase, data, "validation", device)
    if isinstance(objective, Objective):
        metrics = finite_metrics(objective, found.scores, found.labels, where) | {"loss": found.loss}
    return metrics | (_retrieval(state, phase, data, found, where, device) if last else {})


def _retrieval(
    state: TrainingState, phase: Phase, data: DataSplits, found: _Evaluation, where: str, device: torch.device
) -> dict[str, float]:
    """Return the retrieval metrics of a split, with the training split as the gallery; none where nothing is retrieved.

    Raises:
        DivergedError: a feature or a metric is not finite.
    """
    objective = phase.objective
    if not isinstance(objective, Retrieves):
        return {}
    gallery = _evaluate(state, phase, data, phase.split, device)
    for features in (gallery.features, found.features):
        if not features.isfinite().all():
            raise DivergedError(f"the features of a clip are not finite in the {where}")
    return _finite(objective.retrieval_metrics(gallery.features, gallery.labels, found.features, found.labels), where)


def finite_metrics(objective: Objective, scores: Tensor, labels: Tensor, where: str) -> dict[str, float]:
    """Return the objective's metrics.

    Raises:
        DivergedError: a score is NaN or +∞, which has no rank among the others, or a metric is not finite.
    """
    if torch.isnan(scores).any() or torch.isposinf(scores).any():
        count = int((torch.isnan(scores) | torch.isposinf(scores)).any(1).sum())
        raise DivergedError(f"the scores of {count} of {len(scores)} clips are not finite in the {where}")
    return _finite(objective.metrics(scores, labels), where)


def _finite(metrics: Mapping[str, float], where: str) -> dict[str, float]:
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is {value} in the {where}")
    return dict(metrics)


def conclude(task: Task, state: TrainingState, data: DataSplits, device: torch.device) -> Conclusion:
    """Load the selected epoch's weights, and test them if the run is to be tested.

    Raises:
        DivergedError: a score, a feature or a metric is not finite.
    """
    phase, epoch = task.config.phases[-1], state.epoch
    if phase.training.selection != "last":
        state.model.load_state_dict(state.selected_weights)
        epoch = state.selected
    if not task.tested:
        return Conclusion(epoch=epoch)
    objective, where = phase.objective, f"test of epoch {epoch}"
    assert isinstance(objective, Objective)  # the last phase classifies
    if isinstance(objective, FitsToValidation) and data.sizes["validation"]:
        validation = _evaluate(state, phase, data, "validation", device)
        objective.fit(state.model, validation.heads, validation.labels)
    found = _evaluate(state, phase, data, "test", device)
    metrics = finite_metrics(objective, found.scores, found.labels, where)
    for head, scores in found.heads.items():
        of_head = finite_metrics(objective, scores, found.labels, where)
        metrics |= {f"{name}_{head}": value for name, value in of_head.items()}
    metrics |= _retrieval(state, phase, data, found, where, device)
    names = [data.names[row] for row in found.rows.tolist()]
    predictions = Predictions(names=names, labels=found.labels.numpy(), scores=found.scores.numpy())
    return Conclusion(epoch=epoch, metrics=metrics, predictions=predictions)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
