"""Poses an articulated figure with the 25 joints of a Kinect v2, given the positions of its wrists and feet.

Arrays are (T, 3) or (T, 25, 3) in metres, for T frames. In a figure's own coordinates x points to its right, y up from
the floor and z backwards. This is how a person who faces the sensor stands in NTU's (mirrored) camera coordinates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARENTS = (0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11)
"""Parent of each joint in the official NTU tree (0-based); hand tips and thumbs are children of the hands."""

FINGERS = (21, 22, 23, 24)
"""Hand tips and thumbs. The renderer never reads them; at the usual training size they are smaller than a pixel."""

FINGER, THUMB = 0.16, 0.14
"""Metres from hand to hand tip and to thumb: longer than real, so that a small network can learn from few clips."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """A performer's proportions in metres, apart from two factors: ``scale``, which the lengths include, is that of the
    whole figure, and ``stout`` that of the limbs' thickness."""

    scale: float
    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    thigh: float
    shank: float
    stout: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Build":
        """Draw a performer's proportions."""
        scale = rng.uniform(0.92, 1.06)
        lengths = scale * rng.uniform(0.95, 1.05, size=7) * np.array([0.50, 0.18, 0.10, 0.28, 0.25, 0.42, 0.42])
        torso, shoulder, hip, upper_arm, forearm, thigh, shank = (float(length) for length in lengths)
        return cls(
            scale=scale,
            torso=torso,
            shoulder=shoulder,
            hip=hip,
            upper_arm=upper_arm,
            forearm=forearm,
            thigh=thigh,
            shank=shank,
            stout=rng.uniform(0.9, 1.15),
        )


@dataclass(frozen=True, kw_only=True)
class Motion:
    """The movement of a figure over T frames; with its build, it determines the pose.

    Args:
        wrists: (T, 2, 3) left and right wrist, relative to the shoulder centre, in units of ``Build.scale`` metres.
        step: (T, 2) position on the floor, x and z, in metres.
        lean: (T,) forward lean of the trunk in radians.
        flex: (T, 2) angle between fingers and forearm in radians, left and right.
        thumb: (T, 2) elevation of the thumb in radians: π/2 points up, −π/2 down, 0 towards the other hand.
    """

    wrists: Array
    step: Array
    lean: Array
    flex: Array
    thumb: Array


def unit(vectors: Array) -> Array:
    """Normalise vectors (..., 3) to length 1."""
    scaled: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return scaled


def two_bones(root: Array, target: Array, first: float, second: float, pole: Array) -> tuple[Array, Array]:
    """Bend a limb of two bones, so that its end reaches a target.

    Args:
        root: (T, 3) shoulder or hip.
        target: (T, 3) where wrist or ankle should be; the limb only points towards a target out of its reach.
        first: length of the bone at the root.
        second: length of the bone at the end.
        pole: (3,) direction to which elbow or knee points.

    Returns:
        Elbow (or knee) and wrist (or ankle), both (T, 3).
    """
    offset = target - root
    reach = np.clip(np.linalg.norm(offset, axis=1, keepdims=True), abs(first - second) + 0.01, first + second - 0.005)
    along = unit(offset)
    cosine = np.clip((first**2 + reach**2 - second**2) / (2 * first * reach), -1, 1)
    across = unit(pole - (along @ pole)[:, None] * along)
    middle = root + first * (cosine * along + np.sqrt(1 - cosine**2) * across)
    return middle, root + reach * along


def pose(build: Build, motion: Motion, elbows: float) -> Array:
    """Return the joints of a figure (T, 25, 3) in its own coordinates, feet on the floor.

    Args:
        build: the figure's proportions.
        motion: the figure's movement.
        elbows: how far the elbows are from the trunk, 0 to 1.
    """
    frames = len(motion.lean)
    joints = np.zeros((frames, 25, 3))
    ground = np.zeros((frames, 3))
    ground[:, [0, 2]] = motion.step
    lean = np.stack([np.zeros(frames), np.cos(motion.lean), -np.sin(motion.lean)], axis=1)
    joints[:, 0] = ground + np.array([0, 0.985 * (build.thigh + build.shank) + 0.06, 0])
    joints[:, 1] = joints[:, 0] + 0.5 * build.torso * lean
    joints[:, 20] = joints[:, 0] + build.torso * lean
    joints[:, 2] = joints[:, 20] + 0.08 * build.scale * lean
    joints[:, 3] = joints[:, 20] + 0.22 * build.scale * lean
    for side, sign in enumerate((-1.0, 1.0)):
        across = np.array([sign, 0, 0])
        shoulder, hip, knee = 4 + 4 * side, 12 + 4 * side, 13 + 4 * side
        joints[:, shoulder] = joints[:, 20] + build.shoulder * across - 0.04 * lean
        target = joints[:, 20] + build.scale * motion.wrists[:, side]
        pole = np.array([sign * elbows, -1.0, 0.4])
        elbow, wrist = two_bones(joints[:, shoulder], target, build.upper_arm, build.forearm, pole)
        joints[:, shoulder + 1], joints[:, shoulder + 2] = elbow, wrist
        set_hand(joints, motion, side)
        joints[:, hip] = joints[:, 0] + build.hip * across
        ankle = ground + (build.hip + 0.03) * across + np.array([0, 0.07, 0])
        bones = two_bones(joints[:, hip], ankle, build.thigh, build.shank, np.array([0, 0, -1.0]))
        joints[:, knee], joints[:, knee + 1] = bones
        joints[:, knee + 2] = bones[1] + build.scale * np.array([0.03 * sign, -0.05, -0.14])
    return joints


def set_hand(joints: Array, motion: Motion, side: int) -> None:
    """Set hand, hand tip and thumb in place; elbow and wrist are set before."""
    elbow, wrist, hand, tip = 5 + 4 * side, 6 + 4 * side, 7 + 4 * side, 21 + 2 * side
    forward = unit(joints[:, wrist] - joints[:, elbow])
    down = unit(np.array([0, -1.0, 0]) + forward[:, 1:2] * forward + np.array([0, 0, 1e-3]))
    inward = np.array([1.0 - 2.0 * side, 0, 0])
    joints[:, hand] = joints[:, wrist] + 0.08 * forward
    flex, thumb = motion.flex[:, side, None], motion.thumb[:, side, None]
    joints[:, tip] = joints[:, hand] + FINGER * (np.cos(flex) * forward + np.sin(flex) * down)
    joints[:, tip + 1] = joints[:, hand] + THUMB * (np.cos(thumb) * inward + np.sin(thumb) * np.array([0, 1.0, 0]))


def turn(points: Array, angle: float) -> Array:
    """Rotate points (..., 3) about the vertical by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    turned: Array = points @ np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]).T
    return turned
