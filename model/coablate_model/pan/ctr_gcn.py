"""CTR-GCN, the channel-wise topology refinement graph convolution network: the graph network of PAN.

Shapes: N clips, M persons, P = N·M, T frames, V joints, S subsets of the adjacency, C channels of a block's input, C'
of its output, R = relation width. Node features are (N, C, T, V, M); feature maps per person are (P, C, T, V).

Source: Chen et al., ICCV 2021, and its public code, whose state-dict keys this network has. Two readings are ours. The
relation width is 8 for any input of at most 9 channels (the public code: of 3 or 9). Node features wider than
coordinates, such as tokens, are projected to the width of the first block before anything else.

Five choices only save time. The mean over frames comes before the 1×1 convolutions that embed joints, which commute
with it exactly. All subsets share one matrix product for each of the four layers. α scales the weights of the last of
them instead of its outputs, and the same product adds the shared adjacency. One product then sums over subsets and
joints together. All 1×1 convolutions are matrix products, which are faster on a CPU.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.pan.temporal import Conv2d, MultiScaleTemporalConv, TemporalConv, mix_channels

BLOCKS = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1)) + ((4, 2), (4, 1), (4, 1))
"""Channels, in multiples of the first block's, and temporal stride of each block."""


class CTRGC(nn.Module):
    """Convolution over one subset, with an adjacency of its own for every clip and channel.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        relation = 8 if in_channels <= 9 else in_channels // 8
        self.conv1 = Conv2d(in_channels, relation, 1)
        self.conv2 = Conv2d(in_channels, relation, 1)
        self.conv3 = Conv2d(in_channels, out_channels, 1)
        self.conv4 = Conv2d(relation, out_channels, 1)

    def forward(self, x: Tensor, adjacency: Tensor, alpha: Tensor | float) -> Tensor:
        """Map (P, C, T, V) to (P, C', T, V).

        Args:
            x: feature maps.
            adjacency: (V, V), shared by all clips and channels.
            alpha: factor of the refinement that is added to it.
        """
        return convolve_subsets([self], x, adjacency[None], alpha)


def convolve_subsets(convs: Sequence[CTRGC], x: Tensor, adjacency: Tensor, alpha: Tensor | float) -> Tensor:
    """Return the sum of the convolutions over all subsets, (P, C', T, V).

    Args:
        convs: one per subset.
        x: (P, C, T, V).
        adjacency: (S, V, V).
        alpha: factor of the refinements.
    """
    topologies = refine(convs, x, adjacency, alpha)  # (P, S, C', V, V)
    values = _shared([conv.conv3 for conv in convs], x).view(*topologies.shape[:3], *x.shape[2:])
    by_frame = values.permute(0, 2, 3, 1, 4).flatten(3)  # (P, C', T, S·V)
    return by_frame @ topologies.permute(0, 2, 1, 4, 3).flatten(2, 3)


def refine(convs: Sequence[CTRGC], x: Tensor, adjacency: Tensor, alpha: Tensor | float) -> Tensor:
    """Return the adjacency of every clip, subset and channel, (P, S, C', V, V): the shared one plus its refinement.

    A refinement follows from the differences of the joints' embeddings.
    """
    joints = x.mean(2, keepdim=True)
    hearers = _shared([conv.conv1 for conv in convs], joints)[:, :, 0, :, None]
    speakers = _shared([conv.conv2 for conv in convs], joints)  # (P, S·R, 1, V)
    relations = torch.tanh(hearers - speakers).view(len(x), len(convs), -1, adjacency[0].numel())  # (P, S, R, V·V)
    ones = relations.new_ones(1, 1, 1, 1)
    shared = [row.expand(len(x), len(convs), 1, relations.shape[3]) for row in (adjacency.flatten(1)[:, None], ones)]
    weights = torch.stack([conv.conv4.weight.flatten(1) for conv in convs]) * alpha
    biases = torch.stack([conv.conv4.bias for conv in convs if conv.conv4.bias is not None]) * alpha
    factors = torch.cat([weights, torch.ones_like(weights[..., :1]), biases[..., None]], dim=2)  # (S, C', R + 2)
    refined = factors @ torch.cat([relations, *shared], dim=2)
    return refined.view(*refined.shape[:3], *adjacency.shape[1:])


def _shared(layers: Sequence[Conv2d], x: Tensor) -> Tensor:
    """Return the outputs of several 1×1 convolutions, one after the other in the channel axis."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
    return mix_channels(x, weight, bias)


class GraphUnit(nn.Module):
    """Graph convolution over all subsets, with batch norm, residual and ReLU.

    The adjacency is learned; it starts as the joint tree's. At the start batch norm scales the graph convolution by
    1e-6, so that the residual dominates.

    Args:
        in_channels: C.
        out_channels: C'.
        adjacency: (S, V, V).
    """

    tree: Tensor

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.convs = nn.ModuleList(CTRGC(in_channels, out_channels) for _ in adjacency)
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.down = nn.Sequential(Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.register_buffer("tree", adjacency, persistent=False)
        self.PA = nn.Parameter(torch.empty_like(adjacency))
        self.alpha = nn.Parameter(torch.empty(1))
        self.bn = nn.BatchNorm2d(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the adjacency to the tree's, α to 0 and batch norm's scale to 1e-6."""
        with torch.no_grad():
            self.PA.copy_(self.tree)
        nn.init.zeros_(self.alpha)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', T, V)."""
        convs = [conv for conv in self.convs if isinstance(conv, CTRGC)]
        y = self.bn(convolve_subsets(convs, x, self.PA, self.alpha))
        return F.relu(y + self.down(x), inplace=True)


class Block(nn.Module):
    """A graph unit, a multi-scale temporal convolution, and a residual around both.

    Args:
        in_channels: C.
        out_channels: C'.
        adjacency: (S, V, V).
        stride: temporal stride.
        residual: add the input, through a convolution where the shape changes.
    """

    def __init__(
        self, in_channels: int, out_channels: int, adjacency: Tensor, *, stride: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        self.gcn1 = GraphUnit(in_channels, out_channels, adjacency)
        self.tcn1 = MultiScaleTemporalConv(out_channels, stride=stride)
        self.residual: nn.Module | None = None
        if residual and in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            self.residual = TemporalConv(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, C, T, V) to (P, C', ⌈T/stride⌉, V)."""
        y = self.tcn1(self.gcn1(x))
        return F.relu(y if self.residual is None else y + self.residual(x), inplace=True)


class ClassLayer(nn.Linear):
    """Linear layer whose weights have the public code's initial spread, √(2/K)."""

    def reset_parameters(self) -> None:
        """Draw new weights; the bias is drawn as torch does."""
        super().reset_parameters()
        nn.init.normal_(self.weight, 0, (2 / self.out_features) ** 0.5)


class CTRGCN(nn.Module):
    """CTR-GCN: batch norm on the input, ten blocks, the mean over frames, joints and persons, and the class layer.

    All persons share the same weights and run in the batch axis. Batch norm on the input keeps statistics for each
    person, joint and channel. As in the public code, absent persons count in the mean.

    Args:
        classes: K.
        adjacency: (S, V, V), from :func:`coablate_model.pan.graph.adjacency`.
        in_channels: channels of a node: 3 for coordinates, or the width of a token.
        persons: M.
        width: multiplier of all channel counts.
        project: project the input to the width of the first block, 64 at width 1.
        dropout: dropout probability before the class layer.

    Raises:
        ValueError: a width that does not divide among the four branches of a temporal convolution.
    """

    def __init__(
        self,
        classes: int,
        adjacency: Tensor,
        *,
        in_channels: int = 3,
        persons: int = 2,
        width: float = 1.0,
        project: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        base = round(64 * width)
        if base < 4 or base % 4:
            raise ValueError(f"width is {width}, but 64 × width must be a multiple of 4")
        self.project = Conv2d(in_channels, base, 1) if project else nn.Identity()
        channels = base if project else in_channels
        self.data_bn = nn.BatchNorm1d(persons * adjacency.shape[-1] * channels)
        for i, (multiple, stride) in enumerate(BLOCKS, 1):
            block = Block(channels, base * multiple, adjacency, stride=stride, residual=i > 1)
            self.add_module(f"l{i}", block)
            channels = base * multiple
        self.dropout = nn.Dropout(dropout)
        self.fc = ClassLayer(channels, classes)

    def features(self, nodes: Tensor) -> Tensor:
        """Map node features (N, C, T, V, M) to the features before the class layer, (N, 256·width)."""
        clips, _, frames, joints, persons = nodes.shape
        x = self.project(nodes.permute(0, 4, 1, 2, 3).flatten(0, 1))  # (P, C, T, V)
        by_joint = x.view(clips, persons, -1, frames, joints).permute(0, 1, 4, 2, 3)
        x = self.data_bn(by_joint.flatten(1, 3)).view(by_joint.shape).permute(0, 1, 3, 4, 2).flatten(0, 1)
        for i in range(1, len(BLOCKS) + 1):
            x = self.get_submodule(f"l{i}")(x)
        features: Tensor = x.mean((2, 3)).view(clips, persons, -1).mean(1)
        return features

    def forward(self, nodes: Tensor) -> Tensor:
        """Map node features (N, C, T, V, M) to logits (N, K)."""
        logits: Tensor = self.fc(self.dropout(self.features(nodes)))
        return logits
