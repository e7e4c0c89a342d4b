"""I3D, the video stream: Inception-v1 with every filter inflated to three dimensions.

Shapes: N clips, C channels, T frames, H height, W width, K classes, s stride. Feature maps are (N, C, T, H, W).

Source: Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017. The state-dict keys are those of the
published PyTorch port, so its Kinetics weights can be loaded. Two readings are ours. The window of the last average
pool follows the size of the map; the published window needs frames of 224 pixels and at least 16 frames, and ours is
the same there. ``width`` scales every channel count.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch.nn.functional as F
from torch import Tensor, cat, nn
from torch.utils.checkpoint import checkpoint

STEM_CHANNELS = 64
LAST_STEM_CHANNELS = 192

POOLS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
"""Endpoint to (kernel, stride)."""

INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Endpoint to the output channels of its convolutions b0, b1a, b1b, b2a, b2b, b3b."""

ENDPOINTS = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
"""All endpoints of the trunk, in order of execution."""


def scaled(channels: int, width: float) -> int:
    """Multiply a channel count by ``width`` and round to a multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def inception_channels(name: str, width: float) -> int:
    """Return the output channels of the Inception block ``name`` at this width multiplier."""
    b0, _, b1b, _, b2b, b3b = (scaled(c, width) for c in INCEPTIONS[name])
    return b0 + b1b + b2b + b3b


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis, (front, back)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv3d(nn.Conv3d):
    """3-D convolution with TensorFlow's SAME zero padding.

    SAME padding may need one more zero at the back than at the front. The convolution itself pads both sides equally;
    the input is copied to add the extra zero only where one is needed.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's parameter name
        """Map (N, C, T, H, W) to (N, C', ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉)."""
        axes = zip(input.shape[2:], self.kernel_size, self.stride, strict=True)
        pads = [same_padding(*axis) for axis in axes]
        extra = [amount for front, back in reversed(pads) for amount in (0, back - front)]
        if any(extra):
            input = F.pad(input, extra)  # noqa: A001
        return F.conv3d(input, self.weight, self.bias, self.stride, [front for front, _ in pads])


class Unit3D(nn.Module):
    """Convolution, batch norm and ReLU; Unit3D of the published port."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = SameConv3d(channels, out_channels, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉), without negative values."""
        return F.relu(self.bn(self.conv3d(x)), inplace=True)


class SameMaxPool3d(nn.Module):
    """Max-pooling with TensorFlow's SAME zero padding.

    All maps pooled in I3D are non-negative: they come from a ReLU, and gates are non-negative too. A padded zero
    therefore never changes a maximum, and torch's pooling in ceil mode, which ignores padded values, gives the same
    result without a padded copy.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, ⌈T/s⌉, ⌈H/s⌉, ⌈W/s⌉)."""
        axes = zip(x.shape[2:], self.kernel, self.stride, strict=True)
        front = [same_padding(*axis)[0] for axis in axes]
        return F.max_pool3d(x, self.kernel, self.stride, front, ceil_mode=True)


class Inception(nn.Module):
    """Inception block: four parallel branches, concatenated over channels."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = widths
        self.b0 = Unit3D(channels, b0)
        self.b1a = Unit3D(channels, b1a)
        self.b1b = Unit3D(b1a, b1b, kernel=3)
        self.b2a = Unit3D(channels, b2a)
        self.b2b = Unit3D(b2a, b2b, kernel=3)
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, b0 + b1b + b2b + b3b, T, H, W)."""
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return cat(branches, dim=1)


class ClassLayer(nn.Module):
    """Class layer: a 1×1×1 convolution, with the state-dict keys of the published port."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, 1, 1) to (N, K, T, 1, 1)."""
        logits: Tensor = self.conv3d(x)
        return logits


class I3D(nn.Module):
    """I3D's trunk up to ``Mixed_5c``, and its class layer.

    Args:
        classes: K.
        channels: video channels.
        width: multiplier of every channel count.
        dropout: dropout probability before the class layer.
        norm_momentum: momentum of batch norm, the weight of a batch in the running statistics.
        checkpoint_activations: save only the endpoints' inputs for the backward pass, and recompute the other
            activations there.
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        norm_momentum: float = 0.01,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        stem, last_stem = scaled(STEM_CHANNELS, width), scaled(LAST_STEM_CHANNELS, width)
        self.add_module("Conv3d_1a_7x7", Unit3D(channels, stem, kernel=7, stride=2))
        self.add_module("Conv3d_2b_1x1", Unit3D(stem, stem))
        self.add_module("Conv3d_2c_3x3", Unit3D(stem, last_stem, kernel=3))
        for name, (kernel, stride) in POOLS.items():
            self.add_module(name, SameMaxPool3d(kernel, stride))
        in_channels = last_stem
        for name, widths in INCEPTIONS.items():
            self.add_module(name, Inception(in_channels, tuple(scaled(c, width) for c in widths)))
            in_channels = inception_channels(name, width)
        self.dropout = nn.Dropout(dropout)
        self.logits = ClassLayer(in_channels, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = norm_momentum

    def advance(self, x: Tensor, after: str | None, upto: str) -> Tensor:
        """Run the endpoints that follow ``after``, up to and including ``upto``.

        Args:
            x: output of endpoint ``after``; the clips (N, C, T, H, W) if it is None.
            after: endpoint that has been run last; None starts at the first.
            upto: endpoint whose output is returned.

        Returns:
            The feature map of ``upto``.
        """
        first = 0 if after is None else ENDPOINTS.index(after) + 1
        for name in ENDPOINTS[first : ENDPOINTS.index(upto) + 1]:
            endpoint = self.get_submodule(name)
            if self.checkpoint_activations and self.training:
                x = checkpoint(endpoint, x, use_reentrant=False, context_fn=partial(_checkpoint_contexts, endpoint))
            else:
                x = endpoint(x)
        return x

    def classify(self, x: Tensor) -> Tensor:
        """Map the output of ``Mixed_5c`` (N, C, T', H', W') to logits (N, K).

        The published average pool has the window (2, 7, 7), which covers all of the space and two neighbouring
        frames; here it is (min(2, T'), H', W'). The logits of all windows are averaged.
        """
        frames = x.mean((3, 4))
        windows = F.avg_pool1d(frames, min(2, frames.shape[2]), stride=1)
        logits: Tensor = self.logits(self.dropout(windows)[..., None, None])
        return logits.flatten(2).mean(2)

    def forward(self, video: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to logits (N, K)."""
        return self.classify(self.advance(video, None, ENDPOINTS[-1]))


def _checkpoint_contexts(endpoint: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a checkpointed endpoint's forward pass and of its recomputation."""
    return nullcontext(), _frozen_statistics(endpoint)


@contextmanager
def _frozen_statistics(endpoint: nn.Module) -> Iterator[None]:
    """Stop updates of the running statistics, so that a recomputed batch does not count twice."""
    norms = [module for module in endpoint.modules() if isinstance(module, nn.BatchNorm3d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
