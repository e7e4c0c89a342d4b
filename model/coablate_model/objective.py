"""What the recogniser is trained for: cross entropy on the fused scores and on each stream's own.

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
    """Cross entropy of all heads together, or of one head a step.

    Args:
        heads: the outputs that are trained, the fused one first where there are several.
        mode: ``joint`` adds the fused head's loss and half of each other's; ``alternating`` takes the heads in turn,
            a step each, as the public ancestors train (the others then count 0 times, so that every parameter still
            has a gradient on every data-parallel worker).
        label_smoothing: share of the target spread over all classes.

    Source: CC-DFARM names no loss. Joint training and the weight of one half are our choice.
    """

    heads: tuple[str, ...]
    mode: Literal["joint", "alternating"] = "joint"
    label_smoothing: float = 0.1

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the scalar ``loss`` and each head's own ``loss_<head>``, detached.

        Args:
            outputs: scores (N, K) of every head.
            batch: holds ``label`` (N,).
            step: optimiser steps so far; picks the head in ``alternating`` mode.
        """
        parts = {
            head: F.cross_entropy(outputs[head].float(), batch["label"], label_smoothing=self.label_smoothing)
            for head in self.heads
        }
        total = torch.stack([self._weight(head, step) * part for head, part in parts.items()]).sum()
        return {"loss": total} | {f"loss_{head}": part.detach() for head, part in parts.items()}

    def _weight(self, head: str, step: int) -> float:
        if self.mode == "alternating":
            return float(head == self.heads[step % len(self.heads)])
        return 1.0 if head == FUSED else AUXILIARY_WEIGHT

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the fused head's probabilities (N, K)."""
        return outputs[FUSED].float().softmax(1)

    def metrics(self, scores: Tensor, labels: Tensor) -> dict[str, float]:
        """Return ``accuracy``, ``mean_class_accuracy`` over the classes that occur, and ``top5`` where K > 5.

        Args:
            scores: (N, K).
            labels: (N,).
        """
        hits = (scores.argmax(1) == labels).double()
        counts = torch.bincount(labels, minlength=scores.shape[1])
        per_class = torch.bincount(labels, weights=hits, minlength=scores.shape[1])
        occurs = counts > 0
        found = {
            "accuracy": hits.mean().item(),
            "mean_class_accuracy": (per_class[occurs] / counts[occurs]).mean().item(),
        }
        if scores.shape[1] > 5:
            found["top5"] = (scores.topk(5, dim=1).indices == labels[:, None]).any(1).double().mean().item()
        return found
