"""The actions of the synthetic set and the motions of the figures that perform them.

=============  =====================================================  ==================
part           what it changes                                        seen by
=============  =====================================================  ==================
gesture        the joints of body, arms and legs                      video and skeleton
fingers        hand tips and thumbs, which the renderer leaves out    skeleton
held object    nothing of the figure                                  video
=============  =====================================================  ==================
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from coablate_platform.data.synthetic.figure import Array, Build, Motion, pose, turn

FPS = 30
CAMERA_ANGLES = {1: 0.35, 2: 0.0, 3: -0.35}
"""Angle of each camera to the front of the scene in radians."""

Gesture = Literal["hold", "raise", "meet", "push", "hug"]
Fingers = Literal["rest", "tap", "thumb up", "thumb down"]
Held = Literal["nothing", "cup", "tablet", "book", "parcel"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """A class of the synthetic set."""

    name: str
    gesture: Gesture
    fingers: Fingers = "rest"
    held: Held = "nothing"


ACTIONS = (
    Action(name="hold a cup", gesture="hold", held="cup"),
    Action(name="tap on a cup", gesture="hold", fingers="tap", held="cup"),
    Action(name="hold a tablet", gesture="hold", held="tablet"),
    Action(name="tap on a tablet", gesture="hold", fingers="tap", held="tablet"),
    Action(name="hold a book", gesture="hold", held="book"),
    Action(name="tap on a book", gesture="hold", fingers="tap", held="book"),
    Action(name="thumb up", gesture="raise", fingers="thumb up"),
    Action(name="thumb down", gesture="raise", fingers="thumb down"),
    Action(name="shake hands", gesture="meet"),
    Action(name="hand over a parcel", gesture="meet", held="parcel"),
    Action(name="push", gesture="push"),
    Action(name="hug", gesture="hug"),
)
"""The action of label k is ``ACTIONS[k]``; its number in file names is k + 1."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """A performer's way of moving: pace, size of movements, distance of the elbows from the trunk, lean."""

    pace: float
    size: float
    elbows: float
    lean: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        """Draw a performer's style."""
        return cls(
            pace=rng.uniform(0.85, 1.2),
            size=rng.uniform(0.85, 1.15),
            elbows=rng.uniform(0.2, 0.8),
            lean=rng.uniform(-0.02, 0.08),
        )


def ramp(time: Array, start: float, end: float) -> Array:
    """Return values that rise smoothly from 0 at ``start`` to 1 at ``end``."""
    x = np.clip((time - start) / (end - start), 0, 1)
    eased: Array = x * x * (3 - 2 * x)
    return eased


def drift(rng: np.random.Generator, time: Array, size: float, axes: int) -> Array:
    """Return a slow random movement (T, axes) of at most ``size``: the mean of two sines of 0.3 to 1 Hz per axis."""
    rate, phase = rng.uniform(0.3, 1.0, (2, axes)), rng.uniform(0, 2 * np.pi, (2, axes))
    waves: Array = np.sin(2 * np.pi * rate * time[:, None, None] + phase)
    mean: Array = size * waves.mean(axis=1)
    return mean


def idle(rng: np.random.Generator, time: Array, style: Style) -> Motion:
    """Return the motion of standing with hanging arms and curled fingers."""
    frames = len(time)
    wrists = np.array([[-0.24, -0.52, -0.06], [0.24, -0.52, -0.06]]) + drift(rng, time, 0.03, 6).reshape(frames, 2, 3)
    return Motion(
        wrists=wrists,
        step=drift(rng, time, 0.03, 2),
        lean=style.lean + drift(rng, time, 0.04, 1)[:, 0],
        flex=np.full((frames, 2), 1.5),
        thumb=np.full((frames, 2), 0.3),
    )


def envelope(rng: np.random.Generator, time: Array) -> Array:
    """Return the strength of a gesture, 0 to 1 (T,): it rises early and may fall at the end."""
    length = time[-1]
    start = rng.uniform(0.0, 0.12) * length
    end = rng.uniform(0.85, 1.3) * length
    return ramp(time, start, start + 0.12 * length) * (1 - ramp(time, end, end + 0.12 * length))


def blend(motion: Motion, target: Array, amount: Array) -> Motion:
    """Return a motion whose wrists are moved towards a target (T, 2, 3) by a fraction (T, 2) of the way."""
    return replace(motion, wrists=motion.wrists + amount[:, :, None] * (target - motion.wrists))


def hold(rng: np.random.Generator, time: Array, style: Style) -> list[Motion]:
    """Hold something in front of the chest with both hands."""
    rest = idle(rng, time, style)
    centre = np.array([0, -0.20 + rng.uniform(-0.06, 0.06), -0.36 * style.size]) + drift(rng, time, 0.05, 3)
    hands = centre[:, None] + np.array([[-0.15, 0, 0], [0.15, 0, 0]])
    return [blend(rest, hands, envelope(rng, time)[:, None].repeat(2, axis=1))]


def raise_hand(rng: np.random.Generator, time: Array, style: Style) -> list[Motion]:
    """Raise one hand to the height of the shoulder."""
    rest = idle(rng, time, style)
    side = int(rng.integers(2))
    hands = np.array([0.22 * (2 * side - 1), -0.06 + rng.uniform(-0.05, 0.08), -0.36 * style.size])
    amount = np.zeros((len(time), 2))
    amount[:, side] = envelope(rng, time)
    return [blend(rest, (hands + drift(rng, time, 0.06, 3))[:, None].repeat(2, axis=1), amount)]


def meet(rng: np.random.Generator, time: Array, style: Style) -> list[Motion]:
    """Let the right hands of two people meet half way and swing a little."""
    height, swing = rng.uniform(-0.38, -0.28), rng.uniform(0.02, 0.05) * style.size
    wave = swing * np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * style.pace * time + rng.uniform(0, 6))
    amount = np.zeros((len(time), 2))
    amount[:, 1] = envelope(rng, time)
    target = np.stack([np.full_like(time, 0.02), height + wave, np.full_like(time, -0.40)], axis=1)
    return [blend(idle(rng, time, style), target[:, None].repeat(2, axis=1), amount) for _ in range(2)]


def push(rng: np.random.Generator, time: Array, style: Style) -> list[Motion]:
    """Let one person push the other's chest with both hands repeatedly; the other sways back a moment later."""
    rate = rng.uniform(1.3, 1.8) * style.pace
    phase = rng.uniform(0, 1)
    beat = np.sin(np.pi * (rate * time + phase)) ** 2
    late = np.sin(np.pi * (rate * (time - 0.08) + phase)) ** 2
    active, passive = idle(rng, time, style), idle(rng, time, style)
    out = np.array([[-0.14, -0.12, -0.58], [0.14, -0.12, -0.58]])
    back = np.array([[-0.18, -0.18, -0.18], [0.18, -0.18, -0.18]])
    active = replace(active, wrists=back + beat[:, None, None] * (out - back), lean=active.lean + 0.25 * beat)
    step = passive.step + np.stack([0 * late, 0.12 * late], axis=1)
    return [active, replace(passive, lean=passive.lean - 0.22 * style.size * late, step=step)]


def hug(rng: np.random.Generator, time: Array, style: Style) -> list[Motion]:
    """Let two people step up to each other and put their arms around each other."""
    amount = envelope(rng, time)
    motions = []
    for high in (-0.08, -0.26):
        rest = idle(rng, time, style)
        arms = np.array([[-0.14, high, -0.42], [0.14, high, -0.42]]) + drift(rng, time, 0.04, 3)[:, None]
        step = rest.step - np.stack([0 * amount, 0.28 * amount], axis=1)
        motions.append(blend(replace(rest, step=step), arms, amount[:, None].repeat(2, axis=1)))
    return motions


GESTURES: dict[Gesture, Callable[[np.random.Generator, Array, Style], list[Motion]]] = {
    "hold": hold,
    "raise": raise_hand,
    "meet": meet,
    "push": push,
    "hug": hug,
}


def move_fingers(motion: Motion, fingers: Fingers, rng: np.random.Generator, time: Array) -> Motion:
    """Return a motion with moving fingers, which are curled unless they tap; no other joint changes."""
    if fingers == "rest":
        return replace(
            motion, flex=motion.flex + drift(rng, time, 0.1, 2), thumb=motion.thumb + drift(rng, time, 0.1, 2)
        )
    if fingers == "tap":
        phase = 2 * np.pi * rng.uniform(2.4, 3.4) * time + rng.uniform(0, 2 * np.pi)
        both = np.stack([phase, phase + np.pi * rng.integers(2)], axis=1)
        return replace(motion, flex=rng.uniform(0.7, 0.9) * np.sin(both), thumb=motion.thumb)
    sign = 1.0 if fingers == "thumb up" else -1.0
    elevation = sign * (np.pi / 2 - rng.uniform(0, 0.3)) + drift(rng, time, 0.15, 2)
    return replace(motion, thumb=elevation)


@dataclass(frozen=True, kw_only=True)
class Streams:
    """The random streams of one performance; what one part draws never changes another part."""

    gesture: np.random.Generator
    fingers: np.random.Generator


def perform(action: Action, builds: list[Build], style: Style, time: Array, streams: Streams) -> list[Array]:
    """Return the figures that perform an action.

    Args:
        action: the action; the held object has no influence.
        builds: proportions of the performer and of a partner, who is used only if the gesture is one of two people.
        style: the performer's way of moving.
        time: time of each frame in seconds (T,).
        streams: random streams of the performance.

    Returns:
        Joints (T, 25, 3) of each person in metres: floor at y = 0, centre of the scene at x = z = 0, front towards −z.
    """
    motions = GESTURES[action.gesture](streams.gesture, time, style)
    bodies = []
    facing = streams.gesture.uniform(-0.15, 0.15)
    apart = streams.gesture.uniform(0.94, 1.04)
    sign = streams.gesture.choice([-1.0, 1.0])
    for build, motion in zip(builds, motions, strict=False):
        moved = move_fingers(motion, action.fingers, streams.fingers, time)
        body = pose(build, moved, style.elbows)
        if len(motions) == 2:
            body = turn(body, sign * np.pi / 2) + np.array([sign * apart / 2, 0, 0])
            sign = -sign
        bodies.append(turn(body, facing))
    return bodies


def view(bodies: list[Array], camera: int, rng: np.random.Generator) -> list[Array]:
    """Return the joints in the coordinates of a camera in metres: x to the right, y up, z away from the camera."""
    angle = CAMERA_ANGLES[camera] + rng.uniform(-0.06, 0.06)
    origin = np.array([rng.uniform(-0.08, 0.08), -rng.uniform(0.90, 0.98), rng.uniform(2.05, 2.2)])
    return [turn(body, angle) + origin for body in bodies]
