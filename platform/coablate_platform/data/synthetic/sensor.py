"""Simulates a depth sensor that tracks figures (jitter, occluded joints, lost frames), and writes NTU's text format."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.synthetic.figure import FINGERS, PARENTS, Array, unit
from coablate_platform.data.synthetic.render import project

FIRST_ID = 2**56
"""Body ids are larger than this, as in the published files, where two ids become equal as float64."""

LIMBS = ((5, 6, 7, 21, 22), (9, 10, 11, 23, 24), (13, 14, 15), (17, 18, 19), (2, 3))
"""Joints that an occlusion hides together: the arms, the legs and the head."""

LEAVES = (3, 15, 19, 21, 22, 23, 24)
"""Joints without a child, for which NTU has no orientation."""

DEPTH_FOCAL, DEPTH_CENTRE = 365.5, (256.0, 212.0)
"""Focal length and centre of the Kinect v2 depth camera in pixels."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A body as the sensor tracks it over T frames.

    Args:
        body_id: id of the body, above 2⁵⁶.
        joints: (T, 25, 3) in metres, camera coordinates.
        state: (T, 25) tracking state: 2 tracked, 1 inferred.
        present: (T,) whether the sensor tracks the body in the frame.
        lean: (T, 2) NTU's fields leanX and leanY.
    """

    body_id: int
    joints: Array
    state: NDArray[np.int64]
    present: NDArray[np.bool_]
    lean: Array


def occlude(joints: Array, state: NDArray[np.int64], rng: np.random.Generator, difficulty: float) -> None:
    """Occlude limbs for 4 to 10 frames, in place: their joints move by up to 15 cm per axis and become inferred."""
    for _ in range(rng.poisson(1.2 * difficulty)):
        limb = list(LIMBS[rng.integers(len(LIMBS))])
        start, length = rng.integers(len(joints)), rng.integers(4, 11)
        window = slice(start, start + length)
        joints[window, limb] += rng.uniform(-0.15, 0.15, 3)
        state[window, limb] = 1


def sample_presence(frames: int, bodies: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which bodies are tracked (bodies, T): at times no body, or only one of two, for 1 to 3 frames."""
    present = np.ones((bodies, frames), dtype=bool)
    if rng.random() < 0.25:
        start = rng.integers(frames - 3)
        present[:, start : start + rng.integers(1, 4)] = False
    if bodies > 1 and rng.random() < 0.25:
        start = rng.integers(frames - 3)
        present[rng.integers(bodies), start : start + rng.integers(1, 4)] = False
    return present


def record(bodies: list[Array], rng: np.random.Generator, difficulty: float) -> list[Recording]:
    """Track figures (T, 25, 3) with a sensor whose faults grow with ``difficulty``: 0 gives none, 1 is the default."""
    frames = len(bodies[0])
    present = (
        sample_presence(frames, len(bodies), rng) if difficulty > 0 else np.ones((len(bodies), frames), dtype=bool)
    )
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
    """Return quaternions (T, 25, 4) that rotate the vertical to each bone; zero where a joint has no child."""
    bone = unit(joints - joints[:, PARENTS])
    w = 1 + bone[..., 1:2]
    quaternion = np.concatenate([w, bone[..., 2:3], np.zeros_like(w), -bone[..., 0:1]], axis=-1)
    quaternion /= np.maximum(np.linalg.norm(quaternion, axis=-1, keepdims=True), 1e-6)
    quaternion[:, LEAVES] = 0
    return quaternion


def joint_lines(recording: Recording, size: int, newline: str) -> list[str]:
    """Return the text of a body's 25 joint lines for every frame."""
    joints = recording.joints
    depth = joints[..., :2] * np.array([1, -1]) * DEPTH_FOCAL / np.maximum(joints[..., 2:], 0.3) + DEPTH_CENTRE
    fields = np.concatenate([joints, depth, project(joints, size), orientations(joints)], axis=-1)
    line = " ".join(["%.7g"] * 11 + ["%d"]) + newline
    rows = np.concatenate([fields, recording.state[..., None]], axis=-1)
    return [(line * 25) % tuple(frame.ravel().tolist()) for frame in rows]


def skeleton_text(recordings: list[Recording], size: int, newline: str, rng: np.random.Generator) -> str:
    """Return a clip as the text of a ``.skeleton`` file.

    Args:
        recordings: the tracked bodies.
        size: side of the square video in pixels; the fields colorX and colorY are pixels of this video.
        newline: the line end.
        rng: draws the frame from which the order of the bodies is reversed.
    """
    frames = len(recordings[0].present)
    swap = rng.integers(2 * frames)
    lines = [joint_lines(recording, size, newline) for recording in recordings]
    parts = [f"{frames}{newline}"]
    for frame in range(frames):
        tracked = [slot for slot, recording in enumerate(recordings) if recording.present[frame]]
        parts.append(f"{len(tracked)}{newline}")
        for slot in reversed(tracked) if frame >= swap else tracked:
            lean_x, lean_y = recordings[slot].lean[frame]
            parts.append(f"{recordings[slot].body_id} 0 1 1 1 1 0 {lean_x:.7g} {lean_y:.7g} 2{newline}25{newline}")
            parts.append(lines[slot][frame])
    return "".join(parts)
