"""Autocast: where it may be used, and what torch gets wrong under it on a CPU."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from coablate_platform.study.config import TrainingConfig

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(config: TrainingConfig, device: torch.device) -> None:
    """Refuse autocast where the CPU only imitates it: slower than fp32, and torch 2.13's gradients are wrong there.

    Raises:
        ValueError: ``precision`` is not fp32 and the CPU lacks AVX512-BF16 or AMX, or is not for fp16 at all.
    """
    if device.type != "cpu" or config.precision == "fp32":
        return
    capable = torch.cpu.get_capabilities()
    if config.precision == "fp16" or not (capable.get("avx512_bf16") or capable.get("amx_bf16")):
        raise ValueError(f"training.precision: this CPU has no {config.precision} instructions; use fp32")


def autocast(config: TrainingConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass."""
    if config.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[config.precision])


def sound_gradients(config: TrainingConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a backward pass."""
    if config.precision == "fp32" or device.type != "cpu":
        return contextlib.nullcontext()
    return _ShortClipsInFp64()  # type: ignore[no-untyped-call]  # torch's own


class _ShortClipsInFp64(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes gradients of 3-D convolutions in fp64, where no window lies within the clip's frames.

    There oneDNN (torch 2.13, CPUs with AVX512-BF16) leaves bf16 weight gradients partly unwritten, so that they hold
    what the memory held before, or writes beyond them. It has no part in fp64.
    """

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution_backward.default and _is_short(*args[1:7]):
            kind = args[1].dtype
            parts = func(*(arg.double() if isinstance(arg, Tensor) else arg for arg in args))
            return tuple(part if part is None else part.to(kind) for part in parts)
        return func(*args, **(kwargs or {}))


def _is_short(clip: Tensor, weight: Tensor, biases: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    """Say whether every window of a convolution over (N, C, T, H, W) reaches into its padding, before or behind."""
    if clip.ndim != 5:
        return False
    first = -padding[0] % stride[0]  # frame of the first window that begins within the clip
    return bool(first + (weight.shape[2] - 1) * dilation[0] >= clip.shape[2])
