"""What stands on the encoder's features in pre-training: projectors, and the composition of unimodal features.

Shapes: N clips, F features, P projected features.

Source: the projector is UmURL's (Sun et al., 2023). A projector for each granularity follows the public code of USDRL
(Weng et al., 2025), from the group of Decomposition & Composition. The latter's abstract names composition; its forms
are our choice.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from coablate_model.dc.inputs import MODALITIES

CompositionKind = Literal["mean", "concat", "attention"]


def projection_key(granularity: str, modality: str, *, fused: bool) -> str:
    """Return the name of a projection among a network's outputs.

    Args:
        granularity: of the features that are projected.
        modality: whose projector it is.
        fused: whether fused or unimodal features are projected.
    """
    return f"z_{granularity}_{'fused_' if fused else ''}{modality}"


def projector(features: int, hidden: int, out: int) -> nn.Sequential:
    """Return a projector from F to P features: twice linear, batch norm and ReLU, then linear."""
    return nn.Sequential(
        nn.Linear(features, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )


class Composition(nn.Module):
    """Compose unimodal features (N, F) into a target for the fused ones, (N, F). No gradient reaches them.

    The gradient stops at the unimodal features, not behind the composition: its weights have no other loss to learn
    from.

    Args:
        kind: ``mean``; ``concat``, a linear layer on the concatenated features; ``attention``, a mean weighted by the
            softmax of a linear score of each.
        features: F.
    """

    def __init__(self, kind: CompositionKind, features: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.linear = nn.Linear(len(MODALITIES) * features, features)
        elif kind == "attention":
            self.score = nn.Linear(features, 1, bias=False)

    def forward(self, unimodal: Mapping[str, Tensor]) -> Tensor:
        """Compose the features (N, F) of each modality."""
        stacked = torch.stack([unimodal[name].detach() for name in MODALITIES], dim=1)
        if self.kind == "concat":
            composed: Tensor = self.linear(stacked.flatten(1))
            return composed
        if self.kind == "attention":
            shares: Tensor = self.score(stacked).softmax(1)
            return (shares * stacked).sum(1)
        return stacked.mean(1)
