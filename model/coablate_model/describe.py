"""Measure what a network costs: parameters, operations of a forward pass, activation memory of a training sample.

The network runs on torch's meta device, which propagates shapes and computes no values: this takes seconds and almost
no memory even at the paper's size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from coablate_model.shape import Shape


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one network.

    Args:
        parameters: number of trainable values.
        flops: floating-point operations of the forward pass of one clip; a multiply-add counts as two.
        activation_bytes: bytes of fp32 activations that each training sample keeps for the backward pass.
    """

    parameters: int
    flops: int
    activation_bytes: int


def measure(build: Callable[[Shape], nn.Module], shape: Shape) -> Cost:
    """Measure the network that ``build`` returns for clips of this shape."""
    with torch.device("meta"):
        model = build(shape)
        # DSFM's batch norm needs two clips in training mode; the third clip's share is the cost of one more sample
        bytes_of_two, bytes_of_three = (_saved_bytes(model, _empty_batch(shape, n)) for n in (2, 3))
        return Cost(
            parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            flops=_forward_flops(model.eval(), _empty_batch(shape, 1)),
            activation_bytes=bytes_of_three - bytes_of_two,
        )


def _empty_batch(shape: Shape, n: int) -> dict[str, Tensor]:
    joints = (shape.frames, shape.joints, shape.persons)
    return {
        "video": torch.empty(n, shape.channels, shape.frames, shape.size, shape.size),
        "skeleton": torch.empty(n, 3, shape.skeleton_frames, shape.joints, shape.persons),
        "frame_skeleton": torch.empty(n, 3, *joints),
        "pixels": torch.empty(n, 2, *joints),
        "visible": torch.empty(n, *joints, dtype=torch.bool),
    }


def _forward_flops(model: nn.Module, batch: dict[str, Tensor]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    total: int = counter.get_total_flops()
    return total


def _saved_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Return the bytes of all distinct storages that autograd saves in a training-mode forward pass.

    Storages of parameters are not counted.
    """
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def save(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage  # the reference keeps the address from being reused
        return x

    with saved_tensors_hooks(save, lambda x: x):
        outputs = model.train()(batch)
    del outputs
    return sum(storage.nbytes() for storage in saved.values())
