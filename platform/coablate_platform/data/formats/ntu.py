"""Reads NTU RGB+D 60 and 120, and sets generated in their formats."""

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from coablate_platform.data.formats.avi import AviVideo
from coablate_platform.data.formats.bodies import DENOISING, track_people
from coablate_platform.data.formats.clip import BadClip, ClipRef, RawClip, Recipe, no_body
from coablate_platform.data.formats.files import FileNames, read_bytes, walk
from coablate_platform.data.formats.skeleton_text import parse_skeleton
from coablate_platform.data.joints import KINECT_V2, JointLayout
from coablate_platform.data.protocols import PROTOCOLS
from coablate_platform.study.errors import InputError, did_you_mean

SET_FILE = "coablate_set.json"
"""The file in which a generated set describes itself."""
_FILES = FileNames(
    clip=r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})",
    skeleton=r"\.skeleton",
    video=r"(?:_rgb)?\.(?:avi|mp4|m4v|mkv|mov|webm|mpe?g|ts|wmv|flv)",
    upper=True,
    expected="NTU RGB+D files named like S001C001P001R001A001.skeleton and, for sets with video, "
    "S001C001P001R001A001_rgb.avi (or .mp4, .mkv …), in folders or zip archives",
)
MOST_PERSONS = 100
"""Most bodies of a generated set's clips: a sample holds an array for each."""
_LISTED = "on the official list of samples with missing or incomplete skeletons"
_CLASSES_60 = 60


@cache
def _fact_lines(name: str) -> tuple[str, ...]:
    return tuple(files(__package__).joinpath("facts", name).read_text(encoding="utf-8").splitlines())


def class_names() -> tuple[str, ...]:
    """Return the 120 official class names; the first 60 are those of NTU RGB+D 60."""
    return _fact_lines("ntu_classes.txt")


def missing_names() -> tuple[str, ...]:
    """Return the names of the 535 samples of NTU RGB+D 120 with missing or incomplete skeletons.

    The 302 samples of setups 1-17 are those of NTU RGB+D 60.

    Source: the data set's official lists.
    """
    return _fact_lines("ntu_missing.txt")


@dataclass(frozen=True, kw_only=True)
class Ntu:
    """Reads ``SsssCcccPpppRrrrAaaa.skeleton`` and ``…_rgb.avi``, in folders, zip archives or both.

    A video may also have another container (``.mp4``, ``.mkv`` …), and lack ``_rgb`` in its name. A set without any
    video is read as skeletons only. If some clips have a video, the others are listed as missing, and so is a video
    without a skeleton. Video and skeleton of a clip start together; where their numbers of frames differ, each keeps
    its own.

    Args:
        classes: names of the 60 or 120 classes, or the names in a generated set's ``coablate_set.json``.
        default_protocol: the protocol for studies that name none.
        persons: most bodies that are kept of a clip: those that move most.
        has_video: whether any clip has a video.
        generated: whether the set was generated; the official lists of unusable samples do not apply to it.
    """

    classes: tuple[str, ...] = class_names()
    default_protocol: str = "ntu120/csub"
    persons: int = 2
    has_video: bool = True
    generated: bool = False

    @property
    def name(self) -> str:
        return "ntu"

    @property
    def layout(self) -> JointLayout:
        return KINECT_V2

    @property
    def reading(self) -> Recipe:
        """The reader's version, the thresholds of denoising, and the tree of bones: that of the graph networks."""
        return {"reader": 2, "tree": "graph", **DENOISING}

    def at(self, path: str) -> "Ntu":
        """Return this reader with the classes, protocol, persons and videos of the set under ``path``.

        Raises:
            InputError: there is no clip, or ``coablate_set.json`` is malformed or lies in a subfolder or archive.
        """
        clips = self.list_clips(path)
        has_video = any(clip.video is not None for clip in clips)
        description = Path(path) / SET_FILE
        if description.is_file():
            return replace(self, **_read_set(description)._asdict(), has_video=has_video, generated=True)
        if inner := next((file for name, file in walk(path) if name == SET_FILE), None):
            raise InputError(
                f"{path}: a generated set lies in a subfolder or archive ({inner}); name the folder of the set itself, "
                "unpacked"
            )
        if max(_FILES.numbers(clip.name)[-1] for clip in clips) <= _CLASSES_60:
            return replace(self, classes=class_names()[:_CLASSES_60], default_protocol="ntu60/cs", has_video=has_video)
        return replace(self, has_video=has_video)

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted by name; video and skeleton are paired by name.

        Raises:
            InputError: there is no clip, or one appears twice.
        """
        return _FILES.clips(path)

    def missing(self, path: str) -> dict[str, str]:
        """Return samples on the official lists of missing or incomplete skeletons, and clips that lack a file."""
        missing = _FILES.unpaired(path)
        if not (Path(path) / SET_FILE).is_file():
            skeletons, videos = _FILES.find(path)
            missing |= dict.fromkeys((skeletons.keys() | videos.keys()) & set(missing_names()), _LISTED)
        return dict(sorted(missing.items()))

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip; its video is not decoded yet.

        Raises:
            BadClip: the skeleton is truncated or malformed, has no body, or is of an unknown class.
            OSError: the system could not read the file.
        """
        setup, camera, performer, replication, action = _FILES.numbers(ref.name)
        file = str(ref.skeleton)
        if not 1 <= action <= len(self.classes):
            raise BadClip(file, f"action {action} is none of the set's {len(self.classes)} classes")
        text = parse_skeleton(read_bytes(ref.skeleton), file)
        found = track_people(text, self.persons)
        if found is None:
            raise no_body(file, text.frames)
        xyz, pixels, valid = found
        return RawClip(
            name=ref.name,
            label=action - 1,
            subject=performer,
            camera=camera,
            setup=setup,
            replication=replication,
            xyz=xyz,
            pixels=pixels if ref.video else None,
            valid=valid,
            video=AviVideo(file=ref.video) if ref.video else None,
        )


class _GeneratedSet(NamedTuple):
    """The part of ``coablate_set.json`` that the reader needs."""

    classes: tuple[str, ...]
    default_protocol: str
    persons: int


def _read_set(path: Path) -> _GeneratedSet:
    """Read the description of a generated set.

    Raises:
        InputError: it is malformed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        classes, protocol, persons = content["classes"], str(content["default_protocol"]), content["persons"]
        if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"classes is {str(classes)[:60]}, not a list of names")
        if type(persons) is not int or not 1 <= persons <= MOST_PERSONS:
            raise ValueError(f"persons is {persons!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected classes, default_protocol and persons as JSON ({type(error).__name__}: {error})"
        ) from None
    if protocol not in PROTOCOLS:
        raise InputError(f"{path}: there is no protocol {protocol!r}{did_you_mean(protocol, PROTOCOLS)}")
    return _GeneratedSet(tuple(classes), protocol, persons)
