"""MMTM, the multimodal transfer module: squeeze two streams together, gate both (CC-DFARM eq. 3-8).

Shapes: N clips, M persons, C and C' channels of video and skeleton, Z joint width.

Source: Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020, as CC-DFARM section 1.3 restates it.
The equations scale the gate by 2 and have no ReLU on Z, the public code has no 2 but a ReLU; both are switches. Several
persons are our reading: the squeeze sees their elementwise maximum, and one gate serves all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean
from coablate_model.hcn import person_max


class MMTM(nn.Module):
    """Recalibrate a video map and the skeleton maps by one joint squeeze.

    Args:
        channels: C and C'.
        ratio: Z = ⌊2(C + C') / ratio⌋.
        gain: scale of the gates; at 2, a gate of σ(0) is the identity.
        relu: whether Z passes a ReLU.
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
        """Gate both streams.

        Args:
            rgb: (N, C, T, H, W).
            skeleton: (N, M, C', *spatial); spatial is empty for a vector.
            present: (N, M), the persons that the squeeze sees.

        Returns:
            Maps of the same shapes.
        """
        joined = torch.cat([spatial_mean(rgb), spatial_mean(person_max(skeleton, present))], dim=1)
        z = self.squeeze(joined)
        if self.relu:
            z = F.relu(z)
        rgb_gate = self.gain * torch.sigmoid(self.excite_rgb(z))
        skeleton_gate = self.gain * torch.sigmoid(self.excite_skeleton(z))
        shared = skeleton_gate[:, None].expand(skeleton.shape[:3]).flatten(0, 1)
        return scale(rgb, rgb_gate), scale(skeleton.flatten(0, 1), shared).view_as(skeleton)
