"""Gives several workers the loss and the batch norms of one that has the whole batch.

The mean of the workers' gradients is that of one worker on the joined batch: each worker computes the whole loss, and
what it gathered passes each gradient back to the worker from which the value came.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coablate_platform.study.model import NeedsWholeBatch
from coablate_platform.train import distributed


def is_needed(objective: object) -> bool:
    """Return whether an objective needs all clips of a batch at once."""
    return isinstance(objective, NeedsWholeBatch) and objective.needs_whole_batch


def gather(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of all workers, concatenated along the first axis by rank; gradients flow to every worker.

    Args:
        values: tensors whose first axis is that of clips, of the same shape on each worker.
    """
    if distributed.world_size() == 1:
        return values
    return {name: _gathered(value) for name, value in values.items()}


def share_batch_norms(model: nn.Module) -> None:
    """Let each batch norm of a network normalise with the statistics of all workers' clips, in training."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = _Shared(module)  # type: ignore[method-assign, assignment]


def _gathered(value: Tensor) -> Tensor:
    joined: Tensor = _Gather.apply(value)  # type: ignore[no-untyped-call]
    return joined


class _Gather(torch.autograd.Function):
    """Concatenates the tensors of all workers. The gradient of a worker's part is the sum over all workers' losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.count = len(value)
        parts = [torch.empty_like(value) for _ in range(distributed.world_size())]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        own: Tensor = total[ctx.count * distributed.rank() :][: ctx.count]
        return own


class _Shared:
    """The forward pass of a batch norm on all workers' clips.

    Args:
        norm: the module.
    """

    def __init__(self, norm: nn.Module) -> None:
        self._norm = norm

    def __call__(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Normalise this worker's clips (N, C, …) with the statistics of all workers' clips.

        Args:
            x: the clips.
            present: for a batch norm that leaves some out, which of them count (N,).
        """
        own, rest = type(self._norm).forward, () if present is None else (present,)
        if not self._norm.training:
            normalised: Tensor = own(self._norm, x, *rest)
            return normalised
        joined: Tensor = own(self._norm, _gathered(x), *map(_gathered, rest))
        return joined[len(x) * distributed.rank() :][: len(x)]
