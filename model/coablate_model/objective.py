"""The training objective: cross entropy of the fused logits and of each stream's own, and the metrics.

Shapes: N clips, K classes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSED = "fused"
STREAM_WEIGHT = 0.5
"""Weight of a stream's loss in joint training."""


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross entropy of all heads together, or of one stream after the other.

    Args:
        heads: names of the trained outputs: ``fused``, and the heads of the streams in the order of their turns.
        mode: ``joint`` takes one step, on the fused head's loss plus half of every stream's. ``alternating`` takes a
            step per stream on each batch, as the public ancestors train: on the stream's loss plus, where it is
            trained, the fused head's. Each changes the stream and what both share. The losses that have no part in a
            step have weight 0, so that every parameter has a gradient on every data-parallel worker.
        label_smoothing: share of the target distribution that is spread evenly over all classes.

    Source: CC-DFARM does not name a loss. Joint training and the weight of one half are our choice; so is the fused
    head's part in alternating training, as the ancestors have no such head.
    """

    heads: tuple[str, ...] = (FUSED,)
    mode: Literal["joint", "alternating"] = "joint"
    label_smoothing: float = 0.1

    @property
    def _streams(self) -> tuple[str, ...]:
        return tuple(head for head in self.heads if head != FUSED)

    def turns(self, network: nn.Module) -> list[list[nn.Parameter]]:
        """Return the parameters that each step on a batch changes: all, or in ``alternating`` mode those of a stream.

        Args:
            network: in ``alternating`` mode with ``parameters_of(stream)``, such as
                :class:`~coablate_model.cc_dfarm.TwoStream`.
        """
        if self.mode == "joint":
            return [list(network.parameters())]
        return [network.parameters_of(stream) for stream in self._streams]  # type: ignore[operator]

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the scalar ``loss`` to minimise, and every trained head's ``loss_<head>``, detached.

        Args:
            outputs: logits (N, K) of every head.
            batch: contains ``label`` (N,).
            step: optimiser steps taken so far; selects the stream in ``alternating`` mode.
        """
        losses = {
            head: F.cross_entropy(outputs[head].float(), batch["label"], label_smoothing=self.label_smoothing)
            for head in self.heads
        }
        total = torch.stack([self._weight(head, step) * loss for head, loss in losses.items()]).sum()
        return {"loss": total} | {f"loss_{head}": loss.detach() for head, loss in losses.items()}

    def _weight(self, head: str, step: int) -> float:
        if head == FUSED:
            return 1.0
        if self.mode == "alternating":
            return float(head == self._streams[step % len(self._streams)])
        return STREAM_WEIGHT

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the class probabilities (N, K) of the fused head."""
        return outputs[FUSED].float().softmax(1)

    def head_scores(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the class probabilities (N, K) of each trained head but the fused one, by its name."""
        return {head: outputs[head].float().softmax(1) for head in self._streams}

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
