"""Graphs over joints: a joint tree as the adjacency that graph convolutions start from.

Shapes: V joints. An adjacency is (3, V, V); entry [s, u, v] is the weight with which joint u hears joint v in subset s.

Source: the three subsets and their normalisation are those of the public code of CTR-GCN (Chen et al., "Channel-wise
Topology Refinement Graph Convolution for Skeleton-Based Action Recognition", ICCV 2021).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Bones = Sequence[tuple[int, int]]
"""A joint tree as (child, parent) pairs."""


def adjacency(bones: Bones, joints: int) -> Tensor:
    """Return the adjacency (3, V, V) of a joint tree: identity, inward, outward.

    Inward, a parent hears its children; outward, a child hears its parent. Columns are normalised: what one joint says
    is shared evenly among those who hear it. A joint that nobody hears has a column of zeros.

    Raises:
        ValueError: the pairs are not a tree over all joints.
    """
    check_tree(bones, joints)
    inward = torch.zeros(joints, joints)
    for child, parent in bones:
        inward[parent, child] = 1
    return torch.stack([torch.eye(joints), _share_columns(inward), _share_columns(inward.T)])


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


def _share_columns(links: Tensor) -> Tensor:
    """Divide each column by its sum; columns of zeros stay."""
    return links / links.sum(0, keepdim=True).clamp(min=1)
