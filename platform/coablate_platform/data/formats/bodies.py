"""Tracks the bodies that a sensor reports, and keeps those that are people."""

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import Recipe
from coablate_platform.data.formats.skeleton_text import SkeletonText

# T frames of a clip · F frames in which one body is tracked · V joints · M bodies kept

SHORT_LIFE = 11
"""A body that is tracked in at most this many frames is noise. It is dropped, unless no body would be left."""
WIDE = 0.8
"""A body is wide in a frame where its width is more than this share of its height."""
WIDE_FRAMES = 0.69754
"""A body that is wide in at least this share of its frames is furniture. It is dropped, unless no body would be left.

Source: the denoising of the public NTU pipelines, for all three thresholds."""

DENOISING: Recipe = {"short_life": SHORT_LIFE, "wide": WIDE, "wide_frames": WIDE_FRAMES}
"""The thresholds as a store's recipe records them."""

_COLOR = slice(5, 7)


def track_people(
    text: SkeletonText, persons: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]] | None:
    """Track bodies by their id and keep the people among them.

    Bodies that are tracked in at most :data:`SHORT_LIFE` frames are dropped, then furniture (:data:`WIDE_FRAMES`), but
    never the last body. Of the others, the ``persons`` that move most are kept; the one that moves most comes first.

    Args:
        text: the parsed file.
        persons: most bodies to keep.

    Returns:
        Joints (T, M, V, 3) in metres; their positions in the colour image (T, M, V, 2) in pixels, NaN where the sensor
        gave none; and whether each body is tracked (T, M). All three are zero where it is not. None without any body.
    """
    # A body without any position in a frame, or with nothing but zeros, is not tracked there, although it is listed.
    positions = text.joints[..., :3]
    finite = np.isfinite(positions).all(-1)
    seen = (finite & (positions != 0).any(-1)).any(-1)
    tracks = {int(body): np.flatnonzero((text.body == body) & seen) for body in dict.fromkeys(text.body.tolist())}
    xyz = {body: _fill(text.joints[rows, :, :3], text.frame[rows]) for body, rows in tracks.items() if len(rows)}
    if not xyz:
        return None
    kept = _choose(xyz)[:persons]
    joints = np.zeros((text.frames, len(kept), text.joints.shape[1], 3), dtype=np.float32)
    pixels = np.zeros((*joints.shape[:3], 2), dtype=np.float32)
    valid = np.zeros(joints.shape[:2], dtype=np.bool_)
    for slot, body in enumerate(kept):
        rows = tracks[body]
        at = text.frame[rows]
        color = text.joints[rows][..., _COLOR]
        joints[at, slot] = xyz[body]
        pixels[at, slot] = np.where(np.isfinite(color).all(-1, keepdims=True), color, np.nan)
        valid[at, slot] = True
    return joints, pixels, valid


def _choose(xyz: dict[int, NDArray[np.float32]]) -> list[int]:
    """Return the ids of the bodies that are people; the one that moves most comes first."""
    order = sorted(xyz, key=lambda body: -motion(xyz[body]))
    for is_noise in (_is_short, _is_furniture):
        order = [body for body in order if not is_noise(xyz[body])] or order[:1]
    return order


def motion(xyz: NDArray[np.float32]) -> float:
    """Return how much a body moves: the variance of its joints (F, V, 3) in m², over time, summed over the axes."""
    return float(xyz.var(axis=0, dtype=np.float64).sum(-1).mean())


def _is_short(xyz: NDArray[np.float32]) -> bool:
    return len(xyz) <= SHORT_LIFE


def _is_furniture(xyz: NDArray[np.float32]) -> bool:
    width, height = np.moveaxis(np.ptp(xyz[..., :2], axis=1), -1, 0)
    return bool((width > WIDE * height).mean() >= WIDE_FRAMES)


def _fill(xyz: NDArray[np.float32], frame: NDArray[np.int64]) -> NDArray[np.float32]:
    """Fill in joints without a position.

    A position is interpolated over time. A joint that has no position in any frame gets the body's mean in each frame.

    Args:
        xyz: joints of one body (F, V, 3), not finite where the position is unknown.
        frame: numbers of the frames (F,) in which the body is tracked.
    """
    lost: NDArray[np.bool_] = ~np.all(np.isfinite(xyz), axis=-1)
    if not lost.any():
        return xyz
    filled = np.where(lost[..., None], np.float32(0), xyz)
    mean = filled.sum(1) / (~lost).sum(1)[:, None]
    for joint in np.flatnonzero(lost.any(0)):
        known = np.flatnonzero(~lost[:, joint])
        for axis in range(3):
            gaps = np.interp(frame, frame[known], filled[known, joint, axis]) if len(known) else mean[:, axis]
            filled[:, joint, axis] = np.where(lost[:, joint], gaps, filled[:, joint, axis])
    return filled
