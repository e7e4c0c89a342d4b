"""Reads UTD-MHAD: skeletons and depth videos in Matlab files. The rendered depth video is the video."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import BadClip, ClipRef, RawClip, Recipe, to_float32, tracked_frames
from coablate_platform.data.formats.depth import CROP_LEFT, FOCAL, RENDERING, DepthVideo, load_matrix
from coablate_platform.data.formats.files import FileNames
from coablate_platform.data.joints import KINECT_V1, JointLayout

_FILES = FileNames(
    clip=r"a(\d+)_s(\d+)_t(\d+)",
    skeleton=r"_skeleton\.mat",
    video=r"_depth\.mat",
    expected="UTD-MHAD files named like Skeleton/a1_s1_t1_skeleton.mat and Depth/a1_s1_t1_depth.mat",
)
CLASSES = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counter clockwise", "draw triangle", "bowling", "boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch"),
    *("pick up and throw", "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
_ORDER = (3, 2, 1, 0, *range(4, 20))
"""Number, in the file (head, shoulder centre, spine, hip centre …), of each joint of :data:`KINECT_V1`."""

_CENTRE = (160.0, 120.0)
"""Centre of the depth camera's frame in pixels, x then y."""


@dataclass(frozen=True, kw_only=True)
class UtdMhad:
    """Reads ``aA_sS_tT_skeleton.mat`` and ``aA_sS_tT_depth.mat`` (official folders ``Skeleton`` and ``Depth``).

    A set without any depth video is read as skeletons only. If some clips have one, the others are listed as missing.
    A frame whose joints are all zero has no tracked body. A trial is the clip's replication; there is one camera.
    Joints are put into the order of :data:`KINECT_V1`. Their pixels are projections into the frames of
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
        return {"reader": 2, **RENDERING}

    def at(self, path: str) -> "UtdMhad":
        """Return this reader with or without video, as the clips under ``path`` have it.

        Raises:
            InputError: there is no clip.
        """
        return replace(self, has_video=any(clip.video is not None for clip in self.list_clips(path)))

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted by action, subject and trial.

        Raises:
            InputError: there is no clip, or one appears twice.
        """
        return _FILES.clips(path)

    def missing(self, path: str) -> dict[str, str]:
        """Return the clips that lack a file: the data set has no list of unusable clips."""
        return _FILES.unpaired(path)

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip; its depth video is not rendered yet.

        Raises:
            BadClip: the skeleton is not a Matlab file of that form.
            OSError: the system could not read the file.
        """
        action, subject, trial = _FILES.numbers(ref.name)
        file = str(ref.skeleton)
        if not 1 <= action <= len(self.classes):
            raise BadClip(file, f"action {action} is none of the set's {len(self.classes)} classes")
        joints = load_matrix(ref.skeleton, "d_skel")
        if joints.ndim != 3 or joints.shape[:2] != (20, 3) or not joints.shape[2]:
            raise BadClip(file, f"expected d_skel of shape (20, 3, T), found {joints.shape}")
        xyz = np.ascontiguousarray(to_float32(joints).transpose(2, 0, 1)[:, _ORDER])[:, None]
        if not np.isfinite(xyz).all():
            raise BadClip(file, "a joint is not a finite number")
        valid = tracked_frames(xyz, file)
        return RawClip(
            name=ref.name,
            label=action - 1,
            subject=subject,
            camera=1,
            setup=1,
            replication=trial,
            xyz=xyz,
            pixels=np.where(valid[..., None, None], project(xyz), np.float32(0)),
            valid=valid,
            video=None if ref.video is None else DepthVideo(file=ref.video),
        )


def project(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project joints (…, 3) in metres into the rendered depth video: (…, 2) in pixels, NaN behind the camera."""
    x, y, z = np.moveaxis(xyz, -1, 0)
    z = np.where(z > 0, z, np.nan)
    return np.stack([_CENTRE[0] - CROP_LEFT + FOCAL * x / z, _CENTRE[1] - FOCAL * y / z], axis=-1).astype(np.float32)
