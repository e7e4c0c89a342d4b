"""DSFM, the dual stream fusion module: split attention over blocks of channels (CC-DFARM eq. 9-14).

Shapes: N clips, C block width, C_m channels of modality m, b_m = ⌈C_m / C⌉ blocks, B = Σ b_m, C' = ⌊C / r⌋.

Source: CC-DFARM section 2.3; equal to the multimodal split attention of Su et al., "MSAF", 2020. The paper gives no
values for the floor λ and the reduction r; 0.5 and 4 are those of MSAF's public code. It does not say whether a gate
varies over space; here it is shared over space and time. Our reading: a modality can be absent from a clip, as a second
person is. Its blocks are then left out of the context and of the softmax.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.gating import scale, spatial_mean


class DSFM(nn.Module):
    """Recalibrate the maps of several modalities by one softmax attention over the blocks of all of them.

    In training mode the batch norm on the joint vector needs at least two clips.

    Args:
        in_channels: C_m of every modality.
        channels: C; if it does not divide C_m, the modality's last block is filled up with zeros.
        floor: λ, the lower bound of a gate; with λ = 1 the module is the identity.
        reduction: r.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, floor: float = 0.5, reduction: int = 4) -> None:
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.channels = channels
        self.floor = floor
        self.block_counts = [-(-c // channels) for c in in_channels]
        joint = channels // reduction
        self.joint = nn.Linear(channels, joint)
        self.norm = nn.BatchNorm1d(joint)
        self.excite = nn.Linear(joint, sum(self.block_counts) * channels)  # the linear layers C'→C of all blocks

    def forward(self, maps: Sequence[Tensor], present: Tensor | None = None) -> list[Tensor]:
        """Gate one map (N, C_m, *spatial) or vector (N, C_m) per modality; shapes stay the same (eq. 13-14).

        Args:
            maps: one per modality.
            present: (N, number of modalities), True where a clip has the modality; None: every clip has all of them.
        """
        gates = torch.split(self.gates(maps, present), self.block_counts, dim=1)
        channel_gates = [gate.flatten(1)[:, :c] for gate, c in zip(gates, self.in_channels, strict=True)]
        return [scale(x, gate) for x, gate in zip(maps, channel_gates, strict=True)]

    def gates(self, maps: Sequence[Tensor], present: Tensor | None = None) -> Tensor:
        """Return the gates of all blocks, (N, B, C) in [λ, 1]; those of an absent modality are λ (eq. 9-12).

        The mean over space is taken before the sum over blocks. Both orders give the same result, and this one pads
        vectors instead of maps.
        """
        descriptors = torch.stack([self._descriptor(x) for x in maps], dim=1)
        if present is not None:
            descriptors = descriptors.masked_fill(~present[:, :, None], 0)
        z = F.relu(self.norm(self.joint(descriptors.sum(1))))
        scores = self.excite(z).view(len(z), -1, self.channels)
        if present is not None:
            scores = scores.masked_fill(~self._per_block(present)[:, :, None], float("-inf"))
        gates: Tensor = self.floor + (1 - self.floor) * scores.softmax(1)
        return gates

    def _per_block(self, present: Tensor) -> Tensor:
        """Repeat (N, number of modalities) for the blocks of each modality, (N, B)."""
        return torch.cat([present[:, [i]].expand(-1, blocks) for i, blocks in enumerate(self.block_counts)], dim=1)

    def _descriptor(self, x: Tensor) -> Tensor:
        """Return the spatial mean of a modality's summed blocks, (N, C) (eq. 9)."""
        mean = F.pad(spatial_mean(x), (0, -x.shape[1] % self.channels))
        return mean.view(len(mean), -1, self.channels).sum(1)
