"""PAN's training objective: cross entropy, the auxiliary loss on patches, and the weight of late fusion.

Shapes: N clips, K classes, F frames, G×G patches, V joints.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.objective import CrossEntropy
from coablate_model.pan.network import TwoGraphs

SHARES = tuple(round(0.05 * step, 2) for step in range(21))
"""Weights of the skeleton's probabilities among which late fusion chooses."""


@dataclass(frozen=True, kw_only=True)
class PANObjective(CrossEntropy):
    """Cross entropy of one graph network, or of both of an ensemble, and the auxiliary loss.

    Args:
        auxiliary: weight of the auxiliary loss.

    Source: late fusion with a chosen weight, and the auxiliary loss of weight 1.6, are those of public ancestors
    (RGBPose-Conv3D; π-ViT). The abstract of PAN names late fusion.
    """

    auxiliary: float = 0.0

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the scalar ``loss`` to minimise, and its parts, detached.

        Args:
            outputs: logits (N, K) of every head; in training also ``patch_joints`` (N, F, G, G, V), logits, and
                ``held_joints``, the shares of joints that patches hold.
            batch: contains ``label`` (N,).
            step: not read.
        """
        losses = super().loss(outputs, batch, step)
        if not self.auxiliary or "patch_joints" not in outputs:
            return losses
        logits = outputs["patch_joints"].float()
        auxiliary = F.binary_cross_entropy_with_logits(logits, outputs["held_joints"].float())
        return losses | {"loss": losses["loss"] + self.auxiliary * auxiliary, "loss_auxiliary": auxiliary.detach()}

    def fit(self, network: nn.Module, scores: Mapping[str, Tensor], labels: Tensor) -> None:
        """Choose an ensemble's weight on the validation split: the best accuracy, and of equal ones the nearest to 1:1.

        Args:
            network: an ensemble's weight is set; other networks stay as they are.
            scores: class probabilities (N, K) by head.
            labels: (N,).
        """
        if not isinstance(network, TwoGraphs):
            return

        def merit(share: float) -> tuple[float, float]:
            fused = torch.lerp(scores["tokens"], scores["skeleton"], share)
            return (fused.argmax(1) == labels).double().mean().item(), -abs(share - 0.5)

        network.share.fill_(max(SHARES, key=merit))

    def head_scores(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the class probabilities of the parts, and with two of them their mean, ``equal``."""
        found = super().head_scores(outputs)
        return found | ({"equal": torch.stack(list(found.values())).mean(0)} if len(found) > 1 else {})
