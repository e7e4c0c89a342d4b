"""Reads NW-UCLA Multiview Action 3D: skeletons as JSON files, from three views."""

import json
from dataclasses import dataclass

import numpy as np

from coablate_platform.data.formats.clip import BadClip, ClipRef, RawClip, Recipe, to_float32, tracked_frames
from coablate_platform.data.formats.files import FileNames, read_bytes
from coablate_platform.data.joints import KINECT_V1, JointLayout

_FILES = FileNames(
    clip=r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})",
    skeleton=r"\.json",
    expected="NW-UCLA files named like a01_s01_e00_v01.json",
)
CLASSES = (
    *("pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down"),
    *("stand up", "donning", "doffing", "throw", "carry"),
)


@dataclass(frozen=True, kw_only=True)
class NwUcla:
    """Reads ``aAA_sSS_eEE_vVV.json`` (``skeletons`` [T][20][3] in metres, ``label`` counted from 1).

    The class is the file's ``label``, since the action numbers in file names have gaps. A view is the clip's camera, an
    episode (counted from 0) its replication. A frame whose joints are all zero has no tracked body.
    """

    name: str = "nw_ucla"
    layout: JointLayout = KINECT_V1
    persons: int = 1
    classes: tuple[str, ...] = CLASSES
    default_protocol: str = "ucla/cv"
    has_video: bool = False

    @property
    def reading(self) -> Recipe:
        return {"reader": 1}

    def at(self, path: str) -> "NwUcla":
        """Return this reader; raise InputError if there is no clip under ``path``."""
        self.list_clips(path)
        return self

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted by name.

        Raises:
            InputError: there is no clip, or one appears twice.
        """
        return _FILES.clips(path)

    def missing(self, path: str) -> dict[str, str]:
        """Return an empty dictionary: the data set has no list of unusable clips."""
        return {}

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip.

        Raises:
            BadClip: the file is not JSON of that form.
            OSError: the system could not read the file.
        """
        file = str(ref.skeleton)
        try:
            content = json.loads(read_bytes(ref.skeleton))
            label, joints = content["label"], np.asarray(content["skeletons"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise BadClip(file, f"expected label and skeletons as JSON ({type(error).__name__}: {error})") from None
        if type(label) is not int:  # not a bool either, which Python counts among the integers
            raise BadClip(file, f"label {json.dumps(label)[:60]} is not a whole number")
        if not 1 <= label <= len(self.classes):
            raise BadClip(file, f"label {label} is none of the set's {len(self.classes)} classes")
        count = len(self.layout.joints)
        if joints.ndim != 3 or joints.shape[1:] != (count, 3) or not len(joints):
            raise BadClip(file, f"expected skeletons of shape (T, {count}, 3), found {joints.shape}")
        if joints.dtype.kind not in "if":
            raise BadClip(file, "a joint is not a number")
        xyz = to_float32(joints)[:, None]
        if not np.isfinite(xyz).all():
            raise BadClip(file, "a joint is not a finite number")
        valid = tracked_frames(xyz, file)
        _, subject, episode, view = _FILES.numbers(ref.name)
        return RawClip(
            name=ref.name,
            label=label - 1,
            subject=subject,
            camera=view,
            setup=1,
            replication=episode,
            xyz=xyz,
            pixels=None,
            valid=valid,
            video=None,
        )
