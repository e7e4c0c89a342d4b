"""An optimiser step: the gradient of a batch, summed over its micro-batches, and the change of the parameters."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coablate_platform.study.config import TrainingConfig
from coablate_platform.study.model import Objective, PretrainingObjective
from coablate_platform.train import whole_batch
from coablate_platform.train.precision import autocast, safe_backward
from coablate_platform.train.state import TrainingState


def take_step(
    network: nn.Module,
    objective: Objective | PretrainingObjective,
    batch: dict[str, Tensor],
    config: TrainingConfig,
    state: TrainingState,
    step: int,
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor], float]]:
    """Take one optimiser step on a batch. The step is complete when the iterator is exhausted.

    Args:
        network: the network, in its wrapper for data-parallel training if there are several workers.
        objective: what is minimised.
        batch: this worker's share of the batch, on its device.
        config: how to train.
        state: the state that changes.
        step: the optimiser step, counted from 0; the optimisers take turns.

    Yields:
        For each micro-batch the outputs, the losses without their graph, and its weight, the share of the batch it is.
    """
    optimiser = state.optimisers[step % len(state.optimisers)]
    network.zero_grad(set_to_none=True)
    size, whole = len(batch["label"]), whole_batch.is_needed(objective)
    micro_size = -(-size // config.accumulate)
    for start in range(0, size, micro_size):
        micro_batch = {name: tensor[start : start + micro_size] for name, tensor in batch.items()}
        weight, device = len(micro_batch["label"]) / size, micro_batch["label"].device
        last = start + micro_size >= size
        accumulates = isinstance(network, DistributedDataParallel) and not last  # workers exchange the last sum only
        with network.no_sync() if accumulates else contextlib.nullcontext():  # type: ignore[operator]
            with autocast(config, device):
                outputs = network(micro_batch)
                if whole:
                    losses = objective.loss(whole_batch.gather(outputs), whole_batch.gather(micro_batch), step)
                else:
                    losses = objective.loss(outputs, micro_batch, step)
            with safe_backward(config, device):
                state.scaler.scale(losses["loss"] * weight).backward()  # type: ignore[no-untyped-call]
        yield outputs, {name: value.detach().float() for name, value in losses.items()}, weight
    if config.clip_norm is not None:
        state.scaler.unscale_(optimiser)
        changed = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(changed, config.clip_norm)
    state.scaler.step(optimiser)
    state.scaler.update()
