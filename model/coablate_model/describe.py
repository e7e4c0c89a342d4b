"""What a network costs, without running it: parameters, operations of a clip, memory a training sample needs.

Everything is computed on torch's meta device, so that a paper-size network takes seconds and no memory.
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
    """What one network costs.

    Args:
        parameters: number of trained values.
        flops: floating-point operations of one clip's forward pass; a multiply-add counts as two.
        activation_bytes: activations that one more training sample keeps for the backward pass, in bytes at fp32.
    """

    parameters: int
    flops: int
    activation_bytes: int


def measure(build: Callable[[Shape], nn.Module], shape: Shape) -> Cost:
    """Return the cost of the network that ``build`` makes for clips of this shape."""
    with torch.device("meta"):
        model = build(shape)
        two, three = (_saved_bytes(model, _batch(shape, n)) for n in (2, 3))
        return Cost(
            parameters=sum(p.numel() for p in model.parameters()),
            flops=_flops(model.eval(), _batch(shape, 1)),
            activation_bytes=three - two,
        )


def _batch(shape: Shape, n: int) -> dict[str, Tensor]:
    return {
        "video": torch.empty(n, shape.channels, shape.frames, shape.size, shape.size),
        "skeleton": torch.empty(n, 3, shape.skeleton_frames, shape.joints, shape.persons),
    }


def _flops(model: nn.Module, batch: dict[str, Tensor]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    total: int = counter.get_total_flops()
    return total


def _saved_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Return the bytes of all distinct storages that autograd keeps, parameters apart."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other storage takes its address
        return x

    with saved_tensors_hooks(keep, lambda x: x):
        outputs = model.train()(batch)
    del outputs
    return sum(storage.nbytes() for storage in kept.values())
