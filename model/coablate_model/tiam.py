"""TIAM, temporospatial interactive attention between two skeleton maps (CC-DFARM eq. 15-18).

Shapes: N maps, C channels, D = max(⌊C/2⌋, 1) embedding channels, T frames, V joints, S = T·V.

Source: CC-DFARM section 2.4. The paper does not say over which axes its matrix products run. Mode ``st``, the default,
is the only reading in which the dimensions of its (C, HW, T) maps, temporal Y1, spatial Y2 and Y1ᵀ⊗R⊗Y2 agree. Mode
``channel`` is the public ancestor's, with one Gram matrix over channels and one over all S positions. Each softmax runs
over the axis that is summed against R, so each of the two directions has its own. The scale of the last batch norm
starts at 0 (our choice), so that TIAM leaves a pretrained network unchanged at the start. The paper writes a map as
(C, joints, frames); here frames come before joints, as in HCN, which changes no value.
"""

from typing import Literal

from torch import Tensor, nn


class ZeroBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose scale starts at 0, so that a residual branch that ends with it adds nothing at the start."""

    def reset_parameters(self) -> None:
        """Reset the running statistics and set scale and shift to 0."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class TIAM(nn.Module):
    """Add to each of two maps its own content, mixed by its affinity with the other map; shapes stay the same.

    Args:
        channels: C.
        mode: ``st`` (one Gram matrix over frames, one over joints) or ``channel`` (one over channels, one over
            positions).
    """

    def __init__(self, channels: int, mode: Literal["st", "channel"] = "st") -> None:
        super().__init__()
        self.mode = mode
        inner = max(channels // 2, 1)
        self.content = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.embed_a = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.embed_b = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.restore = nn.Sequential(nn.Conv2d(inner, channels, 1), ZeroBatchNorm2d(channels))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Map two maps (N, C, T, V) to two of the same shape (eq. 15 and 18)."""
        attend = attend_st if self.mode == "st" else attend_channel
        mixed_a, mixed_b = attend(self.embed_a(a), self.embed_b(b), self.content(a), self.content(b))
        return a + self.restore(mixed_a), b + self.restore(mixed_b)


def attend_st(embed_a: Tensor, embed_b: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Mix contents R (N, D, T, V) by a Gram matrix over frames and one over joints (eq. 16-17)."""
    _, d, t, v = embed_a.shape
    frames_a, frames_b = (e.transpose(1, 2).flatten(2) for e in (embed_a, embed_b))  # (N, T, D·V)
    joints_a, joints_b = (e.permute(0, 3, 1, 2).flatten(2) for e in (embed_a, embed_b))  # (N, V, D·T)
    temporal = frames_a @ frames_b.mT / (d * v) ** 0.5
    spatial = joints_a @ joints_b.mT / (d * t) ** 0.5
    return _mix(temporal[:, None], spatial[:, None], content_a, content_b)


def attend_channel(embed_a: Tensor, embed_b: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Mix contents R (N, D, T, V) by a Gram matrix over channels and one over positions (eq. 16-17)."""
    flat_a, flat_b = embed_a.flatten(2), embed_b.flatten(2)  # (N, D, S)
    mixed_a, mixed_b = _mix(flat_a @ flat_b.mT, flat_a.mT @ flat_b, content_a.flatten(2), content_b.flatten(2))
    return mixed_a.reshape(content_a.shape), mixed_b.reshape(content_b.shape)


def _mix(rows: Tensor, columns: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return Y1ᵀ·R_a·Y2 and Y1·R_b·Y2ᵀ, with softmaxes Y1 of ``rows`` and Y2 of ``columns``.

    Each product has softmaxes of its own, over the axis that it sums.

    Args:
        rows: Gram matrix (..., I, J) of the rows of ``a`` and ``b``.
        columns: Gram matrix (..., K, L) of the columns of ``a`` and ``b``.
        content_a: R_a (..., I, K).
        content_b: R_b (..., J, L).
    """
    mixed_a = rows.softmax(-2).mT @ (content_a @ columns.softmax(-2))
    mixed_b = rows.softmax(-1) @ (content_b @ columns.softmax(-1).mT)
    return mixed_a, mixed_b
