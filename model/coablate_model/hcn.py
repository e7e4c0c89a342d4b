"""HCN, the skeleton stream: co-occurrence features of joints, learnt hierarchically.

Shapes: N clips, M persons, P = N·M, T frames, V joints, F point features, K classes.
Skeletons are (N, 3, T, V, M); per-person maps are (N, M, C, h, w).

Source: Li et al., "Co-occurrence Feature Learning from Skeleton Data for Action Recognition and Detection with
Hierarchical Aggregation", IJCAI 2018. Readings that are ours: absent persons (all zeros) do not take part in the
maximum over persons, and pools round up, so that any number of frames runs (multiples of 16 are as published).
Max-pooling is done before ReLU and channel dropout, which it commutes with exactly, on a quarter of the values.
Maps are kept in channels-last layout, in which a CPU takes a fifth less time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coablate_model.tiam import TIAM

LAYERS = ("conv4", "conv5", "conv6", "fc7")
"""Layers after which fusion can stand, in order of execution."""

LAYER_CHANNELS = {"conv4": 128, "conv5": 128, "conv6": 256, "fc7": 512}
"""Channels after each layer; conv4 counts position and motion together."""


def motion_of(position: Tensor) -> Tensor:
    """Return the differences of neighbouring frames, resampled linearly from T-1 back to T.

    Args:
        position: (P, 3, T, V).

    Returns:
        (P, 3, T, V).
    """
    difference = position[:, :, 1:] - position[:, :, :-1]
    return F.interpolate(difference, size=position.shape[2:], mode="bilinear", align_corners=False)


def persons_present(skeleton: Tensor) -> Tensor:
    """Return which persons count (N, M); where none is there, all do, so that a maximum over them exists."""
    present = (skeleton != 0).flatten(1, 3).any(1)
    return present | ~present.any(1, keepdim=True)


def person_max(maps: Tensor, present: Tensor) -> Tensor:
    """Return the elementwise maximum over the persons present.

    Args:
        maps: (N, M, ...).
        present: (N, M).

    Returns:
        (N, ...).
    """
    absent = ~present.reshape(present.shape + (1,) * (maps.ndim - 2))
    return maps.masked_fill(absent, float("-inf")).amax(1)


def _pool(x: Tensor) -> Tensor:
    """Halve both axes, rounding up."""
    return F.max_pool2d(x, 2, ceil_mode=True)


class Conv2d(nn.Conv2d):
    """A convolution that starts as the public code's: Glorot-uniform weights, no bias.

    torch's own start halves the signal layer by layer; without batch norm the network then hardly starts to learn.
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        _glorot(self)


class Linear(nn.Linear):
    """A linear layer that starts like :class:`Conv2d`."""

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        _glorot(self)


def _glorot(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class PointBranch(nn.Module):
    """conv1 to conv4 of one input (position or motion)."""

    def __init__(self, joints: int, features: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 64, 1)
        self.conv2 = Conv2d(64, features, (3, 1), padding=(1, 0))
        self.conv3 = Conv2d(joints, 32, 3, padding=1)
        self.conv4 = Conv2d(32, 64, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)

    def points(self, x: Tensor) -> Tensor:
        """Map (P, 3, T, V) to the features of every joint by itself (P, F, T, V)."""
        x = x.contiguous(memory_format=torch.channels_last)
        points: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return points

    def cooccurrence(self, points: Tensor) -> Tensor:
        """Map (P, F, T, V) to (P, 64, ⌈T/4⌉, ⌈F/4⌉); joints become channels first (the transition)."""
        joints_first = points.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)
        x = _pool(self.conv3(joints_first))
        dropped: Tensor = self.dropout(_pool(self.conv4(x)))
        return dropped


class HCN(nn.Module):
    """Both branches, the shared trunk and the class layer.

    Args:
        classes: K.
        joints: V.
        frames: T.
        features: F.
        dropout: probability after conv4, conv5, conv6 (whole channels) and fc7.
        tiam: attention between the branches, or None.
        tiam_after: ``transition`` or ``conv4``.

    Raises:
        ValueError: fewer than two frames (no motion).
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
    ) -> None:
        super().__init__()
        if frames < 2:
            raise ValueError(f"skeleton_frames is {frames}, but motion needs at least 2")
        self.position = PointBranch(joints, features, dropout)
        self.motion = PointBranch(joints, features, dropout)
        self.tiam = tiam
        self.tiam_after = tiam_after
        self.conv5 = Conv2d(128, 128, 3, padding=1)
        self.conv6 = Conv2d(128, 256, 3, padding=1)
        self.dropout2d = nn.Dropout2d(dropout)
        self.fc7 = Linear(256 * -(-frames // 16) * -(-features // 16), 512)
        self.dropout = nn.Dropout(dropout)
        self.fc8 = Linear(512, classes)

    def advance(self, x: Tensor, present: Tensor, after: str | None, upto: str) -> Tensor:
        """Run the layers behind ``after`` (None: from the skeleton) up to and with ``upto``.

        Args:
            x: the skeleton (N, 3, T, V, M) or what ``after`` gave.
            present: (N, M), from :func:`persons_present`.

        Returns:
            (N, M, C, h, w) up to conv6, (N, 1, 512) from fc7, which stands behind the maximum over persons.
        """
        first = 0 if after is None else LAYERS.index(after) + 1
        for layer in LAYERS[first : LAYERS.index(upto) + 1]:
            if layer == "conv4":
                x = self._branches(x)
            elif layer == "fc7":
                x = F.relu(self.fc7(person_max(x, present).flatten(1)), inplace=True)
                x = self.dropout(x)[:, None]
            else:
                maps = F.relu(_pool(self.get_submodule(layer)(x.flatten(0, 1))), inplace=True)
                x = self.dropout2d(maps).view(*x.shape[:2], *maps.shape[1:])
        return x

    def classify(self, x: Tensor) -> Tensor:
        """Map fc7's (N, 1, 512) to scores (N, K)."""
        scores: Tensor = self.fc8(x[:, 0])
        return scores

    def forward(self, skeleton: Tensor) -> Tensor:
        """Map skeletons (N, 3, T, V, M) to scores (N, K)."""
        return self.classify(self.advance(skeleton, persons_present(skeleton), None, "fc7"))

    def _branches(self, skeleton: Tensor) -> Tensor:
        """Map (N, 3, T, V, M) to position and motion maps side by side (N, M, 128, ⌈T/4⌉, ⌈F/4⌉)."""
        n, _, _, _, m = skeleton.shape
        moved = skeleton.permute(0, 4, 1, 2, 3).flatten(0, 1)
        position, motion = self.position.points(moved), self.motion.points(motion_of(moved))
        position, motion = self._attend("transition", position, motion)
        position, motion = self.position.cooccurrence(position), self.motion.cooccurrence(motion)
        position, motion = self._attend("conv4", position, motion)
        maps = torch.cat([position, motion], dim=1)
        return maps.view(n, m, *maps.shape[1:])

    def _attend(self, place: str, position: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Let TIAM exchange between (P, C, T, V) maps if it stands at this place."""
        if self.tiam is None or place != self.tiam_after:
            return position, motion
        exchanged: tuple[Tensor, Tensor] = self.tiam(position, motion)
        return exchanged
