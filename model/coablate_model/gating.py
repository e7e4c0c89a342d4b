"""Operations that MMTM, DSFM and MFFM share: global average pooling and channel gating.

Shapes: N clips, C channels. A feature map is (N, C, *spatial); a vector is a map without spatial axes, (N, C).
"""

from torch import Tensor


def spatial_mean(x: Tensor) -> Tensor:
    """Average a map over its spatial axes to (N, C); a vector is returned as it is."""
    return x if x.ndim == 2 else x.flatten(2).mean(2)


def scale(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply a map by a channel gate (N, C), which is shared over the spatial axes."""
    return x * gate.reshape(gate.shape + (1,) * (x.ndim - 2))
