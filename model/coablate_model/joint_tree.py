"""Joint trees, and what they make of a skeleton: bones, and the motion of joints or bones.

Shapes: N clips, T frames, V joints, M persons. Skeletons are (N, 3, T, V, M).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Bones = Sequence[tuple[int, int]]
"""A joint tree as (child, parent) pairs."""


def parents_of(bones: Bones, joints: int) -> list[int]:
    """Return the parent of each of the V joints; the root is its own parent.

    Args:
        bones: the joint tree.
        joints: V.

    Raises:
        ValueError: the pairs are not a tree over all joints.
    """
    check_tree(bones, joints)
    parents = list(range(joints))
    for child, parent in bones:
        parents[child] = parent
    return parents


def check_tree(bones: Bones, joints: int) -> None:
    """Check that the pairs are a tree over all joints.

    Raises:
        ValueError: a joint is unknown, has two parents, or does not reach the root.
    """
    parent_of = dict(bones)
    if unknown := sorted({joint for bone in bones for joint in bone} - set(range(joints))):
        raise ValueError(f"bone joins joint {unknown[0]}, but the joints are 0 to {joints - 1}")
    if len(parent_of) != len(bones):
        raise ValueError("a joint has two parents; bones are (child, parent) pairs of a tree")
    if len(bones) != joints - 1:
        raise ValueError(f"{len(bones)} bones do not make a tree of {joints} joints, which has {joints - 1}")
    for joint in range(joints):
        ancestor = joint
        for _ in range(joints):
            ancestor = parent_of.get(ancestor, ancestor)
        if ancestor in parent_of:
            raise ValueError(f"joint {joint} does not reach the root: its bones form a circle")


def bones_of(skeleton: Tensor, parents: Tensor) -> Tensor:
    """Return each joint minus its parent, (N, 3, T, V, M); 0 at the root.

    Args:
        skeleton: (N, 3, T, V, M).
        parents: (V,), from :func:`parents_of`.
    """
    return skeleton - skeleton.index_select(3, parents)


def motions_of(skeleton: Tensor) -> Tensor:
    """Return the next frame minus this one, (N, 3, T, V, M); 0 in the last frame."""
    differences = skeleton[:, :, 1:] - skeleton[:, :, :-1]
    return torch.cat([differences, torch.zeros_like(skeleton[:, :, :1])], dim=2)
