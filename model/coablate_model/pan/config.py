"""PAN: a graph network over the tokens of patches at joints, over 3-D joints, or over both.

Source: PAN (arXiv 2512.21916), of which the abstract is public: tokens of patches that contain joints are the nodes of
a spatio-temporal graph; PAN-Ensemble fuses two graph networks late; PAN-Unified is one network over both; an
attention-based post-calibration lowers the dependence on the 2-D skeleton. All else is a reading; see the modules.
"""

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from coablate_model.describe import Cost, measure
from coablate_model.pan.network import OneGraph, TwoGraphs
from coablate_model.pan.objective import PANObjective
from coablate_model.pan.settings import TokenSettings
from coablate_model.shape import Shape

Graphs = Literal["skeleton", "tokens", "ensemble", "unified", "unified_cross"]
_TOKENS = TokenSettings()
_READS = {
    "skeleton": ("skeleton",),
    "tokens": ("video", "pixels", "visible"),
    "ensemble": ("video", "skeleton", "pixels", "visible"),
    "unified": ("video", "frame_skeleton", "pixels", "visible"),
    "unified_cross": ("video", "frame_skeleton", "pixels", "visible"),
}


@dataclass(frozen=True, kw_only=True)
class PAN:
    """PAN, its parts alone, and its rivals.

    Args:
        graphs: ``skeleton`` is a graph network over 3-D joints; ``tokens`` one over the tokens at joints; ``ensemble``
            has both, and fuses their class probabilities; ``unified`` is one network whose nodes are the sum of a
            joint's token and of its position; in ``unified_cross`` each joint has two nodes, token and position, with
            an edge between them.
        tokens: how tokens are made, placed and calibrated.
        width: multiplier of the graph networks' channel counts.
        stream: what the skeleton graph reads: joints, bones, or the motion of either.
        dropout: dropout probability before the class layers.
        auxiliary: weight of an auxiliary loss, in training only: which joints does each patch hold? 0 leaves it out.
            A rival of the calibration; π-ViT has 1.6.
        label_smoothing: share of the target distribution that is spread evenly over all classes.

    Raises:
        ValueError: a value out of range, an unknown option, or an auxiliary loss without tokens.
    """

    graphs: Graphs = "unified"
    tokens: TokenSettings = _TOKENS
    width: float = 1.0
    stream: Literal["joint", "bone", "joint_motion", "bone_motion"] = "joint"
    dropout: float = 0.0
    auxiliary: float = 0.0
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.graphs not in _READS:
            raise ValueError(f"graphs is {self.graphs!r}, expected one of {', '.join(_READS)}")
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 to 1")
        if self.auxiliary < 0:
            raise ValueError(f"auxiliary is {self.auxiliary}, expected a number of at least 0")
        if self.auxiliary and self.graphs == "skeleton":
            raise ValueError("auxiliary: a skeleton graph has no patches to tell joints from; set it to 0")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The tensors of a batch that the network reads."""
        return _READS[self.graphs]

    def build(self, shape: Shape) -> nn.Module:
        """Build the network for clips of this shape.

        Raises:
            ValueError: the joint tree is not known, sizes do not divide, or weights do not fit the network.
        """
        if not shape.bones:
            raise ValueError("the clips' joint tree is not known: a graph network needs bones")
        if self.graphs == "ensemble":
            return TwoGraphs(self.graph("skeleton", shape), self.graph("tokens", shape))
        return self.graph(self.graphs, shape)

    def graph(self, graphs: Graphs, shape: Shape) -> OneGraph:
        """Build one of the graph networks for clips of this shape."""
        return OneGraph(
            graphs,
            shape,
            tokens=self.tokens,
            width=self.width,
            stream=self.stream,
            dropout=self.dropout,
            auxiliary=self.auxiliary > 0,
        )

    def objective(self) -> PANObjective:
        """Return the training objective."""
        heads = ("skeleton", "tokens") if self.graphs == "ensemble" else ("fused",)
        return PANObjective(heads=heads, label_smoothing=self.label_smoothing, auxiliary=self.auxiliary)

    def describe(self, shape: Shape) -> Cost:
        """Measure the network's cost for clips of this shape. Weights of the ViT are not read."""
        return measure(replace(self, tokens=replace(self.tokens, weights=None)).build, shape)
