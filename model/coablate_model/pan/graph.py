"""Graphs over joints: a joint tree as the adjacency that graph convolutions start from.

Shapes: V joints. An adjacency is (3, V, V); entry [s, u, v] is the weight with which joint u hears joint v in subset s.

Source: the three subsets and their normalisation are those of the public code of CTR-GCN (Chen et al., "Channel-wise
Topology Refinement Graph Convolution for Skeleton-Based Action Recognition", ICCV 2021).
"""

import torch
from torch import Tensor

from coablate_model.joint_tree import Bones, check_tree


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


def _share_columns(links: Tensor) -> Tensor:
    """Divide each column by its sum; columns of zeros stay."""
    return links / links.sum(0, keepdim=True).clamp(min=1)
