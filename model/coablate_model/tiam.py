"""TIAM, temporospatial interactive attention between two skeleton maps (CC-DFARM eq. 15-18).

Shapes: N maps, C channels, D = max(⌊C/2⌋, 1) embedded channels, V places (joints), T frames, S = T·V.

Source: CC-DFARM section 2.4. The paper leaves open which axes its products run over. Mode ``st`` is the only reading
in which its (C, HW, T) maps, temporal Y1, spatial Y2 and Y1ᵀ⊗R⊗Y2 agree in dimension, and is the default; mode
``channel`` is the public ancestor's, with one Gram matrix over channels and one over all positions. Each softmax runs
over the axis that is summed against R, hence anew for each direction. The last batch norm starts at 0 (our choice), so
that a pretrained network is unchanged at the start. The paper writes a map as (C, places, frames); here frames come
first, as HCN has them, which changes no number.
"""

from typing import Literal

from torch import Tensor, nn


class ZeroBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose scale starts at 0, so that the branch that it ends adds nothing at the start."""

    def reset_parameters(self) -> None:
        """Reset the statistics, the scale to 0 and the shift to 0."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class TIAM(nn.Module):
    """Attention of two maps to each other; both keep their shape.

    Args:
        channels: C.
        mode: ``st`` (temporal and spatial Gram matrices) or ``channel`` (the ancestor's).
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
        attend = interact_st if self.mode == "st" else interact_channel
        to_a, to_b = attend(self.embed_a(a), self.embed_b(b), self.content(a), self.content(b))
        return a + self.restore(to_a), b + self.restore(to_b)


def interact_st(embed_a: Tensor, embed_b: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange contents (N, D, T, V) through a Gram matrix over frames and one over places (eq. 16-17)."""
    _, d, t, v = embed_a.shape
    frames_a, frames_b = (e.transpose(1, 2).flatten(2) for e in (embed_a, embed_b))  # (N, T, D·V)
    places_a, places_b = (e.permute(0, 3, 1, 2).flatten(2) for e in (embed_a, embed_b))  # (N, V, D·T)
    temporal = frames_a @ frames_b.mT / (d * v) ** 0.5
    spatial = places_a @ places_b.mT / (d * t) ** 0.5
    return _exchange(temporal[:, None], spatial[:, None], content_a, content_b)


def interact_channel(embed_a: Tensor, embed_b: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Exchange contents (N, D, T, V) through a Gram matrix over channels and one over positions (eq. 16-17)."""
    flat_a, flat_b = embed_a.flatten(2), embed_b.flatten(2)  # (N, D, S)
    to_a, to_b = _exchange(flat_a @ flat_b.mT, flat_a.mT @ flat_b, content_a.flatten(2), content_b.flatten(2))
    return to_a.reshape(content_a.shape), to_b.reshape(content_b.shape)


def _exchange(rows: Tensor, columns: Tensor, content_a: Tensor, content_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return Yᵣᵀ·R_a·Y_c and Yᵣ·R_b·Y_cᵀ, each Y normalised over the axis that is summed.

    Args:
        rows: (..., I, J), affinity of row i of ``a`` and row j of ``b``.
        columns: (..., S, T), affinity of column s of ``a`` and column t of ``b``.
        content_a: (..., I, S).
        content_b: (..., J, T).
    """
    to_a = rows.softmax(-2).mT @ (content_a @ columns.softmax(-2))
    to_b = rows.softmax(-1) @ (content_b @ columns.softmax(-1).mT)
    return to_a, to_b
