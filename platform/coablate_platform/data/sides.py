"""Encodes on which side of its set's published splits a clip is, where lists of names say so.

Protocols filter rows by the numbers in a store's index, so a reader of such a set writes the code into ``setup``.
"""

import itertools
from collections.abc import Sequence

SIDES = ("train", "validation", "test")
"""The sides of a split. A clip of the validation side is one of the published training clips that is held out."""


def code_of(sides: Sequence[str]) -> int:
    """Return the code of a clip, from 1 to 3 to the power of the number of splits.

    Args:
        sides: the clip's side in every split of its data set, in a fixed order.

    Raises:
        ValueError: a side is none of :data:`SIDES`.
    """
    code = 0
    for side in reversed(sides):
        code = code * len(SIDES) + SIDES.index(side)
    return 1 + code


def codes_with(splits: int, number: int, *sides: str) -> frozenset[int]:
    """Return the codes of all clips that are on one of some sides in one split.

    Args:
        splits: number of splits of the data set.
        number: number of the split, from 0.
        sides: the sides to keep.
    """
    return frozenset(code_of(all_) for all_ in itertools.product(SIDES, repeat=splits) if all_[number] in sides)
