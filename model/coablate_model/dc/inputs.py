"""The three modalities of a skeleton, and the two token sequences of a modality.

Shapes: N clips, T frames, V joints, M persons.
Skeletons are (N, 3, T, V, M).

Source: Sun et al., "Unified Multi-modal Unsupervised Representation Learning for Skeleton-based Action Understanding"
(UmURL), 2023, and its public code. There the joint tree is that of NTU RGB+D; here it can be any.
"""

from typing import NamedTuple

from torch import Tensor

from coablate_model.joint_tree import bones_of, motions_of

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


def modality_of(name: str, skeleton: Tensor, parents: Tensor) -> Tensor:
    """Return a modality of skeletons, (N, 3, T, V, M).

    A bone leads from a joint's parent to the joint; a root's is 0. Motion leads to the next frame; the last one's is 0.

    Args:
        name: one of :data:`MODALITIES`.
        skeleton: (N, 3, T, V, M).
        parents: (V,), from :func:`~coablate_model.joint_tree.parents_of`.
    """
    if name == "joint":
        return skeleton
    return bones_of(skeleton, parents) if name == "bone" else motions_of(skeleton)


def tokens_of(modality: Tensor) -> Tokens:
    """Cut a modality (N, 3, T, V, M) into its raw temporal and spatial tokens."""
    frames = modality.permute(0, 2, 4, 3, 1).flatten(2)
    joints = modality.permute(0, 4, 3, 2, 1).flatten(3).flatten(1, 2)
    return Tokens(frames, joints)
