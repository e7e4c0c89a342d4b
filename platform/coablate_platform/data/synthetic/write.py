"""Writes the set: one ``.skeleton`` and one ``_rgb.avi`` a clip, and ``coablate_set.json`` beside them."""

import json
import math
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from coablate_platform.data.formats.ntu import SET_FILE
from coablate_platform.data.progress import Tell
from coablate_platform.data.synthetic.figure import Array, Build, unit
from coablate_platform.data.synthetic.motion import ACTIONS, CAMERA_ANGLES, FPS, Action, Style, Take, film, perform
from coablate_platform.data.synthetic.render import HUES, Look, Thing, background, draw_look, render
from coablate_platform.data.synthetic.sensor import record, skeleton_text
from coablate_platform.files import replacing
from coablate_platform.study.errors import InputError

PERFORMERS = range(1, 9)
KEYFRAME_EVERY = 12
STREAMS = (
    "build",
    "style",
    "skin",
    "outfit",
    "length",
    "gesture",
    "fingers",
    "view",
    "thing",
    "room",
    "grain",
    "sensor",
)


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What is generated.

    Args:
        seed: everything is drawn from it.
        replications: how often each of 8 performers does each of 12 actions for each of 3 cameras.
        size: side of the square video in pixels, even.
        frames: fewest and most frames a clip, at 30 a second.
        difficulty: scales sensor noise, occlusions and clutter; 1 is the default, 0 a clean set.
    """

    seed: int = 0
    replications: int = 2
    size: int = 96
    frames: tuple[int, int] = (32, 44)
    difficulty: float = 1.0

    def __post_init__(self) -> None:
        low, high = self.frames
        for field, valid, expected in (
            ("seed", self.seed >= 0, "0 or more"),
            ("replications", 1 <= self.replications <= 999, "1 to 999"),
            ("size", self.size >= 48 and self.size % 2 == 0, "an even number from 48"),
            ("frames", 16 <= low <= high, "two numbers from 16, the larger one last"),
            ("difficulty", 0 <= self.difficulty < math.inf, "0 or more, and finite"),
        ):
            if not valid:
                raise InputError(f"synthetic set: {field} is {getattr(self, field)!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class ClipKey:
    """Which clip: the fields of its NTU name."""

    camera: int
    performer: int
    replication: int
    action: int

    @property
    def name(self) -> str:
        setup = 1 + (self.performer - 1) // 4
        return f"S{setup:03d}C{self.camera:03d}P{self.performer:03d}R{self.replication:03d}A{self.action:03d}"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip before it is encoded: RGB frames (T, S, S, 3) and the text of its skeleton."""

    video: NDArray[np.uint8]
    skeleton: str


def keys(config: SyntheticConfig) -> Iterator[ClipKey]:
    """List the clips of a set."""
    every = product(PERFORMERS, range(1, config.replications + 1), range(1, len(ACTIONS) + 1), CAMERA_ANGLES)
    for performer, replication, action, camera in every:
        yield ClipKey(camera=camera, performer=performer, replication=replication, action=action)


def stream(config: SyntheticConfig, name: str, *place: int) -> np.random.Generator:
    """Return the random stream of one part of one thing; streams never shift each other."""
    return np.random.default_rng(np.random.SeedSequence([config.seed, STREAMS.index(name), *place]))


def cast(config: SyntheticConfig, key: ClipKey) -> tuple[list[Build], list[Look]]:
    """Return the performer and the performer's partner, who is in no other performer's clips."""
    builds, looks = [], []
    for person in (key.performer, 100 + key.performer):
        build = Build.sample(stream(config, "build", person))
        outfit = stream(config, "outfit", person, key.replication, key.action)
        builds.append(build)
        looks.append(draw_look(stream(config, "skin", person), outfit, build.stout))
    return builds, looks


def hold_things(action: Action, bodies: list[Array], rng: np.random.Generator) -> list[Thing]:
    """Put the action's thing between the hands, or let it pass from hand to hand half way through the clip."""
    size, hue = rng.uniform(0.9, 1.15), HUES[action.held] + rng.uniform(-0.04, 0.04)
    if action.held == "nothing":
        return []
    hands = bodies[0][:, [7, 11]]
    if action.gesture == "meet":
        first = np.arange(len(hands))[:, None] < len(hands) // 2
        centre = np.where(first, hands[:, 1], bodies[1][:, 11])
        right = unit(bodies[1][:, 20] - bodies[0][:, 20])
    else:
        across = hands[:, 1] - hands[:, 0]
        both = np.clip((0.65 - np.linalg.norm(across, axis=1, keepdims=True)) / 0.25, 0, 1)
        centre = hands[:, 1] - 0.5 * both * across
        right = unit(across)
    return [Thing(kind=action.held, size=size, hue=hue, centre=centre, right=right)]


def make_clip(config: SyntheticConfig, key: ClipKey) -> Clip:
    """Perform, film and record one clip; each camera films a performance of its own, which makes a small set varied."""
    action = ACTIONS[key.action - 1]
    take = (key.performer, key.replication, key.action, key.camera)
    frames = int(stream(config, "length", *take).integers(config.frames[0], config.frames[1] + 1))
    builds, looks = cast(config, key)
    stage = perform(
        action,
        builds,
        Style.sample(stream(config, "style", key.performer)),
        np.arange(frames) / FPS,
        Take(gesture=stream(config, "gesture", *take), fingers=stream(config, "fingers", *take)),
    )
    bodies = film(stage, key.camera, stream(config, "view", *take))
    things = hold_things(action, bodies, stream(config, "thing", *take))
    room = background(stream(config, "room", *take), config.size, config.difficulty)
    video = render(bodies, looks[: len(bodies)], things, room, stream(config, "grain", *take))
    sensor = stream(config, "sensor", *take)
    newline = "\r\n" if sensor.random() < 0.3 else "\n"
    recordings = record(bodies, sensor, config.difficulty)
    return Clip(video=video, skeleton=skeleton_text(recordings, config.size, newline, sensor))


def write_video(path: Path, video: NDArray[np.uint8]) -> None:
    """Encode RGB frames (T, S, S, 3) as NTU does: MPEG-4 part 2 in AVI, a keyframe every 12, no B frames."""
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        options = {"g": str(KEYFRAME_EVERY), "bf": "0", "qmin": "3", "qmax": "3", "sc_threshold": "1000000000"}
        output = container.add_stream("mpeg4", rate=Fraction(FPS), options=options)
        assert isinstance(output, VideoStream)
        output.width, output.height, output.pix_fmt = video.shape[2], video.shape[1], "yuv420p"
        output.codec_context.thread_count = 1
        for image in video:
            container.mux(output.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(output.encode())


def write_clip(folder: Path, config: SyntheticConfig, key: ClipKey) -> None:
    """Write one clip's two files unless they are there; each appears whole or not at all."""
    skeleton, video = folder / f"{key.name}.skeleton", folder / f"{key.name}_rgb.avi"
    if skeleton.exists() and video.exists():
        return
    clip = make_clip(config, key)
    with replacing(video, durable=False) as partial:
        write_video(partial, clip.video)
    with replacing(skeleton, durable=False) as partial:
        partial.write_text(clip.skeleton, encoding="ascii", newline="")


def claim(folder: Path, config: SyntheticConfig) -> None:
    """Write the set's description, or make sure that what is there says the same.

    Raises:
        InputError: it is of another set, or damaged.
    """
    path = folder / SET_FILE
    described = {
        "classes": [action.name for action in ACTIONS],
        "default_protocol": "synthetic/cs",
        "persons": 2,
        "generator": asdict(config) | {"frames": list(config.frames)},
    }
    if path.exists():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError):
            raise InputError(
                f"{path}: damaged, expected what `coablate data generate` writes; name an empty folder"
            ) from None
        if found != described:
            raise InputError(
                f"{path}: holds another set, generated with {found.get('generator')}, "
                f"expected {described['generator']}; name an empty folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as partial:
        partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def generate(
    folder: Path,
    config: SyntheticConfig,
    *,
    workers: int | None = None,
    progress: Tell | None = None,
) -> None:
    """Write a synthetic set into a folder; what a former call with the same settings wrote is kept.

    Args:
        folder: made where it is missing.
        config: what is generated.
        workers: processes; None takes a process a core.
        progress: called with the clips that are done and all clips, once a clip.

    Raises:
        InputError: the folder holds a set of other settings, or a damaged description of one.
    """
    claim(folder, config)
    todo = list(keys(config))
    count = workers or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")  # the caller may hold threads (Ray), which a fork would break
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        written = pool.map(write_clip, *zip(*((folder, config, key) for key in todo), strict=True), chunksize=4)
        for done, _ in enumerate(written, start=1):
            if progress is not None:
                progress(done, len(todo))
