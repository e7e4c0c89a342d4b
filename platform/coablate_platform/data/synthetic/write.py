"""Writes the synthetic set: a ``.skeleton`` and an ``_rgb.avi`` file per clip, and ``coablate_set.json``."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated

import av
import numpy as np
from annotated_types import Ge, Le
from av.video.stream import VideoStream
from numpy.typing import NDArray

from coablate_platform.data.formats.ntu import SET_FILE
from coablate_platform.data.progress import ProgressCallback
from coablate_platform.data.synthetic.figure import Array, Build, unit
from coablate_platform.data.synthetic.motion import ACTIONS, CAMERA_ANGLES, FPS, Action, Streams, Style, perform, view
from coablate_platform.data.synthetic.render import HUES, HeldObject, Look, background, render, sample_look
from coablate_platform.data.synthetic.sensor import record, skeleton_text
from coablate_platform.files import replacing
from coablate_platform.process import safe_imports
from coablate_platform.study.errors import InputError
from coablate_platform.study.validation import CountOrZero, Expected, NotNegative, check_fields

PERFORMERS = range(1, 9)
KEYFRAME_EVERY = 12
LARGEST, LONGEST = 1024, 1000  # pixels and frames of a clip that fits the memory of an ordinary machine
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


_Frames = Annotated[int, Ge(16), Le(LONGEST), Expected(f"a whole number from 16 to {LONGEST}")]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """The settings of a synthetic set.

    Args:
        seed: seed of all random streams.
        replications: how often each of 8 performers does each of 12 actions in front of each of 3 cameras.
        size: side of the square video in pixels; an even number.
        frames: fewest and most frames of a clip, at 30 frames per second.
        difficulty: factor on sensor noise, occlusions and clutter; 1 is the default, 0 gives a clean set.
    """

    seed: CountOrZero = 0
    replications: Annotated[int, Ge(1), Le(999), Expected("a whole number from 1 to 999")] = 2
    size: Annotated[int, Ge(48), Le(LARGEST), Expected(f"an even number from 48 to {LARGEST}")] = 96
    frames: tuple[_Frames, _Frames] = (32, 44)
    difficulty: NotNegative = 1.0

    def __post_init__(self) -> None:
        check_fields(self, "synthetic set: ")
        if self.size % 2:
            raise InputError(f"synthetic set: size={self.size}: expected an even number")
        if self.frames[0] > self.frames[1]:
            raise InputError(f"synthetic set: frames={self.frames}: expected the larger number last")


@dataclass(frozen=True, kw_only=True)
class ClipKey:
    """The numbers that identify a clip: the fields of its NTU name."""

    camera: int
    performer: int
    replication: int
    action: int

    @property
    def name(self) -> str:
        """The clip's name; performers 1-4 are in setup 1, the others in setup 2."""
        setup = 1 + (self.performer - 1) // 4
        return f"S{setup:03d}C{self.camera:03d}P{self.performer:03d}R{self.replication:03d}A{self.action:03d}"


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """A clip before its video is encoded: RGB frames (T, S, S, 3), and the text of the skeleton file."""

    video: NDArray[np.uint8]
    skeleton: str


def clip_keys(config: SyntheticConfig) -> Iterator[ClipKey]:
    """Yield the keys of all clips of a set."""
    every = product(PERFORMERS, range(1, config.replications + 1), range(1, len(ACTIONS) + 1), CAMERA_ANGLES)
    for performer, replication, action, camera in every:
        yield ClipKey(camera=camera, performer=performer, replication=replication, action=action)


def random_stream(config: SyntheticConfig, name: str, *key: int) -> np.random.Generator:
    """Return the random stream of one part of a clip or performer; what one stream draws never changes another."""
    return np.random.default_rng(np.random.SeedSequence([config.seed, STREAMS.index(name), *key]))


def sample_people(config: SyntheticConfig, key: ClipKey) -> tuple[list[Build], list[Look]]:
    """Return build and look of the performer and of a partner. Each performer has a partner of their own."""
    builds, looks = [], []
    for person in (key.performer, 100 + key.performer):
        build = Build.sample(random_stream(config, "build", person))
        outfit = random_stream(config, "outfit", person, key.replication, key.action)
        builds.append(build)
        looks.append(sample_look(random_stream(config, "skin", person), outfit, build.stout))
    return builds, looks


def held_objects(action: Action, bodies: list[Array], rng: np.random.Generator) -> list[HeldObject]:
    """Return the object of an action, if it has one. In a two-person action it is handed over half way through."""
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
    return [HeldObject(kind=action.held, size=size, hue=hue, centre=centre, right=right)]


def make_clip(config: SyntheticConfig, key: ClipKey) -> SyntheticClip:
    """Make one clip. Each camera gets a performance of its own, which makes a small set more varied."""
    action = ACTIONS[key.action - 1]
    numbers = (key.performer, key.replication, key.action, key.camera)
    frames = int(random_stream(config, "length", *numbers).integers(config.frames[0], config.frames[1] + 1))
    builds, looks = sample_people(config, key)
    figures = perform(
        action,
        builds,
        Style.sample(random_stream(config, "style", key.performer)),
        np.arange(frames) / FPS,
        Streams(gesture=random_stream(config, "gesture", *numbers), fingers=random_stream(config, "fingers", *numbers)),
    )
    bodies = view(figures, key.camera, random_stream(config, "view", *numbers))
    objects = held_objects(action, bodies, random_stream(config, "thing", *numbers))
    room = background(random_stream(config, "room", *numbers), config.size, config.difficulty)
    video = render(bodies, looks[: len(bodies)], objects, room, random_stream(config, "grain", *numbers))
    sensor = random_stream(config, "sensor", *numbers)
    newline = "\r\n" if sensor.random() < 0.3 else "\n"
    recordings = record(bodies, sensor, config.difficulty)
    return SyntheticClip(video=video, skeleton=skeleton_text(recordings, config.size, newline, sensor))


def write_video(path: Path, video: NDArray[np.uint8]) -> None:
    """Encode RGB frames (T, H, W, 3) as NTU does: MPEG-4 part 2 in AVI, a keyframe every 12 frames, no B frames."""
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
    """Write the two files of a clip unless both exist; each file is complete or absent."""
    skeleton, video = folder / f"{key.name}.skeleton", folder / f"{key.name}_rgb.avi"
    if skeleton.exists() and video.exists():
        return
    clip = make_clip(config, key)
    with replacing(video, durable=False) as partial:
        write_video(partial, clip.video)
    with replacing(skeleton, durable=False) as partial:
        partial.write_text(clip.skeleton, encoding="ascii", newline="")


def write_description(folder: Path, config: SyntheticConfig) -> None:
    """Write the description of the set, or check that an existing one is equal.

    Raises:
        InputError: the existing one describes another set, or is damaged.
    """
    path = folder / SET_FILE
    description = {
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
                f"{path}: damaged, expected a description by `coablate data generate`; name an empty folder"
            ) from None
        if found != description:
            raise InputError(
                f"{path}: holds another set, generated with {found.get('generator')}, "
                f"expected {description['generator']}; name an empty folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as partial:
        partial.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def generate(
    folder: Path,
    config: SyntheticConfig,
    *,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> None:
    """Write a synthetic set into a folder; files of an earlier call with the same settings are kept.

    Args:
        folder: the folder of the set; it is made if it does not exist.
        config: the settings of the set.
        workers: number of processes; None takes one per core.
        progress: called after each clip with the number of clips done and of all clips.

    Raises:
        InputError: the folder holds a set with other settings, or its description is damaged; or a process died.
    """
    write_description(folder, config)
    todo = list(clip_keys(config))
    count = workers or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")  # a fork would break the threads of the caller, such as Ray's
    with safe_imports(), ProcessPoolExecutor(count, mp_context=context) as pool:
        written = pool.map(write_clip, *zip(*((folder, config, key) for key in todo), strict=True), chunksize=4)
        try:
            for done, _ in enumerate(written, start=1):
                if progress is not None:
                    progress(done, len(todo))
        except BrokenProcessPool:
            raise InputError(
                f"{folder}: a process that writes clips died, perhaps for want of memory; run the same command again, "
                "complete files are kept"
            ) from None
