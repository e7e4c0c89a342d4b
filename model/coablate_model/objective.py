"""The training objective: cross entropy of the fused logits and of each stream's own, and the metrics.

Shapes: N clips, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FUSED = "fused"
AUXILIARY_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross entropy, summed over all trained heads or of one head per step.

    Args:
        heads: names of the trained outputs, in the order in which ``alternating`` takes them.
        mode: ``joint`` adds the fused head's loss and half of every other head's. ``alternating`` takes one head per
            step in turn, as the public ancestors train. The other heads' losses then have weight 0, so that every
            parameter still has a gradient on every data-parallel worker.
        label_smoothing: share of the target distribution that is spread evenly over all classes.

    Source: CC-DFARM does not name a loss. Joint training and the weight of one half are our choice.
    """

    heads: tuple[str, ...]
    mode: Literal["joint", "alternating"] = "joint"
    label_smoothing: float = 0.1

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the scalar ``loss`` to minimise, and every trained head's ``loss_<head>``, detached.

        Args:
            outputs: logits (N, K) of every head.
            batch: contains ``label`` (N,).
            step: optimiser steps taken so far; selects the head in ``alternating`` mode.
        """
        losses = {
            head: F.cross_entropy(outputs[head].float(), batch["label"], label_smoothing=self.label_smoothing)
            for head in self.heads
        }
        total = torch.stack([self._weight(head, step) * loss for head, loss in losses.items()]).sum()
        return {"loss": total} | {f"loss_{head}": loss.detach() for head, loss in losses.items()}

    def _weight(self, head: str, step: int) -> float:
        if self.mode == "alternating":
            return float(head == self.heads[step % len(self.heads)])
        return 1.0 if head == FUSED else AUXILIARY_WEIGHT

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the class probabilities (N, K) of the fused head."""
        return outputs[FUSED].float().softmax(1)

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Compute ``accuracy``, ``mean_class_accuracy`` over the classes with clips, and ``top5`` if K > 5.

        Args:
            scores: (N, K), larger for a more likely class.
            labels: (N,).
        """
        correct = (scores.argmax(1) == labels).double()
        clips_per_class = torch.bincount(labels, minlength=scores.shape[1])
        correct_per_class = torch.bincount(labels, weights=correct, minlength=scores.shape[1])
        occurs = clips_per_class > 0
        metrics = {
            "accuracy": correct.mean().item(),
            "mean_class_accuracy": (correct_per_class[occurs] / clips_per_class[occurs]).mean().item(),
        }
        if scores.shape[1] > 5:
            metrics["top5"] = (scores.topk(5, dim=1).indices == labels[:, None]).any(1).double().mean().item()
        return metrics
