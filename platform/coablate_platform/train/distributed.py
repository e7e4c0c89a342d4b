"""The collective operations that training needs; with one worker they return their argument. No Ray here."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


def rank() -> int:
    """Return the rank of this worker; 0 with one worker."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of workers."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_gather(value: Value) -> list[Value]:
    """Return the values of all workers by rank, on every worker."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Value) -> Value:
    """Return the value of rank 0 on every worker."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_gather_tensor(tensor: torch.Tensor | None) -> torch.Tensor:
    """Return the tensors of all workers concatenated along the first axis by rank, on every worker's CPU.

    Args:
        tensor: this worker's tensor, or None if it has none. At least one worker has one.
    """
    return torch.cat([part for part in all_gather(None if tensor is None else tensor.cpu()) if part is not None])


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Copy a module's buffers from rank 0 to every worker."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
