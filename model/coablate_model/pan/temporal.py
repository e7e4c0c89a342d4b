"""Temporal convolutions of CTR-GCN: over several scales, and the strided one of a residual.

Shapes: P persons of all clips, C channels, T frames, V joints. Feature maps are (P, C, T, V).

Source: the public code of CTR-GCN (Chen et al., ICCV 2021), which took the multi-scale form from MS-G3D (Liu et al.,
CVPR 2020). Initial values are the public code's: Kaiming-normal weights by fan-out, no bias, and in the multi-scale
convolution batch norm scales around 1.
"""

import torch
from torch import Tensor, nn


def mix_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the 1×1 convolution of (P, C, T, V) with (C', C, 1, 1) and (C'), as a matrix product per person.

    On a CPU, torch's convolution takes up to three times as long at these sizes.
    """
    persons, _, frames, joints = x.shape
    weights = weight.flatten(1).expand(persons, -1, -1)
    biases = bias[:, None].expand(persons, -1, frames * joints)
    return torch.baddbmm(biases, weights, x.flatten(2)).view(persons, -1, frames, joints)


class Conv2d(nn.Conv2d):
    """2-D convolution with Kaiming-normal weights by fan-out, and zero bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', ⌈T/stride⌉, V)."""
        if self.kernel_size == (1, 1) and self.bias is not None:
            return mix_channels(x[:, :, :: self.stride[0]], self.weight, self.bias)
        out: Tensor = super().forward(x)
        return out

    def reset_parameters(self) -> None:
        """Draw new weights and set the bias to 0."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class JitteredBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose scales start at random values around 1."""

    def reset_parameters(self) -> None:
        """Reset the statistics, draw new scales (σ = 0.02) and set the bias to 0."""
        super().reset_parameters()
        nn.init.normal_(self.weight, 1, 0.02)


class TemporalConv(nn.Module):
    """Convolution over frames, and batch norm.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        kernel: kernel size in frames.
        stride: temporal stride.
        dilation: temporal dilation.
        norm: class of the batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: type[nn.BatchNorm2d] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(
            in_channels,
            out_channels,
            (kernel, 1),
            padding=((kernel - 1) * dilation // 2, 0),
            stride=(stride, 1),
            dilation=(dilation, 1),
        )
        self.bn = norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', ⌈T/stride⌉, V)."""
        out: Tensor = self.bn(self.conv(x))
        return out


class MultiScaleTemporalConv(nn.Module):
    """Four branches over frames, each with a quarter of the channels: two dilations, a maximum, and a point.

    Args:
        channels: C, of input and output.
        stride: temporal stride.
    """

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        quarter = channels // 4
        self.branches = nn.ModuleList(
            nn.Sequential(
                *_entry(channels, quarter),
                TemporalConv(quarter, quarter, 5, stride=stride, dilation=dilation, norm=JitteredBatchNorm2d),
            )
            for dilation in (1, 2)
        )
        pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches.append(nn.Sequential(*_entry(channels, quarter), pool, JitteredBatchNorm2d(quarter)))
        point = Conv2d(channels, quarter, 1, stride=(stride, 1))
        self.branches.append(nn.Sequential(point, JitteredBatchNorm2d(quarter)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C, ⌈T/stride⌉, V)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _entry(channels: int, quarter: int) -> list[nn.Module]:
    """Return the layers with which a branch begins."""
    return [Conv2d(channels, quarter, 1), JitteredBatchNorm2d(quarter), nn.ReLU(inplace=True)]
