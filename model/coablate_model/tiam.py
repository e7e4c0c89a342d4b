"""TIAM, temporospatial interactive attention between two skeleton maps (CC-DFARM eq. 15-18).

Shapes: P maps, one per person, C channels, D = max(⌊C/2⌋, 1) embedding channels, T frames, V joints, S = T·V.

Source: CC-DFARM section 2.4. The paper does not say over which axes its matrix products run. Mode ``channel``, the
default, is that of the public module of this name and these equations (for remote sensing). It has one Gram matrix over
channels, as the text's "consistency across feature channels" has it, and one over all S positions. Mode ``st`` is the
other reading in which the dimensions of (C, HW, T) maps, temporal Y1, spatial Y2 and Y1ᵀ⊗R⊗Y2 agree. It has one Gram
matrix over frames and one over joints. Neither is certain. Eq. 16 has no scaling; ``channel`` has none, ``st`` divides
by the root of the summed length (our choice). Each softmax runs over the axis that is summed against R, so each of the
two directions has its own. The scale of the last batch norm starts at 0 (our choice), so that TIAM leaves a pretrained
network unchanged at the start. The paper writes a map as (C, joints, frames). Here frames come before joints, as in
HCN, which changes no value.

Absent persons have maps too, which mean nothing. They are left out of the statistics of every batch norm (our choice).
"""

from typing import Literal

from torch import Tensor, nn

from coablate_model.masked_norm import MaskedBatchNorm2d


class ZeroBatchNorm2d(MaskedBatchNorm2d):
    """Batch norm whose scale starts at 0, so that a residual branch that ends with it adds nothing at the start."""

    def reset_parameters(self) -> None:
        """Reset the running statistics and set scale and shift to 0."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class TIAM(nn.Module):
    """Add to each of two maps its own content, mixed by its affinity with the other map; shapes stay the same.

    Args:
        channels: C.
        mode: ``channel`` (one Gram matrix over channels, one over positions) or ``st`` (one over frames, one over
            joints).
    """

    def __init__(self, channels: int, mode: Literal["channel", "st"] = "channel") -> None:
        super().__init__()
        self.mode = mode
        inner = max(channels // 2, 1)
        self.content = nn.Sequential(MaskedBatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.embed_a = nn.Sequential(MaskedBatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.embed_b = nn.Sequential(MaskedBatchNorm2d(channels), nn.Conv2d(channels, inner, 1))
        self.restore = nn.Sequential(nn.Conv2d(inner, channels, 1), ZeroBatchNorm2d(channels))

    def forward(self, a: Tensor, b: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map two maps (P, C, T, V) to two of the same shape (eq. 15 and 18).

        Args:
            a: (P, C, T, V).
            b: (P, C, T, V).
            present: (P,), True for the maps of persons who are there; None: all are.
        """
        attend = attend_st if self.mode == "st" else attend_channel
        embedded = _embed(self.embed_a, a, present), _embed(self.embed_b, b, present)
        contents = _embed(self.content, a, present), _embed(self.content, b, present)
        restore, norm = self.restore
        mixed_a, mixed_b = attend(*embedded, *contents)
        return a + norm(restore(mixed_a), present), b + norm(restore(mixed_b), present)


def _embed(layers: nn.Sequential, x: Tensor, present: Tensor | None) -> Tensor:
    norm, convolution = layers
    embedded: Tensor = convolution(norm(x, present))
    return embedded


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
