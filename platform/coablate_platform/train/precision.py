"""Autocast: checks whether the device supports it and computes right, and works around wrong gradients on CPUs."""

import contextlib
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from coablate_platform.study.config import TrainingConfig

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(config: TrainingConfig, device: torch.device) -> None:
    """Check that the device has instructions for the precision, and that a GPU computes 3-D convolutions right in it.

    A CPU without them emulates the precision: that is slower than fp32, and torch 2.13 computes wrong gradients. cuDNN
    9.8 to 9.14 compute some 3-D convolutions wrong in bf16.

    Raises:
        ValueError: on a CPU, ``precision`` is fp16, or is bf16 and the CPU has neither AVX512-BF16 nor AMX; on a GPU, a
            convolution is wrong.
    """
    if config.precision == "fp32":
        return
    if device.type != "cpu":
        if wrong := wrong_convolutions(PRECISIONS[config.precision], device):
            cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
            raise ValueError(
                f"training.precision: cuDNN {cudnn} on this GPU computes 3-D convolutions wrong in {config.precision} "
                f"(kernel size {', '.join(map(str, wrong))}); use fp32 or another cuDNN"
            )
        return
    capable = torch.cpu.get_capabilities()
    if config.precision == "fp16" or not (capable.get("avx512_bf16") or capable.get("amx_bf16")):
        raise ValueError(f"training.precision: this CPU has no {config.precision} instructions; use fp32")


@functools.cache
def wrong_convolutions(kind: torch.dtype, device: torch.device) -> tuple[int, ...]:
    """Return the kernel sizes, of those that I3D has, whose convolutions and gradients are not those of fp64.

    Rounding makes a difference of less than a hundredth; the limit is a twentieth of the exact values' norm.
    """
    return tuple(kernel for kernel in (1, 3, 7) if _convolution_error(kernel, kind, device) > 0.05)


def _convolution_error(kernel: int, kind: torch.dtype, device: torch.device) -> float:
    """Return the largest relative error (by norm) of a convolution's output and gradients, on small random clips."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(2, 16, 8, 14, 14, generator=generator).to(device, kind)
    weight = torch.randn(32, 16, kernel, kernel, kernel, generator=generator).to(device, kind)
    results = []
    for dtype in (kind, torch.float64):
        x, w = (tensor.detach().to(dtype).requires_grad_() for tensor in (clips, weight))
        channels_last = x.to(memory_format=torch.channels_last_3d), w.to(memory_format=torch.channels_last_3d)
        out = functional.conv3d(*channels_last, padding=kernel // 2)
        out.backward(torch.ones_like(out))  # type: ignore[no-untyped-call]
        results.append([out.detach().double(), *(tensor.grad.double() for tensor in (x, w) if tensor.grad is not None)])
    return max(float((found - exact).norm() / exact.norm()) for found, exact in zip(*results, strict=True))


def autocast(config: TrainingConfig, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a forward pass and its loss are computed."""
    if config.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, PRECISIONS[config.precision])


def safe_backward(config: TrainingConfig, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a backward pass is computed, with the workaround for CPUs under autocast."""
    if config.precision == "fp32" or device.type != "cpu":
        return contextlib.nullcontext()
    return _Fp64ForShortClips()  # type: ignore[no-untyped-call]  # torch's class is not typed


class _Fp64ForShortClips(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes the backward pass of a 3-D convolution in fp64 where every window reaches into the padding in time.

    For such convolutions, oneDNN (torch 2.13, CPUs with AVX512-BF16) leaves parts of the bf16 weight gradient
    unwritten, so they keep old values of the memory, or writes outside of it. torch does not use oneDNN in fp64.
    """

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution_backward.default and _is_short(*args[1:7]):
            kind = args[1].dtype
            parts = func(*(arg.double() if isinstance(arg, Tensor) else arg for arg in args))
            return tuple(part if part is None else part.to(kind) for part in parts)
        return func(*args, **(kwargs or {}))


def _is_short(
    clip: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> bool:
    """Return whether every window of a convolution over (N, C, T, H, W) reaches into the padding in time.

    The arguments are those of ``aten.convolution_backward`` from the input on.
    """
    if clip.ndim != 5:
        return False
    first = -padding[0] % stride[0]  # first frame of the first window that begins within the clip
    return first + (weight.shape[2] - 1) * dilation[0] >= clip.shape[2]
