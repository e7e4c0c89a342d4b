"""UTD-MHAD: skeletons and depth video in Matlab files; the depth video, rendered, is the video stream."""

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import NO_SKELETON, BadClip, ClipRef, RawClip, Recipe, to_float32
from coablate_platform.data.formats.depth import CROP_LEFT, FOCAL, RENDERING, DepthVideo, load_matrix
from coablate_platform.data.formats.files import pair
from coablate_platform.data.joints import KINECT_V1, JointLayout
from coablate_platform.study.errors import InputError

_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)")
_SUFFIXES = ("_skeleton.mat", "_depth.mat")
CLASSES = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counter clockwise", "draw triangle", "bowling", "boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch"),
    *("pick up and throw", "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
_ORDER = (3, 2, 1, 0, *range(4, 20))
"""The set's joints (head, shoulder centre, spine, hip centre …) in the order of :data:`KINECT_V1`."""

_CENTRE = (160.0, 120.0)
"""Of the depth camera's frame, in pixels."""


@dataclass(frozen=True, kw_only=True)
class UtdMhad:
    """Reads ``aA_sS_tT_skeleton.mat`` and ``aA_sS_tT_depth.mat`` (official folders ``Skeleton`` and ``Depth``).

    A set without depth videos is read without them; where some clips have one, ``prepare`` leaves out those that have
    none. Trials are replications; there is one camera. Joints are put into the order of :data:`KINECT_V1`, and
    projected into the frame of the rendered depth video, see
    :class:`~coablate_platform.data.formats.depth.DepthVideo`.
    """

    name: str = "utd_mhad"
    layout: JointLayout = KINECT_V1
    persons: int = 1
    classes: tuple[str, ...] = CLASSES
    default_protocol: str = "utd/cs"
    has_video: bool = True

    @property
    def reading(self) -> Recipe:
        return {"reader": 1, **RENDERING}

    def at(self, path: str) -> "UtdMhad":
        """Return this source as it describes the clips under ``path``: with or without depth videos.

        Raises:
            InputError: no clip lies there.
        """
        return replace(self, has_video=any(clip.video is not None for clip in self.list_clips(path)))

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted by action, subject and trial.

        Raises:
            InputError: no clip lies there, or the same one twice.
        """
        skeletons, depths = pair(path, _NAME, _SUFFIXES)
        if not skeletons:
            raise InputError(
                f"{path}: no UTD-MHAD clip found; expected Skeleton/a1_s1_t1_skeleton.mat and Depth/a1_s1_t1_depth.mat"
            )
        names = sorted(skeletons, key=_fields)
        return [ClipRef(name=name, skeleton=skeletons[name], video=depths.get(name)) for name in names]

    def missing(self, path: str) -> dict[str, str]:
        """Return the depth videos without a skeleton: the data set has no list of unusable clips."""
        skeletons, depths = pair(path, _NAME, _SUFFIXES)
        return dict.fromkeys(sorted(depths.keys() - skeletons.keys(), key=_fields), NO_SKELETON)

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip; its depth video is not rendered yet.

        Raises:
            BadClip: the skeleton is not a Matlab file of that form.
            OSError: it could not be read.
        """
        action, subject, trial = _fields(ref.name)
        file = str(ref.skeleton)
        if not 1 <= action <= len(self.classes):
            raise BadClip(file, f"action {action} of a set with {len(self.classes)} classes")
        joints = load_matrix(ref.skeleton, "d_skel")
        if joints.ndim != 3 or joints.shape[:2] != (20, 3) or not joints.shape[2]:
            raise BadClip(file, f"expected d_skel of shape (20, 3, T), found {joints.shape}")
        xyz = np.ascontiguousarray(to_float32(joints).transpose(2, 0, 1)[:, _ORDER])[:, None]
        if not np.isfinite(xyz).all():
            raise BadClip(file, "a joint is not a finite number")
        return RawClip(
            name=ref.name,
            label=action - 1,
            subject=subject,
            camera=1,
            setup=1,
            replication=trial,
            xyz=xyz,
            pixels=project(xyz),
            valid=np.ones(xyz.shape[:2], dtype=np.bool_),
            video=None if ref.video is None else DepthVideo(file=ref.video),
        )


def project(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project joints (…, 3) in metres into the frame of the rendered depth video (…, 2), x then y, in pixels."""
    x, y, z = np.moveaxis(xyz, -1, 0)
    z = np.where(z > 0, z, np.nan)
    return np.stack([_CENTRE[0] - CROP_LEFT + FOCAL * x / z, _CENTRE[1] - FOCAL * y / z], axis=-1).astype(np.float32)


def _fields(name: str) -> tuple[int, ...]:
    """Return action, subject and trial."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not a clip's name")
    return tuple(int(number) for number in found.groups())
