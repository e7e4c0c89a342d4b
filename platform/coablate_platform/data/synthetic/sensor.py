"""What a depth sensor makes of figures: jitter, occluded joints, lost frames; and NTU's text form of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.synthetic.figure import FINGERS, PARENTS, Array, unit
from coablate_platform.data.synthetic.render import project

FIRST_ID = 2**56
"""Body ids lie above this, as in the genuine files: two of them are one number as float64."""

LIMBS = ((5, 6, 7, 21, 22), (9, 10, 11, 23, 24), (13, 14, 15), (17, 18, 19), (2, 3))
"""Joints that an occlusion hides together."""

LEAVES = (3, 15, 19, 21, 22, 23, 24)
DEPTH_FOCAL, DEPTH_CENTRE = 365.5, (256.0, 212.0)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One tracked body.

    Args:
        body_id: above 2⁵⁶.
        joints: (T, 25, 3) metres, camera frame.
        state: (T, 25) 2 tracked, 1 inferred.
        present: (T,) whether the sensor saw the body in a frame.
        lean: (T, 2) leanX and leanY.
    """

    body_id: int
    joints: Array
    state: NDArray[np.int64]
    present: NDArray[np.bool_]
    lean: Array


def occlude(joints: Array, state: NDArray[np.int64], rng: np.random.Generator, difficulty: float) -> None:
    """Hide limbs for 4 to 10 frames, in place: they jump away by up to 15 cm and are marked inferred."""
    for _ in range(rng.poisson(1.2 * difficulty)):
        limb = list(LIMBS[rng.integers(len(LIMBS))])
        start, length = rng.integers(len(joints)), rng.integers(4, 11)
        window = slice(start, start + length)
        joints[window, limb] += rng.uniform(-0.15, 0.15, 3)
        state[window, limb] = 1


def gaps(frames: int, bodies: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which bodies are seen (bodies, T): at times nobody for 1 to 3 frames, at times one of two people."""
    present = np.ones((bodies, frames), dtype=bool)
    if rng.random() < 0.25:
        start = rng.integers(frames - 3)
        present[:, start : start + rng.integers(1, 4)] = False
    if bodies > 1 and rng.random() < 0.25:
        start = rng.integers(frames - 3)
        present[rng.integers(bodies), start : start + rng.integers(1, 4)] = False
    return present


def record(bodies: list[Array], rng: np.random.Generator, difficulty: float) -> list[Recording]:
    """Track figures (T, 25, 3) with a sensor whose faults grow with ``difficulty`` (1 is the default, 0 none)."""
    frames = len(bodies[0])
    present = gaps(frames, len(bodies), rng) if difficulty > 0 else np.ones((len(bodies), frames), dtype=bool)
    first = FIRST_ID + int(rng.integers(1, 60_000)) * 16
    recordings = []
    for slot, body in enumerate(bodies):
        joints, state = body.copy(), np.full((frames, 25), 2)
        noise = np.full(25, 0.006)
        noise[list(FINGERS)] = 0.010
        joints += rng.normal(0, difficulty, joints.shape) * noise[:, None]
        occlude(joints, state, rng, difficulty)
        spine = unit(joints[:, 20] - joints[:, 0])
        recordings.append(
            Recording(
                body_id=first + 1 + 3 * slot, joints=joints, state=state, present=present[slot], lean=spine[:, [0, 2]]
            )
        )
    return recordings


def orientations(joints: Array) -> Array:
    """Return quaternions (T, 25, 4) that turn the vertical into each bone; zeros at the leaves, as NTU has them."""
    bone = unit(joints - joints[:, PARENTS])
    w = 1 + bone[..., 1:2]
    quaternion = np.concatenate([w, bone[..., 2:3], np.zeros_like(w), -bone[..., 0:1]], axis=-1)
    quaternion /= np.maximum(np.linalg.norm(quaternion, axis=-1, keepdims=True), 1e-6)
    quaternion[:, LEAVES] = 0
    return quaternion


def joint_lines(recording: Recording, size: int, newline: str) -> list[str]:
    """Write a body's 25 joint lines of every frame as one string a frame."""
    joints = recording.joints
    depth = joints[..., :2] * np.array([1, -1]) * DEPTH_FOCAL / np.maximum(joints[..., 2:], 0.3) + DEPTH_CENTRE
    fields = np.concatenate([joints, depth, project(joints, size), orientations(joints)], axis=-1)
    line = " ".join(["%.7g"] * 11 + ["%d"]) + newline
    rows = np.concatenate([fields, recording.state[..., None]], axis=-1)
    return [(line * 25) % tuple(frame.ravel().tolist()) for frame in rows]


def skeleton_text(recordings: list[Recording], size: int, newline: str, rng: np.random.Generator) -> str:
    """Write a clip as NTU's ``.skeleton`` text.

    Args:
        recordings: the tracked bodies.
        size: side of the square video in pixels; colour x and y are pixels of that video.
        newline: line end.
        rng: decides from which frame on the bodies stand in reversed order.
    """
    frames = len(recordings[0].present)
    swap = rng.integers(2 * frames)
    lines = [joint_lines(recording, size, newline) for recording in recordings]
    parts = [f"{frames}{newline}"]
    for frame in range(frames):
        seen = [slot for slot, recording in enumerate(recordings) if recording.present[frame]]
        parts.append(f"{len(seen)}{newline}")
        for slot in reversed(seen) if frame >= swap else seen:
            lean_x, lean_y = recordings[slot].lean[frame]
            parts.append(f"{recordings[slot].body_id} 0 1 1 1 1 0 {lean_x:.7g} {lean_y:.7g} 2{newline}25{newline}")
            parts.append(lines[slot][frame])
    return "".join(parts)
