"""Which of the bodies that a sensor reports are people, and where each one is over time."""

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import Recipe
from coablate_platform.data.formats.skeleton_text import SkeletonText

# T frames of a clip · F frames in which one body is tracked · V joints · M bodies kept

SHORT_LIFE = 11
"""Bodies tracked in no more frames than this are not people, where there are others."""
WIDE = 0.8
"""A person is not wider than this share of their height …"""
WIDE_FRAMES = 0.69754
"""… in this share of their frames. Source: the denoising of the public NTU pipelines."""

DENOISING: Recipe = {"short_life": SHORT_LIFE, "wide": WIDE, "wide_frames": WIDE_FRAMES}
"""The thresholds, as a store's recipe names them."""

_COLOR = slice(5, 7)


def people(
    text: SkeletonText, persons: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]] | None:
    """Follow bodies by their id and keep the people among them.

    With more than one body, those that live no longer than :data:`SHORT_LIFE` frames go, then furniture (wider than
    tall); of the rest the ``persons`` that move most stay, in that order. The last body never goes.

    Args:
        text: the parsed file.
        persons: the most bodies to keep.

    Returns:
        Joints (T, M, V, 3) in metres, positions in the colour image (T, M, V, 2) in pixels with NaN where the sensor
        gave none, and where each body is tracked (T, M); all are zero elsewhere. None without any body.
    """
    # A body without any position is not tracked there, whatever the file counts.
    seen = np.isfinite(text.joints[..., :3]).all(-1).any(-1)
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
    """Return the bodies that are people, those that move most first."""
    order = sorted(xyz, key=lambda body: -_motion(xyz[body]))
    for is_noise in (_is_short, _is_furniture):
        order = [body for body in order if not is_noise(xyz[body])] or order[:1]
    return order


def _motion(xyz: NDArray[np.float32]) -> float:
    """Variance over time, summed over the axes, averaged over joints, in square metres."""
    return float(xyz.var(axis=0, dtype=np.float64).sum(-1).mean())


def _is_short(xyz: NDArray[np.float32]) -> bool:
    return len(xyz) <= SHORT_LIFE


def _is_furniture(xyz: NDArray[np.float32]) -> bool:
    width, height = np.moveaxis(np.ptp(xyz[..., :2], axis=1), -1, 0)
    return bool((width > WIDE * height).mean() >= WIDE_FRAMES)


def _fill(xyz: NDArray[np.float32], frame: NDArray[np.int64]) -> NDArray[np.float32]:
    """Replace joints without a position (F, V, 3): over time, or by the body's mean where one never has any.

    Args:
        xyz: joints of one body.
        frame: the frames (F,) in which it is tracked.
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
