"""The objective of pre-training: decomposition, composition, and the terms of UmURL.

Shapes: N clips, F features, P projected features.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.dc import losses
from coablate_model.dc.encoder import GRANULARITIES
from coablate_model.dc.heads import projection_key
from coablate_model.dc.inputs import MODALITIES
from coablate_model.dc.retrieval import ByNearest
from coablate_model.objective import CrossEntropy

GRANULARITY_WEIGHTS = {"temporal": 0.5, "spatial": 0.5, "whole": 1.0}
"""Weights of the terms at each granularity; those of USDRL's public code."""


@dataclass(frozen=True, kw_only=True)
class PretrainingObjective(ByNearest):
    """Weigh the terms of the pre-training loss. A weight of 0 switches a term off: it is neither computed nor recorded.

    Args:
        granularities: of the features whose projections have terms; their weights are :data:`GRANULARITY_WEIGHTS`.
        decomposition: weight of the fused features' distance from the unimodal ones, modality by modality.
        inter: weight of the unimodal features' distance from their mean.
        variance: weight of each projection's variance term.
        covariance: weight of each projection's covariance term.
        composition: weight of the fused features' distance from the composed unimodal ones.
        consistency: weight of the distance between the projected fused features of two views, with their own variance
            and covariance terms: what early fusion alone can be trained with.
        detach_target: let decomposition change the fused features only.

    Raises:
        ValueError: no term is left.

    Source: UmURL (Sun et al., 2023) for the weights 5, 5, 5 and 1 and for a loss without any detached target. The
    weight of composition is our choice.
    """

    granularities: tuple[str, ...] = GRANULARITIES
    decomposition: float = 5.0
    inter: float = 5.0
    variance: float = 5.0
    covariance: float = 1.0
    composition: float = 1.0
    consistency: float = 0.0
    detach_target: bool = False
    needs_whole_batch: ClassVar[bool] = True
    """Variances and covariances of a part of a batch are not those of the batch."""

    def __post_init__(self) -> None:
        if not (self.composition or self.consistency or self.projected):
            raise ValueError("every term of the pre-training loss is switched off")

    @property
    def projected(self) -> tuple[str, ...]:
        """The granularities whose projections have a term."""
        return self.granularities if self.decomposition or self.inter or self.variance or self.covariance else ()

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the scalar ``loss`` to minimise, and each term as ``loss_<term>``, detached and not weighted.

        Args:
            outputs: projections (N, P) by their :func:`~coablate_model.dc.heads.projection_key`; if composition has a
                weight, also ``features`` and ``composed``, (N, F).
            batch: not read.
            step: not read.
        """
        terms: dict[str, Tensor] = {}
        for granularity in self.projected:
            for name, term in self._terms(outputs, granularity).items():
                weighted = GRANULARITY_WEIGHTS[granularity] * term
                terms[name] = terms[name] + weighted if name in terms else weighted
        if self.composition:
            terms["composition"] = losses.composition(outputs["features"].float(), outputs["composed"].float())
        if self.consistency:
            terms["consistency"] = self._consistency(outputs["once"].float(), outputs["again"].float())
        total = torch.stack([getattr(self, name) * term for name, term in terms.items()]).sum()
        return {"loss": total} | {f"loss_{name}": term.detach() for name, term in terms.items()}

    def _consistency(self, once: Tensor, again: Tensor) -> Tensor:
        """Return the distance of two projections (N, P), with variance and covariance at their own weights over 5.

        Source: VICReg (Bardes et al., 2022), on fused features; our choice of what early fusion alone is trained with.
        """
        spread = torch.stack([losses.variance(z) + losses.covariance(z) / 5 for z in (once, again)]).sum()
        return F.mse_loss(once, again) + spread

    def turns(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """Return the parameters that each step changes: all but the class layer's."""
        return [network.pretrained_parameters()]  # type: ignore[operator]

    def _terms(self, outputs: dict[str, Tensor], granularity: str) -> dict[str, Tensor]:
        """Return the terms at one granularity, not weighted; variance and covariance are sums over six projections."""
        unimodal = {m: outputs[projection_key(granularity, m, fused=False)].float() for m in MODALITIES}
        fused = {m: outputs[projection_key(granularity, m, fused=True)].float() for m in MODALITIES}
        every = [*unimodal.values(), *fused.values()]
        terms = {}
        if self.decomposition:
            terms["decomposition"] = losses.decomposition(fused, unimodal, detach_target=self.detach_target)
        if self.inter:
            terms["inter"] = losses.inter(unimodal)
        if self.variance:
            terms["variance"] = torch.stack([losses.variance(z) for z in every]).sum()
        if self.covariance:
            terms["covariance"] = torch.stack([losses.covariance(z) for z in every]).sum()
        return terms


UMURL = PretrainingObjective(granularities=("whole",), composition=0.0)
"""The parent's loss."""


@dataclass(frozen=True, kw_only=True)
class ClassificationObjective(ByNearest, CrossEntropy):
    """Cross entropy of the linear class layer, and retrieval by the fused features that it stands on."""

    def turns(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """Return the parameters that each step changes: the class layer's, and the encoder's unless it is frozen."""
        return [network.classifying_parameters()]  # type: ignore[operator]
