"""DSFM, the dual stream fusion module: split attention over blocks of channels (CC-DFARM eq. 9-14).

Shapes: N clips, C block width, C_m channels of modality m, b_m = ⌈C_m / C⌉ blocks, B = Σ b_m, C' = ⌊C / r⌋.

Source: CC-DFARM section 2.3; equal to the multimodal split attention of Su et al., "MSAF", 2020. The paper gives
neither the floor λ nor the reduction r; 0.5 and 4 are the ancestor's. The gate is the same at every place.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean


class DSFM(nn.Module):
    """Recalibrate the maps of several modalities by attention over all their blocks.

    In training the batch norm on the joint vector needs at least two clips.

    Args:
        in_channels: C_m of every modality.
        channels: C; channels of a modality that do not fill its last block count as zeros.
        floor: λ, the least a gate can be; at 1 the module is the identity.
        reduction: r.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, floor: float = 0.5, reduction: int = 4) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.channels = channels
        self.floor = floor
        self.blocks = [-(-c // channels) for c in in_channels]
        joint = channels // reduction
        self.joint = nn.Linear(channels, joint)
        self.norm = nn.BatchNorm1d(joint)
        self.excite = nn.Linear(joint, sum(self.blocks) * channels)  # every block's own C'→C, side by side

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Gate one map per modality, (N, C_m, *spatial); a vector is (N, C_m). The shapes stay (eq. 13-14)."""
        gates = torch.split(self.gates(maps), self.blocks, dim=1)
        channels = [gate.flatten(1)[:, :c] for gate, c in zip(gates, self.in_channels, strict=True)]
        return [scale(x, gate) for x, gate in zip(maps, channels, strict=True)]

    def gates(self, maps: Sequence[Tensor]) -> Tensor:
        """Return every block's gate (N, B, C) in [λ, 1] (eq. 9-12).

        The mean over space is taken before the sum over blocks, which is the same number, so that no map is padded.
        """
        context = torch.stack([self._descriptor(x) for x in maps]).sum(0)
        z = F.relu(self.norm(self.joint(context)))
        attention = self.excite(z).view(len(z), -1, self.channels).softmax(1)
        gates: Tensor = self.floor + (1 - self.floor) * attention
        return gates

    def _descriptor(self, x: Tensor) -> Tensor:
        """Return the sum of a modality's blocks, averaged over space, (N, C) (eq. 9)."""
        mean = F.pad(spatial_mean(x), (0, -x.shape[1] % self.channels))
        return mean.view(len(mean), -1, self.channels).sum(1)
