"""Joint layouts: the joints of a skeleton, its bones, and which joints are mirror images of each other."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class JointLayout:
    """The joints of one sensor's skeleton, in the order of a clip's arrays.

    Args:
        name: key in :data:`LAYOUTS`, or the name of a reader's own layout.
        joints: names of the V joints.
        bones: the tree that graph networks use, as (child, parent) pairs.
        official_bones: the tree of the data set's own viewer; equal to ``bones`` where the two do not differ.
        centre: number of the joint that sampling moves to the origin: the middle of the spine or of the hips.
        mirror: for each joint, the joint that replaces it when left and right are swapped.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    official_bones: tuple[tuple[int, int], ...]
    centre: int
    mirror: tuple[int, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> "JointLayout":
        """Return the layout whose :meth:`to_plain` gives these values.

        Raises:
            TypeError: a field is missing, or unknown.
        """
        return cls(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _mirror(joints: tuple[str, ...]) -> tuple[int, ...]:
    """Return the number of each joint's mirror image: ``left …`` and ``right …`` swap, other joints stay."""
    swap = {"left": "right", "right": "left"}
    images = (" ".join(swap.get(word, word) for word in joint.split()) for joint in joints)
    return tuple(joints.index(image) for image in images)


_V2 = (
    *("base of spine", "middle of spine", "neck", "head"),
    *("left shoulder", "left elbow", "left wrist", "left hand"),
    *("right shoulder", "right elbow", "right wrist", "right hand"),
    *("left hip", "left knee", "left ankle", "left foot"),
    *("right hip", "right knee", "right ankle", "right foot"),
    *("spine at shoulders", "left hand tip", "left thumb", "right hand tip", "right thumb"),
)
_V2_BODY = (
    *((0, 1), (1, 20), (2, 20), (3, 2)),
    *((4, 20), (5, 4), (6, 5), (7, 6)),
    *((8, 20), (9, 8), (10, 9), (11, 10)),
    *((12, 0), (13, 12), (14, 13), (15, 14)),
    *((16, 0), (17, 16), (18, 17), (19, 18)),
)
KINECT_V2 = JointLayout(
    name="kinect_v2",
    joints=_V2,
    bones=(*_V2_BODY, (21, 22), (22, 7), (23, 24), (24, 11)),
    official_bones=(*_V2_BODY, (21, 7), (22, 7), (23, 11), (24, 11)),
    centre=1,
    mirror=_mirror(_V2),
)
"""NTU RGB+D: 25 joints in the order of the files."""

_V1 = (
    *("hip centre", "spine", "shoulder centre", "head"),
    *("left shoulder", "left elbow", "left wrist", "left hand"),
    *("right shoulder", "right elbow", "right wrist", "right hand"),
    *("left hip", "left knee", "left ankle", "left foot"),
    *("right hip", "right knee", "right ankle", "right foot"),
)
_V1_BONES = (
    *((1, 0), (2, 1), (3, 2)),
    *((4, 2), (5, 4), (6, 5), (7, 6)),
    *((8, 2), (9, 8), (10, 9), (11, 10)),
    *((12, 0), (13, 12), (14, 13), (15, 14)),
    *((16, 0), (17, 16), (18, 17), (19, 18)),
)
KINECT_V1 = JointLayout(
    name="kinect_v1", joints=_V1, bones=_V1_BONES, official_bones=_V1_BONES, centre=0, mirror=_mirror(_V1)
)
"""NW-UCLA and UTD-MHAD: 20 joints in the sensor's order. UTD-MHAD's files have another order; its reader sorts them."""

_PUPPET = (
    *("neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip"),
    *("right elbow", "left elbow", "right knee", "left knee"),
    *("right wrist", "left wrist", "right ankle", "left ankle"),
)
_PUPPET_BONES = (
    *((1, 0), (2, 0), (3, 0), (4, 0)),
    *((7, 3), (11, 7), (8, 4), (12, 8)),
    *((5, 1), (9, 5), (13, 9), (6, 1), (10, 6), (14, 10)),
)
PUPPET = JointLayout(
    name="puppet", joints=_PUPPET, bones=_PUPPET_BONES, official_bones=_PUPPET_BONES, centre=1, mirror=_mirror(_PUPPET)
)
"""JHMDB: 15 joints of the annotators' puppet, in the order of the files. Hands and feet are none of them."""

LAYOUTS = {layout.name: layout for layout in (KINECT_V1, KINECT_V2, PUPPET)}
