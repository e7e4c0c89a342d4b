"""Retrieval by the fused features: each clip takes the class of its nearest neighbour in the gallery.

Shapes: N clips, G clips of the gallery, F features.

Source: UmURL (Sun et al., 2023): cosine similarity, one neighbour, the training split as the gallery.
"""

import torch.nn.functional as F
from torch import Tensor


class ByNearest:
    """The part of an objective that evaluates retrieval."""

    def features(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the fused features (N, F)."""
        return outputs["features"].float()

    def retrieval_metrics(
        self, gallery: Tensor, gallery_labels: Tensor, features: Tensor, labels: Tensor
    ) -> dict[str, float]:
        """Compute ``retrieval``, the share of clips whose nearest neighbour has their class.

        Args:
            gallery: (G, F).
            gallery_labels: (G,).
            features: (N, F).
            labels: (N,).
        """
        nearest = (F.normalize(features) @ F.normalize(gallery).T).argmax(1)
        return {"retrieval": (gallery_labels[nearest] == labels).double().mean().item()}
