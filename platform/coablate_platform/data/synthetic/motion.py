"""The actions of the synthetic set and how figures move through them.

An action is a gesture (gross motion), a way to hold the fingers, and a thing that is held. The gesture moves the
joints that the video shows, the fingers move only joints that it cannot show, the thing is seen only by the video.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from coablate_platform.data.synthetic.figure import Array, Build, Script, pose, turn

FPS = 30
CAMERA_ANGLES = {1: 0.35, 2: 0.0, 3: -0.35}
"""Angle of each camera to the stage's front, radians."""

Gesture = Literal["hold", "raise", "meet", "push", "hug"]
Fingers = Literal["rest", "tap", "thumb up", "thumb down"]
Held = Literal["nothing", "cup", "tablet", "book", "parcel"]


@dataclass(frozen=True, kw_only=True)
class Action:
    """A class of the set."""

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
"""Label k is ``ACTIONS[k]``, written to file names as A(k+1)."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """A performer's way of moving: pace, size of movements, elbows, posture."""

    pace: float
    size: float
    elbows: float
    lean: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        return cls(
            pace=rng.uniform(0.85, 1.2),
            size=rng.uniform(0.85, 1.15),
            elbows=rng.uniform(0.2, 0.8),
            lean=rng.uniform(-0.02, 0.08),
        )


def ramp(time: Array, start: float, end: float) -> Array:
    """Go smoothly from 0 at ``start`` to 1 at ``end``."""
    x = np.clip((time - start) / (end - start), 0, 1)
    eased: Array = x * x * (3 - 2 * x)
    return eased


def drift(rng: np.random.Generator, time: Array, size: float, axes: int) -> Array:
    """Wander slowly: (T, axes), amplitude ``size``, two sines an axis of 0.3 to 1 Hz."""
    rate, phase = rng.uniform(0.3, 1.0, (2, axes)), rng.uniform(0, 2 * np.pi, (2, axes))
    waves: Array = np.sin(2 * np.pi * rate * time[:, None, None] + phase)
    mean: Array = size * waves.mean(axis=1)
    return mean


def idle(rng: np.random.Generator, time: Array, style: Style) -> Script:
    """Stand with hanging arms and curled fingers."""
    frames = len(time)
    wrists = np.array([[-0.24, -0.52, -0.06], [0.24, -0.52, -0.06]]) + drift(rng, time, 0.03, 6).reshape(frames, 2, 3)
    return Script(
        wrists=wrists,
        step=drift(rng, time, 0.03, 2),
        lean=style.lean + drift(rng, time, 0.04, 1)[:, 0],
        flex=np.full((frames, 2), 1.5),
        thumb=np.full((frames, 2), 0.3),
    )


def held_up(rng: np.random.Generator, time: Array) -> Array:
    """How far a gesture is carried out, 0 to 1 (T,): raised early, kept, perhaps lowered at the end."""
    length = time[-1]
    start = rng.uniform(0.0, 0.12) * length
    end = rng.uniform(0.85, 1.3) * length
    return ramp(time, start, start + 0.12 * length) * (1 - ramp(time, end, end + 0.12 * length))


def blend(script: Script, target: Array, amount: Array) -> Script:
    """Move the wrists from where they are towards a target (T, 2, 3) by an amount (T, 2) from 0 to 1."""
    return replace(script, wrists=script.wrists + amount[:, :, None] * (target - script.wrists))


def hold(rng: np.random.Generator, time: Array, style: Style) -> list[Script]:
    """Hold something before the chest with both hands."""
    rest = idle(rng, time, style)
    centre = np.array([0, -0.20 + rng.uniform(-0.06, 0.06), -0.36 * style.size]) + drift(rng, time, 0.05, 3)
    hands = centre[:, None] + np.array([[-0.15, 0, 0], [0.15, 0, 0]])
    return [blend(rest, hands, held_up(rng, time)[:, None].repeat(2, axis=1))]


def raise_hand(rng: np.random.Generator, time: Array, style: Style) -> list[Script]:
    """Show one hand at the height of the shoulder."""
    rest = idle(rng, time, style)
    side = int(rng.integers(2))
    hands = np.array([0.22 * (2 * side - 1), -0.06 + rng.uniform(-0.05, 0.08), -0.36 * style.size])
    amount = np.zeros((len(time), 2))
    amount[:, side] = held_up(rng, time)
    return [blend(rest, (hands + drift(rng, time, 0.06, 3))[:, None].repeat(2, axis=1), amount)]


def meet(rng: np.random.Generator, time: Array, style: Style) -> list[Script]:
    """Two people's right hands meet half way and swing a little."""
    height, swing = rng.uniform(-0.38, -0.28), rng.uniform(0.02, 0.05) * style.size
    wave = swing * np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * style.pace * time + rng.uniform(0, 6))
    amount = np.zeros((len(time), 2))
    amount[:, 1] = held_up(rng, time)
    target = np.stack([np.full_like(time, 0.02), height + wave, np.full_like(time, -0.40)], axis=1)
    return [blend(idle(rng, time, style), target[:, None].repeat(2, axis=1), amount) for _ in range(2)]


def push(rng: np.random.Generator, time: Array, style: Style) -> list[Script]:
    """One pushes the other's chest with both hands, again and again; the other sways back a little later."""
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


def hug(rng: np.random.Generator, time: Array, style: Style) -> list[Script]:
    """Both step up to each other and put their arms around the other's back."""
    amount = held_up(rng, time)
    scripts = []
    for high in (-0.08, -0.26):
        rest = idle(rng, time, style)
        arms = np.array([[-0.14, high, -0.42], [0.14, high, -0.42]]) + drift(rng, time, 0.04, 3)[:, None]
        step = rest.step - np.stack([0 * amount, 0.28 * amount], axis=1)
        scripts.append(blend(replace(rest, step=step), arms, amount[:, None].repeat(2, axis=1)))
    return scripts


GESTURES: dict[Gesture, Callable[[np.random.Generator, Array, Style], list[Script]]] = {
    "hold": hold,
    "raise": raise_hand,
    "meet": meet,
    "push": push,
    "hug": hug,
}


def move_fingers(script: Script, fingers: Fingers, rng: np.random.Generator, time: Array) -> Script:
    """Give a script its fingers, curled but where they tap; no other joint changes."""
    if fingers == "rest":
        return replace(
            script, flex=script.flex + drift(rng, time, 0.1, 2), thumb=script.thumb + drift(rng, time, 0.1, 2)
        )
    if fingers == "tap":
        phase = 2 * np.pi * rng.uniform(2.4, 3.4) * time + rng.uniform(0, 2 * np.pi)
        both = np.stack([phase, phase + np.pi * rng.integers(2)], axis=1)
        return replace(script, flex=rng.uniform(0.7, 0.9) * np.sin(both), thumb=script.thumb)
    sign = 1.0 if fingers == "thumb up" else -1.0
    elevation = sign * (np.pi / 2 - rng.uniform(0, 0.3)) + drift(rng, time, 0.15, 2)
    return replace(script, thumb=elevation)


@dataclass(frozen=True, kw_only=True)
class Take:
    """The random streams of one performance: what is drawn for one part never shifts what is drawn for another."""

    gesture: np.random.Generator
    fingers: np.random.Generator


def perform(action: Action, builds: list[Build], style: Style, time: Array, take: Take) -> list[Array]:
    """Play an action on the stage.

    Args:
        action: what is done; ``held`` plays no part.
        builds: the performer and a partner; the partner stays away where the gesture is for one.
        style: how the performer moves.
        time: (T,) seconds.
        take: random streams.

    Returns:
        One (T, 25, 3) a person in metres, floor at y = 0, the stage's centre at x = z = 0, its front towards −z.
    """
    scripts = GESTURES[action.gesture](take.gesture, time, style)
    bodies = []
    facing = take.gesture.uniform(-0.15, 0.15)
    apart = take.gesture.uniform(0.94, 1.04)
    sign = take.gesture.choice([-1.0, 1.0])
    for build, script in zip(builds, scripts, strict=False):
        moved = move_fingers(script, action.fingers, take.fingers, time)
        body = pose(build, moved, style.elbows)
        if len(scripts) == 2:
            body = turn(body, sign * np.pi / 2) + np.array([sign * apart / 2, 0, 0])
            sign = -sign
        bodies.append(turn(body, facing))
    return bodies


def film(bodies: list[Array], camera: int, take: np.random.Generator) -> list[Array]:
    """See the stage from a camera: joints in its frame, x and y across, z away from it, metres."""
    angle = CAMERA_ANGLES[camera] + take.uniform(-0.06, 0.06)
    away = np.array([take.uniform(-0.08, 0.08), -take.uniform(0.90, 0.98), take.uniform(2.05, 2.2)])
    return [turn(body, angle) + away for body in bodies]
