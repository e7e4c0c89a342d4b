"""The network of Decomposition & Composition: encoder, pre-training heads and a linear class layer.

Shapes: N clips, T frames, V joints, M persons, D width, P projected features, K classes.
Skeletons are (N, 3, T, V, M); views of them, which pre-training sees, are (N, 4, 3, T, V, M).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from coablate_model.dc.encoder import GRANULARITIES, DCEncoder, Features, LateFusion
from coablate_model.dc.heads import Composition, CompositionKind, projection_key, projector
from coablate_model.dc.inputs import MODALITIES


class DCNetwork(nn.Module):
    """Pre-train on four views of a clip, or classify a clip from its fused features.

    Parameters that have no part in the task need no gradient: the class layer in pre-training, projectors and
    composition in classification. Both tasks have the same state dict.

    Args:
        classes: K.
        bones: the joint tree as (child, parent) pairs.
        frames: T.
        joints: V.
        persons: M.
        fusion: ``early`` in one encoder, or ``late`` of three.
        width: D.
        feed_forward: width within a transformer layer's feed-forward part.
        layers: number of layers of each transformer encoder.
        heads: number of attention heads.
        granularities: of the features that have projectors.
        projector_hidden: width within a projector.
        projector_out: P.
        composition: how unimodal features are composed; None leaves it out.
        task: ``pretrain`` or ``classify``.
        freeze_encoder: in classification, train the class layer alone.

    Raises:
        ValueError: the encoder is to be pre-trained and frozen.

    Source: UmURL (Sun et al., 2023) for sizes and for the class layer.
    """

    def __init__(
        self,
        classes: int,
        *,
        bones: Sequence[tuple[int, int]],
        frames: int,
        joints: int,
        persons: int,
        fusion: Literal["early", "late"] = "early",
        width: int = 1024,
        feed_forward: int = 1024,
        layers: int = 1,
        heads: int = 1,
        granularities: Sequence[str] = GRANULARITIES,
        projector_hidden: int = 2048,
        projector_out: int = 4096,
        composition: CompositionKind | None = "mean",
        task: Literal["pretrain", "classify"] = "pretrain",
        freeze_encoder: bool = False,
    ) -> None:
        super().__init__()
        if freeze_encoder and task == "pretrain":
            raise ValueError("freeze_encoder: pre-training changes the encoder; freeze it in task 'classify'")
        self.freeze_encoder = freeze_encoder
        sizes = {"frames": frames, "joints": joints, "persons": persons, "width": width}
        depth = {"feed_forward": feed_forward, "layers": layers, "heads": heads}
        encoder = DCEncoder if fusion == "early" else LateFusion
        self.encoder = encoder(bones=bones, **sizes, **depth)
        self.projectors = nn.ModuleDict()
        for granularity in granularities:
            features = 2 * width if granularity == "whole" else width
            self.projectors[granularity] = nn.ModuleDict(
                {name: projector(features, projector_hidden, projector_out) for name in MODALITIES}
            )
        self.composition = None if composition is None else Composition(composition, 2 * width)
        self.classify = nn.Linear(2 * width, classes)
        self._require_gradients(task)

    def _require_gradients(self, task: str) -> None:
        pretrains = task == "pretrain"
        self.projectors.requires_grad_(pretrains)
        if self.composition is not None:
            self.composition.requires_grad_(pretrains)
        self.classify.requires_grad_(not pretrains)
        self.encoder.requires_grad_(not self.freeze_encoder)

    def train(self, mode: bool = True) -> "DCNetwork":
        """Switch to training or evaluation mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map the batch's ``skeleton`` to outputs by name.

        Views give the projections (N, P) under their :func:`~coablate_model.dc.heads.projection_key`, ``features``
        (N, 2·D) of the fused view, and, if there is a composition, ``composed`` (N, 2·D). Skeletons give ``features``
        and the logits ``fused`` (N, K).
        """
        skeleton = batch["skeleton"]
        if skeleton.ndim == 6:
            return self._pretrain(self.encoder.views(skeleton))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            features = self.encoder.fused(skeleton)["whole"]
        return {"features": features, "fused": self.classify(features)}

    def _pretrain(self, features: dict[str, Features]) -> dict[str, Tensor]:
        """Project fused and unimodal features one after the other: each has its own statistics in the batch norms."""
        outputs = {"features": features["fused"]["whole"]}
        for granularity, projectors in self.projectors.items():
            for name in MODALITIES:
                project = projectors.get_submodule(name)
                for key, fused in (("fused", True), (name, False)):
                    outputs[projection_key(granularity, name, fused=fused)] = project(features[key][granularity])
        if self.composition is not None:
            outputs["composed"] = self.composition({name: features[name]["whole"] for name in MODALITIES})
        return outputs
