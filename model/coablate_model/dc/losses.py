"""The terms of the pre-training loss.

Shapes: N clips, F features, P projected features.
Projections are (N, P), by modality where there are several.

Source: variance and covariance are those of Bardes et al., "VICReg", 2022; all but :func:`composition` equal the public
code of UmURL (Sun et al., 2023), whose intra-modal consistency is :func:`decomposition`.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from coablate_model.dc.encoder import mean_of

VARIANCE_FLOOR = 1e-4
"""Added to a variance under its square root; the value of UmURL's public code."""


def decomposition(fused: Mapping[str, Tensor], unimodal: Mapping[str, Tensor], *, detach_target: bool) -> Tensor:
    """Return the mean squared error between what is taken out of the fused features and the genuine, over modalities.

    Args:
        fused: projections of the fused features.
        unimodal: projections of the unimodal features.
        detach_target: let no gradient reach the unimodal ones.
    """
    targets = {name: z.detach() if detach_target else z for name, z in unimodal.items()}
    return torch.stack([F.mse_loss(fused[name], target) for name, target in targets.items()]).sum()


def inter(unimodal: Mapping[str, Tensor]) -> Tensor:
    """Return the mean squared error of the unimodal projections from their mean, summed over modalities."""
    mean = mean_of(list(unimodal.values()))
    return torch.stack([F.mse_loss(z, mean) for z in unimodal.values()]).sum()


def variance(z: Tensor) -> Tensor:
    """Return by how much the standard deviation of a column stays below 1, on average over columns."""
    return F.relu(1 - (z.var(0) + VARIANCE_FLOOR).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Return the sum of the squared covariances of two different columns, divided by P.

    All squared covariances have the same sum as the squared products of all pairs of clips. The smaller of the two
    matrices is computed: with 4,096 columns and 32 clips that saves 99 % of the work. Autocast is off, since sums of
    squares leave the range of fp16.
    """
    with torch.autocast(z.device.type, enabled=False):
        clips, columns = z.shape
        centred = z - z.mean(0)
        products = centred.T @ centred if columns <= clips else centred @ centred.T
        own = centred.pow(2).sum(0)
        return (products.pow(2).sum() - own.pow(2).sum()) / (clips - 1) ** 2 / columns


def composition(fused: Tensor, composed: Tensor) -> Tensor:
    """Return the mean squared error of the fused features (N, F) from the composed unimodal ones.

    Our reading: the abstract says only that the composed features guide the fused ones.
    """
    return F.mse_loss(fused, composed)
