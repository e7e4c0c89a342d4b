"""Finds the joints in the frames of a sample: pure functions of a clip and a transform.

Shapes: T skeleton frames, F video frames of the sample, M persons, V joints, S pixels of the sample's side.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.augment import Transform
from coablate_platform.data.joints import JointLayout
from coablate_platform.data.store import StoredClip
from coablate_platform.study.config import DataConfig

_MARGIN = 1 / 8  # of the joints' extent, on each side: the hands and the top of the head lie beyond their joints


class Region(NamedTuple):
    """A rectangle in pixels of a video frame; it may reach beyond the frame."""

    top: int
    left: int
    height: int
    width: int


def persons_region(clip: StoredClip, size: tuple[int, int]) -> Region | None:
    """Return the square around all joints that lie on the frames (H, W), with a margin; None without such a joint."""
    if clip.pixels is None:
        return None
    joints = clip.pixels[clip.pixels.any(-1)]  # (J, 2), x then y
    inside = ((joints >= 0) & (joints < (size[1], size[0]))).all(-1)  # False where unknown: NaN
    if not inside.any():
        return None
    low, high = joints[inside].min(0), joints[inside].max(0)
    side = max(1, math.ceil((1 + 2 * _MARGIN) * float((high - low).max())))
    left, top = np.rint((low + high - side) / 2).astype(int).tolist()
    return Region(top, left, side, side)


def joint_pixels(
    source: StoredClip,
    clip: StoredClip,
    shown: NDArray[np.int64],
    square: Region,
    transform: Transform,
    config: DataConfig,
    layout: JointLayout,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where the joints are in the frames of a sample, and which of them are there.

    The joints move with the pixels: they are cropped, scaled and mirrored as the video is. Then the noise of the
    settings is added.

    Args:
        source: the clip whose joints are looked up. Those of another clip are taken at the same share of its length and
            of its frame.
        clip: the clip whose frames are shown.
        shown: skeleton frames (F,) of the clip at the video's frames.
        square: the part of the frames that is shown.
        transform: the parameters of the sample.
        config: the side S, and the noise on pixels.
        layout: each joint's mirror image.

    Returns:
        Pixels (F, M, V, 2), x then y, zeros where a joint is not visible; and whether it is (F, M, V): it has a
        position that lies on the S×S frame.
    """
    assert source.pixels is not None  # a clip with a video has pixels
    assert source.video is not None
    assert clip.video is not None
    if source is not clip:
        shown = shown * (len(source.pixels) - 1) // max(len(clip.xyz) - 1, 1)
    found = source.pixels[shown].astype(np.float32)
    visible = np.asarray(np.isfinite(found).all(-1) & found.any(-1))
    height, width = (mine / other for mine, other in zip(clip.video.size, source.video.size, strict=True))
    factor, corner = np.array([width, height]), np.array([square.left, square.top])
    moved = (((found + 0.5) * factor - corner) * (config.size / square.height) - 0.5).astype(np.float32)
    if transform.flip:
        mirror = list(layout.mirror)
        moved, visible = moved[:, :, mirror], visible[:, :, mirror]
        moved[..., 0] = config.size - 1 - moved[..., 0]
    moved, visible = _degrade(moved, visible, transform, config)
    with np.errstate(invalid="ignore"):  # positions that are unknown are NaN
        inside = ((moved >= -0.5) & (moved < config.size - 0.5)).all(-1)
    visible = np.asarray(visible & inside)
    return np.where(visible[..., None], moved, np.float32(0)), visible


def _degrade(
    pixels: NDArray[np.float32], visible: NDArray[np.bool_], transform: Transform, config: DataConfig
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Add the noise of a poor pose estimator: jitter, and joints that it does not find."""
    if not config.pixel_jitter and not config.pixel_dropout:
        return pixels, visible
    generator = np.random.Generator(np.random.PCG64(transform.pixel_seed))
    lost = generator.random(visible.shape) < config.pixel_dropout
    noise = generator.standard_normal(pixels.shape, dtype=np.float32)
    return pixels + np.float32(config.pixel_jitter * config.size) * noise, visible & ~lost
