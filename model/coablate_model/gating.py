"""What MMTM, DSFM and MFFM share: squeeze a map to a vector, scale a map by one.

Shapes: N clips, C channels; a map is (N, C, *spatial), and a vector is a map without spatial axes.
"""

from torch import Tensor


def spatial_mean(x: Tensor) -> Tensor:
    """Return the mean over space of a map, (N, C); a vector is its own mean."""
    return x if x.ndim == 2 else x.flatten(2).mean(2)


def scale(x: Tensor, gate: Tensor) -> Tensor:
    """Return the map scaled by a gate (N, C), the same at every place."""
    return x * gate.reshape(gate.shape + (1,) * (x.ndim - 2))
