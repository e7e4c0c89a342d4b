"""The network of Decomposition & Composition: encoder, pre-training heads and a linear class layer.

Shapes: N clips, T frames, V joints, M persons, D width, P projected features, K classes.
Skeletons are (N, 3, T, V, M); views of them, which pre-training sees, are (N, 4, 3, T, V, M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coablate_model.dc.encoder import GRANULARITIES, Features, Fusion, build_encoder
from coablate_model.dc.heads import Composition, CompositionKind, projection_key, projector
from coablate_model.dc.inputs import MODALITIES


class DCNetwork(nn.Module):
    """Pre-train on four views of a clip, or classify a clip from its fused features.

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
        freeze_encoder: in classification, give no gradient to the encoder.
        consistency: in pre-training, also project the fused features of the first view.

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
        fusion: Fusion = "early",
        width: int = 1024,
        feed_forward: int = 1024,
        layers: int = 1,
        heads: int = 1,
        granularities: Sequence[str] = GRANULARITIES,
        projector_hidden: int = 2048,
        projector_out: int = 4096,
        composition: CompositionKind | None = "mean",
        freeze_encoder: bool = False,
        consistency: bool = False,
    ) -> None:
        super().__init__()
        self.freeze_encoder = freeze_encoder
        sizes = {"frames": frames, "joints": joints, "persons": persons, "width": width}
        depth = {"feed_forward": feed_forward, "layers": layers, "heads": heads}
        self.encoder = build_encoder(fusion, bones=bones, **sizes, **depth)
        self.projectors = nn.ModuleDict()
        for granularity in granularities:
            features = 2 * width if granularity == "whole" else width
            self.projectors[granularity] = nn.ModuleDict(
                {name: projector(features, projector_hidden, projector_out) for name in MODALITIES}
            )
        self.composition = None if composition is None else Composition(composition, 2 * width)
        self.consistency = projector(2 * width, projector_hidden, projector_out) if consistency else None
        self.classify = nn.Linear(2 * width, classes)

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that pre-training changes: all but the class layer's."""
        own = {id(parameter) for parameter in self.classify.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]

    def classifying_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that classification changes: the class layer's, and the encoder's unless frozen."""
        return [*self.classify.parameters(), *([] if self.freeze_encoder else self.encoder.parameters())]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map the batch's ``skeleton`` to outputs by name.

        Views give the projections (N, P) under their :func:`~coablate_model.dc.heads.projection_key`, ``features``
        (N, 2·D) of the fused view, and, if there is a composition, ``composed`` (N, 2·D). Skeletons give ``features``
        and the logits ``fused`` (N, K).
        """
        skeleton = batch["skeleton"]
        if skeleton.ndim == 6:
            features = self.encoder.views(skeleton)
            again = self.encoder.fused(skeleton[:, 0]) if self.consistency is not None else None
            return self._pretrain(features, again)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            whole = self.encoder.fused(skeleton)["whole"]
        return {"features": whole, "fused": self.classify(whole)}

    def _pretrain(self, features: dict[str, Features], again: Features | None) -> dict[str, Tensor]:
        """Project fused and unimodal features one after the other: each has its own statistics in the batch norms.

        Args:
            features: of the views.
            again: fused features of the first view, for the consistency of two views.
        """
        outputs = {"features": features["fused"]["whole"]}
        for granularity, projectors in self.projectors.items():
            for name in MODALITIES:
                project = projectors.get_submodule(name)
                for key, fused in (("fused", True), (name, False)):
                    outputs[projection_key(granularity, name, fused=fused)] = project(features[key][granularity])
        if again is not None and self.consistency is not None:
            outputs |= {"once": self.consistency(outputs["features"]), "again": self.consistency(again["whole"])}
        if self.composition is not None:
            outputs["composed"] = self.composition({name: features[name]["whole"] for name in MODALITIES})
        return outputs
