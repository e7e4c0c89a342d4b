"""The three modalities of a skeleton, and the two token sequences of a modality.

Shapes: N clips, T frames, V joints, M persons.
Skeletons are (N, 3, T, V, M).

Source: Sun et al., "Unified Multi-modal Unsupervised Representation Learning for Skeleton-based Action Understanding"
(UmURL), 2023, and its public code. There the joint tree is that of NTU RGB+D; here it can be any.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MODALITIES = ("joint", "bone", "motion")
"""The modalities of a skeleton, in the order of the views that pre-training shows each of them."""


class Tokens(NamedTuple):
    """Hold the two token sequences of a batch: a token a frame, and a token a person's joint.

    Attributes:
        temporal: (N, T, channels), raw with M·V·3 channels.
        spatial: (N, M·V, channels), raw with T·3 channels.
    """

    temporal: Tensor
    spatial: Tensor


def parents_of(bones: Sequence[tuple[int, int]], joints: int) -> list[int]:
    """Return the parent of each of the V joints along a tree; a root is its own parent.

    Args:
        bones: (child, parent) pairs.
        joints: V.

    Raises:
        ValueError: a bone names a joint that is not there, or two bones give a joint different parents.
    """
    parents = list(range(joints))
    for child, parent in bones:
        if not (0 <= child < joints and 0 <= parent < joints):
            raise ValueError(f"bone ({child}, {parent}) names a joint outside 0 to {joints - 1}")
        if parents[child] not in (child, parent):
            raise ValueError(f"joint {child} has two parents: {parents[child]} and {parent}")
        parents[child] = parent
    return parents


def modality_of(name: str, skeleton: Tensor, parents: Tensor) -> Tensor:
    """Return a modality of skeletons, (N, 3, T, V, M).

    A bone leads from a joint's parent to the joint; a root's is 0. Motion leads to the next frame; the last one's is 0.

    Args:
        name: one of :data:`MODALITIES`.
        skeleton: (N, 3, T, V, M).
        parents: (V,), from :func:`parents_of`.
    """
    if name == "joint":
        return skeleton
    if name == "bone":
        return skeleton - skeleton.index_select(3, parents)
    difference = skeleton[:, :, 1:] - skeleton[:, :, :-1]
    return torch.cat([difference, torch.zeros_like(skeleton[:, :, :1])], dim=2)


def tokens_of(modality: Tensor) -> Tokens:
    """Cut a modality (N, 3, T, V, M) into its raw temporal and spatial tokens."""
    frames = modality.permute(0, 2, 4, 3, 1).flatten(2)
    joints = modality.permute(0, 4, 3, 2, 1).flatten(3).flatten(1, 2)
    return Tokens(frames, joints)
