"""MFFM, the multimodal feature fusion module, and the head around it (CC-DFARM eq. 19-23).

Shapes: N clips, C fused channels, D time, H height, W width, K classes. Maps are (N, C, D, H, W).

Source: CC-DFARM section 2.6, equal to the dynamic feature fusion of D-Net (Yang et al., 2024). The paper fuses two
equal maps, but behind DSFM2 stand a map and a vector. Our reading: the video map passes a 1×1×1 convolution and batch
norm to C channels, the skeleton vector is projected where its width is not C and repeated at every place.
"""

import torch
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean


class MFFM(nn.Module):
    """Fuse two equal maps, weighted by channel and by place.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_gate = nn.Linear(2 * channels, 2 * channels, bias=False)  # eq. 20's Conv1, on a vector
        self.reduce = nn.Conv3d(2 * channels, channels, 1, bias=False)
        self.place_a = nn.Conv3d(channels, 1, 1)
        self.place_b = nn.Conv3d(channels, 1, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Map two maps (N, C, D, H, W) to one of the same shape."""
        both = torch.cat([a, b], dim=1)
        by_channel = torch.sigmoid(self.channel_gate(spatial_mean(both)))
        reduced: Tensor = self.reduce(scale(both, by_channel))
        return torch.sigmoid(self.place_a(a) + self.place_b(b)) * reduced


class FusionHead(nn.Module):
    """Bring both streams to one size, fuse them by MFFM and classify.

    Args:
        rgb_channels: channels of the video map.
        skeleton_channels: width of the skeleton vector.
        channels: C.
        classes: K.
        dropout: probability in front of the class layer.
    """

    def __init__(
        self, rgb_channels: int, skeleton_channels: int, *, channels: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.rgb = nn.Sequential(nn.Conv3d(rgb_channels, channels, 1, bias=False), nn.BatchNorm3d(channels))
        same = skeleton_channels == channels
        self.skeleton = nn.Identity() if same else nn.Linear(skeleton_channels, channels)
        self.mffm = MFFM(channels)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(channels, classes)

    def forward(self, rgb: Tensor, skeleton: Tensor) -> Tensor:
        """Map (N, C_rgb, D, H, W) and (N, C_skeleton) to scores (N, K)."""
        a = self.rgb(rgb)
        b = self.skeleton(skeleton)[:, :, None, None, None].expand_as(a)
        scores: Tensor = self.logits(self.dropout(spatial_mean(self.mffm(a, b))))
        return scores
