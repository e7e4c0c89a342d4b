"""The few collective operations the loop needs; with one worker they do nothing. No Ray here."""

from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    """Return this worker's number, 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: Any) -> list[Any]:
    """Return every worker's ``value``, by rank, on all of them."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def share(value: Any) -> Any:
    """Return rank 0's ``value`` on all workers."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def join(part: torch.Tensor) -> torch.Tensor:
    """Return the workers' tensors one after the other along the first axis, on the CPU."""
    return torch.cat(gather(part.cpu()))
