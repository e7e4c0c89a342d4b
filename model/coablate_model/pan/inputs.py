"""Bones and motions: what a skeleton graph network reads beside the joints themselves.

Shapes: N clips, T frames, V joints, M persons. Skeletons are (N, 3, T, V, M).

Source: the public code of CTR-GCN. There, a bone to an absent joint has the length of the other joint's position. Our
reading: it is 0, as absent joints are themselves.

By default a joint is absent where it is exactly 0. Where skeletons are centred on a joint, that joint is exactly 0 and
yet present: then pass :func:`persons_tracked` or a mask from the data set.
"""

import torch
from torch import Tensor

from coablate_model.joint_tree import bones_of, motions_of


def joints_tracked(skeleton: Tensor) -> Tensor:
    """Return which joints have a coordinate that is not 0, (N, T, V, M)."""
    return (skeleton != 0).any(1)


def persons_tracked(skeleton: Tensor) -> Tensor:
    """Return which persons have, in a frame, any coordinate that is not 0, repeated for their joints (N, T, V, M)."""
    tracked = joints_tracked(skeleton)
    return tracked.any(2, keepdim=True).expand_as(tracked)


def tracked_bones(skeleton: Tensor, parents: Tensor, present: Tensor | None = None) -> Tensor:
    """Return each joint minus its parent, (N, 3, T, V, M); 0 at the root, and where either joint is absent.

    Args:
        skeleton: (N, 3, T, V, M).
        parents: (V,), from :func:`~coablate_model.joint_tree.parents_of`.
        present: (N, T, V, M) bool; None: :func:`joints_tracked`.
    """
    present = joints_tracked(skeleton) if present is None else present
    both = present & present.index_select(2, parents)
    return bones_of(skeleton, parents).masked_fill(~both[:, None], 0)


def tracked_motions(skeleton: Tensor, present: Tensor | None = None) -> Tensor:
    """Return the next frame minus this one, (N, 3, T, V, M); 0 in the last frame, and where a joint lacks in either.

    Args:
        skeleton: (N, 3, T, V, M).
        present: (N, T, V, M) bool; None: :func:`joints_tracked`.
    """
    present = joints_tracked(skeleton) if present is None else present
    both = present & torch.cat([present[:, 1:], present[:, -1:]], dim=1)
    return motions_of(skeleton).masked_fill(~both[:, None], 0)
