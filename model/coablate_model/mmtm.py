"""MMTM, the multimodal transfer module: squeeze-and-excitation over two streams (CC-DFARM eq. 3-8).

Shapes: N clips, M persons, C and C' channels of the video and the skeleton map, Z the joint vector.

Source: Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020, as restated in CC-DFARM section 1.3.
The paper's equations multiply the gate by 2 and have no ReLU on Z; the public code has a gain of 1 and a ReLU. Both are
settings. Our reading for several persons: the squeeze sees their elementwise maximum, and all get the same gate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean
from coablate_model.hcn import person_max


class MMTM(nn.Module):
    """Recalibrate a video map and skeleton maps by channel gates computed from both.

    Args:
        channels: (C, C').
        ratio: Z has ⌊2(C + C') / ratio⌋ channels.
        gain: factor on the sigmoid gates; with a gain of 2, a sigmoid at 0 leaves the map unchanged.
        relu: apply a ReLU to Z.
    """

    def __init__(self, channels: tuple[int, int], *, ratio: int = 4, gain: float = 2.0, relu: bool = True) -> None:
        super().__init__()
        self.gain = gain
        self.relu = relu
        joint = int(2 * sum(channels) / ratio)
        self.squeeze = nn.Linear(sum(channels), joint)
        self.excite_rgb = nn.Linear(joint, channels[0])
        self.excite_skeleton = nn.Linear(joint, channels[1])

    def forward(self, rgb: Tensor, skeleton: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Gate the channels of both streams.

        Args:
            rgb: (N, C, T, H, W).
            skeleton: (N, M, C', *spatial); a vector has no spatial axes.
            present: (N, M), True for the persons whose maximum is squeezed; all persons are gated.

        Returns:
            Both maps, recalibrated, in the same shapes.
        """
        squeezed = torch.cat([spatial_mean(rgb), spatial_mean(person_max(skeleton, present))], dim=1)
        z = self.squeeze(squeezed)
        if self.relu:
            z = F.relu(z)
        rgb_gate = self.gain * torch.sigmoid(self.excite_rgb(z))
        skeleton_gate = self.gain * torch.sigmoid(self.excite_skeleton(z))
        gate_per_person = skeleton_gate[:, None].expand(skeleton.shape[:3]).flatten(0, 1)
        return scale(rgb, rgb_gate), scale(skeleton.flatten(0, 1), gate_per_person).view_as(skeleton)
