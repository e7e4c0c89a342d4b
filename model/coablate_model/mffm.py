"""MFFM, the multimodal feature fusion module, and the fused head that contains it (CC-DFARM eq. 19-23).

Shapes: N clips, C fused channels, D time, H height, W width, K classes. Maps are (N, C, D, H, W).

Source: CC-DFARM section 2.6, equal to the dynamic feature fusion of D-Net (Yang et al., 2024). The paper fuses two maps
of equal shape, but after DSFM2 the video stream has a map and the skeleton stream a vector. Our reading: a 1×1×1
convolution and batch norm bring the video map to C channels; a linear layer, if its width differs, and batch norm bring
the skeleton vector to C, and it is broadcast over time and space. Without batch norm on both, the stream of the larger
values keeps the other out of the gates, and some runs never use it.
"""

import torch
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean


class MFFM(nn.Module):
    """Fuse two maps of equal shape by a channel gate and a spatial gate.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_gate = nn.Linear(2 * channels, 2 * channels, bias=False)  # Conv1 of eq. 20, applied to a vector
        self.reduce = nn.Conv3d(2 * channels, channels, 1, bias=False)
        self.place_a = nn.Conv3d(channels, 1, 1)
        self.place_b = nn.Conv3d(channels, 1, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse two maps (N, C, D, H, W) to one of the same shape."""
        both = torch.cat([a, b], dim=1)
        channel_gate = torch.sigmoid(self.channel_gate(spatial_mean(both)))
        reduced: Tensor = self.reduce(scale(both, channel_gate))
        spatial_gate = torch.sigmoid(self.place_a(a) + self.place_b(b))
        return spatial_gate * reduced


class FusionHead(nn.Module):
    """Bring both streams to the same shape, fuse them by MFFM and classify.

    Args:
        rgb_channels: channels of the video map.
        skeleton_channels: width of the skeleton vector.
        channels: C.
        classes: K.
        dropout: dropout probability before the class layer.
    """

    def __init__(
        self, rgb_channels: int, skeleton_channels: int, *, channels: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.rgb = nn.Sequential(nn.Conv3d(rgb_channels, channels, 1, bias=False), nn.BatchNorm3d(channels))
        same_width = skeleton_channels == channels
        self.skeleton = nn.Sequential(
            nn.Identity() if same_width else nn.Linear(skeleton_channels, channels), nn.BatchNorm1d(channels)
        )
        self.mffm = MFFM(channels)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(channels, classes)

    def forward(self, rgb: Tensor, skeleton: Tensor) -> Tensor:
        """Map a video map (N, C_rgb, D, H, W) and a skeleton vector (N, C_skeleton) to logits (N, K)."""
        a = self.rgb(rgb)
        b = self.skeleton(skeleton)[:, :, None, None, None].expand_as(a)
        logits: Tensor = self.logits(self.dropout(spatial_mean(self.mffm(a, b))))
        return logits
