"""Decomposition & Composition: self-supervised pre-training of a skeleton encoder, and its linear probe.

Source: Decomposition and Composition (arXiv 2512.21064), of which the abstract is public, on the public code of its
group's UmURL (Sun et al., 2023). Decomposition: fused features are taken apart into unimodal ones, each aligned with
the real unimodal features. Composition: unimodal features are composed and guide the fused ones. Forms are our
readings.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from coablate_model.dc.encoder import GRANULARITIES, Fusion
from coablate_model.dc.heads import CompositionKind
from coablate_model.dc.network import DCNetwork
from coablate_model.dc.objective import ClassificationObjective, PretrainingObjective
from coablate_model.describe import Cost, measure
from coablate_model.shape import Shape

VIEWS = 4
"""Views of a clip in pre-training: one for each modality, and one from which all three are taken."""


@dataclass(frozen=True, kw_only=True)
class DC:
    """Decomposition & Composition, its parts, its parent UmURL, and late fusion as the reference for cost.

    Args:
        fusion: ``early`` in one encoder, or ``late`` of three.
        width: width of the encoder.
        feed_forward: width within a transformer layer's feed-forward part.
        layers: number of layers of each transformer encoder.
        heads: number of attention heads.
        projector_hidden: width within a projector.
        projector_out: width of the projections.
        granularities: of the features that are decomposed: ``temporal``, ``spatial``, ``whole``.
        decomposition: weight of the decomposition.
        inter: weight of the distance between unimodal features and their mean, a term of the parent.
        variance: weight of the variance terms.
        covariance: weight of the covariance terms.
        composition: weight of the composition.
        composed_by: how unimodal features are composed: ``mean``, ``concat`` or ``attention``.
        consistency: weight of the distance between the fused features of two views, for early fusion alone.
        detach_target: let decomposition change the fused features only.
        encoder: ``frozen`` or ``trained`` when clips are classified: a linear probe, or fine-tuning.
        label_smoothing: share of the target distribution that is spread evenly over all classes.

    Raises:
        ValueError: a value out of range, an unknown option, or no term of the loss is left.
    """

    fusion: Fusion = "early"
    width: int = 1024
    feed_forward: int = 1024
    layers: int = 1
    heads: int = 1
    projector_hidden: int = 2048
    projector_out: int = 4096
    granularities: tuple[str, ...] = GRANULARITIES
    decomposition: float = 5.0
    inter: float = 5.0
    variance: float = 5.0
    covariance: float = 1.0
    composition: float = 1.0
    composed_by: CompositionKind = "mean"
    consistency: float = 0.0
    detach_target: bool = False
    encoder: Literal["frozen", "trained"] = "frozen"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        options = {
            "fusion": ("early", "late"),
            "composed_by": ("mean", "concat", "attention"),
            "encoder": ("frozen", "trained"),
        }
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if unknown := [name for name in self.granularities if name not in GRANULARITIES]:
            raise ValueError(f"granularities: {unknown[0]!r} is none of {', '.join(GRANULARITIES)}")
        for name in ("width", "feed_forward", "layers", "heads", "projector_hidden", "projector_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number of at least 1")
        for name in ("decomposition", "inter", "variance", "covariance", "composition", "consistency"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number of at least 0")
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}, expected a number from 0 to 1")
        self.pretraining_objective()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The tensors of a batch that the network reads."""
        return ("skeleton",)

    @property
    def pretraining_views(self) -> int:
        """The number of views of a clip in pre-training."""
        return VIEWS

    def build(self, shape: Shape) -> nn.Module:
        """Build the network for clips of this shape.

        Raises:
            ValueError: the joint tree is not known, or the width is no multiple of the heads.
        """
        if not shape.bones:
            raise ValueError("the clips' joint tree is not known: bones are one of the modalities")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, which is no multiple of the heads, {self.heads}")
        return DCNetwork(
            shape.classes,
            bones=shape.bones,
            frames=shape.skeleton_frames,
            joints=shape.joints,
            persons=shape.persons,
            fusion=self.fusion,
            width=self.width,
            feed_forward=self.feed_forward,
            layers=self.layers,
            heads=self.heads,
            granularities=self.pretraining_objective().projected,
            projector_hidden=self.projector_hidden,
            projector_out=self.projector_out,
            composition=self.composed_by if self.composition else None,
            freeze_encoder=self.encoder == "frozen",
            consistency=self.consistency > 0,
        )

    def pretraining_objective(self) -> PretrainingObjective:
        """Return the objective of pre-training."""
        return PretrainingObjective(
            granularities=self.granularities,
            decomposition=self.decomposition,
            inter=self.inter,
            variance=self.variance,
            covariance=self.covariance,
            composition=self.composition,
            consistency=self.consistency,
            detach_target=self.detach_target,
        )

    def objective(self) -> ClassificationObjective:
        """Return the objective of the linear probe or of fine-tuning."""
        return ClassificationObjective(label_smoothing=self.label_smoothing)

    def describe(self, shape: Shape) -> Cost:
        """Measure the network's cost for clips of this shape: operations are those of classifying a clip."""
        return measure(self.build, shape)
