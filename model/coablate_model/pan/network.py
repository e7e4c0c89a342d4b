"""PAN's networks: a graph network over nodes from tokens, from joints or from both, and two of them fused late.

Shapes: N clips, F video frames, T skeleton frames, S frame side, G×G patches, D token width, V joints, M persons, K
classes. Nodes are (N, C, frames, V, M).
"""

import torch
from torch import Tensor, nn

from coablate_model.joint_tree import parents_of
from coablate_model.pan.calibration import Calibration
from coablate_model.pan.ctr_gcn import CTRGCN
from coablate_model.pan.graph import adjacency
from coablate_model.pan.inputs import persons_tracked, tracked_bones, tracked_motions
from coablate_model.pan.settings import TokenSettings
from coablate_model.pan.temporal import Conv2d
from coablate_model.pan.tokens import TokenSampler, patch_weights
from coablate_model.pan.vit import ViT
from coablate_model.pan.vit_weights import load_vit_weights
from coablate_model.shape import Shape
from coablate_model.weights import Pretrained


class TokenNodes(nn.Module):
    """Make nodes from video: patch tokens, those at the joints, post-calibration.

    Args:
        settings: how.
        shape: sizes of the clips.
        auxiliary: also tell from each patch token which joints the patch holds.
    """

    def __init__(self, settings: TokenSettings, shape: Shape, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.vit = ViT(
            shape.size,
            channels=shape.channels,
            patch=settings.patch,
            width=settings.width,
            depth=settings.depth,
            heads=settings.heads,
            stem=settings.stem,
            frozen=settings.frozen,
        )
        self.sampler = TokenSampler(
            settings.width, shape.size, places=settings.places, interpolation=settings.interpolation
        )
        self.calibration = Calibration(
            settings.width,
            shape.size,
            attention=settings.calibration in ("attention", "both"),
            gate=settings.calibration in ("gate", "both"),
            heads=settings.heads,
            radius=settings.window,
        )
        self.holds = nn.Linear(settings.width, shape.joints) if auxiliary else None
        self.pretrained = None
        if settings.weights is not None:
            self.pretrained = Pretrained(self.vit, settings.weights, load=load_vit_weights)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Map ``video``, ``pixels`` and ``visible`` to nodes (N, D, F, V, M), and to outputs for the auxiliary loss.

        A pixel of the batch is at whole numbers in its centre; places begin with 0 at the frame's border.
        """
        tokens, places, visible = self.vit(batch["video"]), batch["pixels"] + 0.5, batch["visible"]
        nodes = self.sampler(tokens, places, visible)
        used = self.sampler.placed(places, tokens.shape[2])
        calibrated: Tensor = self.calibration(nodes, tokens, used, visible)
        if self.holds is None or not self.training:
            return calibrated, {}
        held = patch_weights(places, self.sampler.size, tokens.shape[2], "nearest") * visible[..., None, None]
        return calibrated, {"patch_joints": self.holds(tokens), "held_joints": held.amax(3).permute(0, 1, 3, 4, 2)}


class OneGraph(nn.Module):
    """One graph network over tokens, joints or both.

    Args:
        graphs: ``skeleton``, ``tokens``, ``unified`` or ``unified_cross``.
        shape: sizes of the clips.
        tokens: how tokens are made.
        width: multiplier of the graph network's channel counts.
        stream: what a skeleton graph reads.
        dropout: dropout probability before the class layer.
        auxiliary: return what the auxiliary loss needs.
    """

    parents: Tensor

    def __init__(
        self,
        graphs: str,
        shape: Shape,
        *,
        tokens: TokenSettings,
        width: float,
        stream: str,
        dropout: float,
        auxiliary: bool,
    ) -> None:
        super().__init__()
        self.graphs, self.stream = graphs, stream
        self.register_buffer("parents", torch.tensor(parents_of(shape.bones, shape.joints)), persistent=False)
        tree, channels = adjacency(shape.bones, shape.joints), round(64 * width)
        self.nodes = None if graphs == "skeleton" else TokenNodes(tokens, shape, auxiliary=auxiliary)
        self.project_token = self.project_joint = None
        if graphs.startswith("unified"):
            self.project_token = Conv2d(tokens.width, channels, 1)
            self.project_joint = Conv2d(3, channels, 1)
        if graphs == "unified_cross":
            tree = with_cross_edges(tree)
        self.graph = CTRGCN(
            shape.classes,
            tree,
            in_channels={"skeleton": 3, "tokens": tokens.width}.get(graphs, channels),
            persons=shape.persons,
            width=width,
            project=graphs == "tokens",
            dropout=dropout,
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map a batch to the logits ``fused`` (N, K), and in training to outputs for the auxiliary loss."""
        if self.nodes is None:
            return {"fused": self.graph(stream_of(batch["skeleton"], self.stream, self.parents))}
        nodes: Tensor
        outputs: dict[str, Tensor]
        nodes, outputs = self.nodes(batch)
        if self.project_token is not None and self.project_joint is not None:
            tokens = _each_node(self.project_token, nodes)
            joints = _each_node(self.project_joint, stream_of(batch["frame_skeleton"], self.stream, self.parents))
            nodes = tokens + joints if self.graphs == "unified" else torch.cat([tokens, joints], dim=3)
        return outputs | {"fused": self.graph(nodes)}


class TwoGraphs(nn.Module):
    """PAN-Ensemble: two graph networks, whose class probabilities are fused late.

    Args:
        skeleton: the graph network over joints.
        tokens: the graph network over tokens.
    """

    share: Tensor

    def __init__(self, skeleton: OneGraph, tokens: OneGraph) -> None:
        super().__init__()
        self.skeleton, self.tokens = skeleton, tokens
        self.register_buffer("share", torch.tensor(0.5))
        """Weight of the skeleton's probabilities; the objective chooses it on the validation split."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map a batch to the logits ``skeleton`` and ``tokens``, (N, K), and to the fused log-probabilities."""
        outputs: dict[str, Tensor] = self.tokens(batch)
        tokens, skeleton = outputs["fused"], self.skeleton(batch)["fused"]
        fused = torch.lerp(tokens.float().softmax(1), skeleton.float().softmax(1), self.share)
        return outputs | {"skeleton": skeleton, "tokens": tokens, "fused": fused.clamp_min(1e-12).log()}


def _each_node(layer: nn.Module, nodes: Tensor) -> Tensor:
    """Apply a 1×1 convolution to nodes (N, C, F, V, M)."""
    mapped: Tensor = layer(nodes.flatten(3))
    return mapped.view(*mapped.shape[:3], *nodes.shape[3:])


def stream_of(skeleton: Tensor, stream: str, parents: Tensor) -> Tensor:
    """Return joints, bones or the motion of either, (N, 3, T, V, M).

    A joint of a tracked person is present: the joint that clips are centred on is exactly 0.
    """
    present = persons_tracked(skeleton)
    if stream.startswith("bone"):
        skeleton = tracked_bones(skeleton, parents, present)
    return tracked_motions(skeleton, present) if stream.endswith("motion") else skeleton


def with_cross_edges(tree: Tensor) -> Tensor:
    """Return the adjacency (S, 2V, 2V) of two copies of a tree, with an edge between the copies of each joint.

    Tokens come first. The edges between copies are in the subset of a node itself, which is normalised again.
    """
    subsets, joints, _ = tree.shape
    doubled = torch.zeros(subsets, 2 * joints, 2 * joints)
    doubled[:, :joints, :joints] = doubled[:, joints:, joints:] = tree
    doubled[0, :joints, joints:] = doubled[0, joints:, :joints] = torch.eye(joints)
    doubled[0] = doubled[0] / doubled[0].sum(0).clamp_min(1)
    return doubled
