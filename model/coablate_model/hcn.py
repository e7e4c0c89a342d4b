"""HCN, the hierarchical co-occurrence network: the skeleton stream.

Shapes: N clips, M persons, P = N·M, T frames, V joints, F point-level features, K classes.
Skeletons are (N, 3, T, V, M); feature maps per person are (N, M, C, h, w).

Source: Li et al., "Co-occurrence Feature Learning from Skeleton Data for Action Recognition and Detection with
Hierarchical Aggregation", IJCAI 2018. Two readings are ours. Absent persons (all zeros) are left out of the maximum
over persons and, unless told otherwise, of the statistics of TIAM's batch norms. Pools round up, so that any number of
frames can be used; multiples of 16 give the published sizes.

Two choices only save time. Max-pooling comes before ReLU and channel dropout, which commute with it exactly and then
see a quarter of the values. Maps have channels-last layout, which takes a fifth less time on a CPU.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.tiam import TIAM

LAYERS = ("conv4", "conv5", "conv6", "fc7")
"""Layers after which a fusion module can be placed, in order of execution."""

LAYER_CHANNELS = {"conv4": 128, "conv5": 128, "conv6": 256, "fc7": 512}
"""Output channels of each layer; conv4's are those of the position and the motion branch together."""


def motion_of(position: Tensor) -> Tensor:
    """Return the differences of consecutive frames, linearly resampled from T-1 to T frames.

    Args:
        position: (P, 3, T, V).

    Returns:
        (P, 3, T, V).
    """
    difference = position[:, :, 1:] - position[:, :, :-1]
    return F.interpolate(difference, size=position.shape[2:], mode="bilinear", align_corners=False)


def persons_present(skeleton: Tensor) -> Tensor:
    """Return which persons are present, (N, M): those with a coordinate that is not 0.

    In a clip without any person, all count as present, so that the maximum over persons stays finite.
    """
    present = (skeleton != 0).flatten(1, 3).any(1)
    return present | ~present.any(1, keepdim=True)


def person_max(maps: Tensor, present: Tensor) -> Tensor:
    """Return the elementwise maximum over the present persons.

    Args:
        maps: (N, M, ...).
        present: (N, M).

    Returns:
        (N, ...).
    """
    absent = ~present.reshape(present.shape + (1,) * (maps.ndim - 2))
    return maps.masked_fill(absent, float("-inf")).amax(1)


def _pool(x: Tensor) -> Tensor:
    """Max-pool both axes to half their size, rounded up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


class Conv2d(nn.Conv2d):
    """2-D convolution with the public code's initial values: Glorot-uniform weights, zero bias.

    With torch's default initialisation the signal halves from layer to layer; without batch norm the network then
    hardly learns.
    """

    def reset_parameters(self) -> None:
        """Draw new weights and set the bias to 0."""
        _init_glorot(self)


class Linear(nn.Linear):
    """Linear layer initialised like :class:`Conv2d`."""

    def reset_parameters(self) -> None:
        """Draw new weights and set the bias to 0."""
        _init_glorot(self)


def _init_glorot(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class PointBranch(nn.Module):
    """conv1 to conv4 for one input: position or motion."""

    def __init__(self, joints: int, features: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 64, 1)
        self.conv2 = Conv2d(64, features, (3, 1), padding=(1, 0))
        self.conv3 = Conv2d(joints, 32, 3, padding=1)
        self.conv4 = Conv2d(32, 64, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)

    def points(self, x: Tensor) -> Tensor:
        """Map coordinates (P, 3, T, V) to point-level features, each of a single joint, (P, F, T, V)."""
        x = x.contiguous(memory_format=torch.channels_last)
        points: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return points

    def cooccurrence(self, points: Tensor) -> Tensor:
        """Map point-level features (P, F, T, V) to co-occurrence features (P, 64, ⌈T/4⌉, ⌈F/4⌉).

        First the transition makes joints the channel axis, so that the convolutions see all joints at once.
        """
        joints_first = points.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)
        x = _pool(self.conv3(joints_first))
        dropped: Tensor = self.dropout(_pool(self.conv4(x)))
        return dropped


class HCN(nn.Module):
    """HCN: the position and the motion branch, the layers that follow both, and the class layer.

    All persons share the same weights and run in the batch axis; position and motion have weights of their own.

    Args:
        classes: K.
        joints: V.
        frames: T.
        features: F.
        dropout: dropout probability after conv4, conv5 and conv6 (of whole channels) and after fc7.
        tiam: attention between the two branches, or None.
        tiam_after: where TIAM is applied: after the ``transition`` or after ``conv4``.
        absent_in_tiam: count the maps of absent persons in TIAM's batch norms.

    Raises:
        ValueError: fewer than two frames, from which no motion can be computed.
    """

    def __init__(
        self,
        classes: int,
        *,
        joints: int,
        frames: int,
        features: int = 32,
        dropout: float = 0.5,
        tiam: TIAM | None = None,
        tiam_after: str = "transition",
        absent_in_tiam: bool = False,
    ) -> None:
        super().__init__()
        if frames < 2:
            raise ValueError(f"skeleton_frames is {frames}, but motion needs at least 2")
        self.position = PointBranch(joints, features, dropout)
        self.motion = PointBranch(joints, features, dropout)
        self.tiam = tiam
        self.tiam_after = tiam_after
        self.absent_in_tiam = absent_in_tiam
        self.conv5 = Conv2d(128, 128, 3, padding=1)
        self.conv6 = Conv2d(128, 256, 3, padding=1)
        self.dropout2d = nn.Dropout2d(dropout)
        self.fc7 = Linear(256 * -(-frames // 16) * -(-features // 16), 512)
        self.dropout = nn.Dropout(dropout)
        self.fc8 = Linear(512, classes)

    def advance(self, x: Tensor, present: Tensor, after: str | None, upto: str) -> Tensor:
        """Run the layers that follow ``after``, up to and including ``upto``.

        Args:
            x: output of layer ``after``; the skeletons (N, 3, T, V, M) if it is None.
            present: (N, M), from :func:`persons_present`.
            after: layer of :data:`LAYERS` that has been run last; None starts at the input.
            upto: layer of :data:`LAYERS` whose output is returned.

        Returns:
            (N, M, C, h, w) for conv4, conv5 and conv6; (N, 1, 512) for fc7, which follows the maximum over persons.
        """
        first = 0 if after is None else LAYERS.index(after) + 1
        for layer in LAYERS[first : LAYERS.index(upto) + 1]:
            if layer == "conv4":
                x = self._run_branches(x, None if self.absent_in_tiam else present.flatten())
            elif layer == "fc7":
                x = F.relu(self.fc7(person_max(x, present).flatten(1)), inplace=True)
                x = self.dropout(x)[:, None]
            else:
                maps = F.relu(_pool(self.get_submodule(layer)(x.flatten(0, 1))), inplace=True)
                x = self.dropout2d(maps).view(*x.shape[:2], *maps.shape[1:])
        return x

    def classify(self, x: Tensor) -> Tensor:
        """Map the output of fc7 (N, 1, 512) to logits (N, K)."""
        logits: Tensor = self.fc8(x[:, 0])
        return logits

    def forward(self, skeleton: Tensor) -> Tensor:
        """Map skeletons (N, 3, T, V, M) to logits (N, K)."""
        return self.classify(self.advance(skeleton, persons_present(skeleton), None, "fc7"))

    def _run_branches(self, skeleton: Tensor, present: Tensor | None) -> Tensor:
        """Map (N, 3, T, V, M) to the concatenated maps of both branches (N, M, 128, ⌈T/4⌉, ⌈F/4⌉).

        Args:
            skeleton: the skeletons.
            present: (P,), the persons that TIAM's batch norms count; None: all.
        """
        n, _, _, _, m = skeleton.shape
        persons = skeleton.permute(0, 4, 1, 2, 3).flatten(0, 1)  # (P, 3, T, V)
        maps = self.position.points(persons), self.motion.points(motion_of(persons))
        maps = self._apply_tiam("transition", maps, present)
        maps = self.position.cooccurrence(maps[0]), self.motion.cooccurrence(maps[1])
        both = torch.cat(self._apply_tiam("conv4", maps, present), dim=1)
        return both.view(n, m, *both.shape[1:])

    def _apply_tiam(self, layer: str, maps: tuple[Tensor, Tensor], present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply TIAM to the position and the motion map (P, C, h, w) if its site is ``layer``."""
        if self.tiam is None or layer != self.tiam_after:
            return maps
        attended: tuple[Tensor, Tensor] = self.tiam(*maps, present)
        return attended
