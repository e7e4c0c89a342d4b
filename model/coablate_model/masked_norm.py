"""Batch normalisation whose statistics leave out the maps of absent persons.

Shapes: P maps, C channels.
"""

import torch
from torch import Tensor, nn


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with a choice of the maps that enter its statistics. All maps are normalised with them."""

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Normalise maps (P, C, h, w).

        Args:
            x: the maps.
            present: (P,), True for at least one map, whose values enter the statistics; None: those of all do. It
                matters in training only.
        """
        if present is None or not self.training:
            return super().forward(x)
        values = x.float()  # under autocast too
        mean, variance, count = _statistics(values, present)
        self._update(mean, variance * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


def _statistics(x: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (C,) and the biased variance (C,) over the present maps, and the number of values they have."""
    counts = present.to(x.dtype)[:, None, None, None]
    count = counts.sum() * x.shape[2] * x.shape[3]
    mean = (x * counts).sum((0, 2, 3)) / count
    variance = ((x - mean[:, None, None]).square() * counts).sum((0, 2, 3)) / count
    return mean, variance, count
