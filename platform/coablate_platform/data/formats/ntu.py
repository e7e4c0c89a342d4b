"""NTU RGB+D 60 and 120, and sets generated in their formats."""

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from coablate_platform.data.formats.avi import AviVideo
from coablate_platform.data.formats.bodies import DENOISING, people
from coablate_platform.data.formats.clip import NO_SKELETON, BadClip, ClipRef, RawClip, Recipe
from coablate_platform.data.formats.files import pair, read_bytes, walk
from coablate_platform.data.formats.skeleton_text import parse_skeleton
from coablate_platform.data.joints import KINECT_V2, JointLayout
from coablate_platform.data.protocols import PROTOCOLS
from coablate_platform.study.errors import InputError, did_you_mean

SET_FILE = "coablate_set.json"
"""What a generated set says of itself."""
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_SUFFIXES = (".skeleton", "_rgb.avi")
_LISTED = "on the official list of samples with missing or incomplete skeletons"
_CLASSES_60 = 60


@cache
def _fact_lines(name: str) -> tuple[str, ...]:
    return tuple(files(__package__).joinpath("facts", name).read_text(encoding="utf-8").splitlines())


def class_names() -> tuple[str, ...]:
    """Return the 120 official class names; the first 60 are those of NTU RGB+D 60."""
    return _fact_lines("ntu_classes.txt")


def missing_names() -> tuple[str, ...]:
    """Return the 535 samples of NTU RGB+D 120 with missing or incomplete skeletons.

    The 302 of setups 1-17 are the list of NTU RGB+D 60.

    Source: the data set's official lists.
    """
    return _fact_lines("ntu_missing.txt")


@dataclass(frozen=True, kw_only=True)
class Ntu:
    """Reads ``SsssCcccPpppRrrrAaaa.skeleton`` and ``…_rgb.avi``, in folders, zip archives or both.

    A set without videos is read without them; where some clips have one, ``prepare`` leaves out those that have none.
    A video without its skeleton is listed as missing. Video and skeleton start together, and each keeps its own number
    of frames where they differ by a few.

    Args:
        classes: of the 60 or the 120 classes, or those that a generated set names in ``coablate_set.json``.
        default_protocol: the set's own.
        persons: the most people a clip is read with: the ones that move most.
        has_video: whether any clip has a video.
        generated: whether a generator wrote the set; the official lists of unusable clips are not about it.
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
        """The thresholds of denoising, and which of the two trees in use is the layout's: that of graph networks."""
        return {"reader": 1, "tree": "graph", **DENOISING}

    def at(self, path: str) -> "Ntu":
        """Return this source as it describes the clips under ``path``: 60 or 120 classes, with or without videos.

        Raises:
            InputError: no clip lies there, or ``coablate_set.json`` is malformed or lies further in.
        """
        clips = self.list_clips(path)
        has_video = any(clip.video is not None for clip in clips)
        described = Path(path) / SET_FILE
        if described.is_file():
            return replace(self, **_read_set(described), has_video=has_video, generated=True)
        if further := next((file for name, file in walk(path) if name == SET_FILE), None):
            raise InputError(f"{path}: a generated set lies further in ({further}); name its own folder, unpacked")
        if max(_fields(clip.name)[-1] for clip in clips) <= _CLASSES_60:
            return replace(self, classes=class_names()[:_CLASSES_60], default_protocol="ntu60/cs", has_video=has_video)
        return replace(self, has_video=has_video)

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted; a video is paired with its skeleton by the sample's name.

        Raises:
            InputError: no clip lies there, or the same one twice.
        """
        skeletons, videos = pair(path, _NAME, _SUFFIXES)
        if not skeletons:
            raise InputError(
                f"{path}: no NTU RGB+D clip found; expected files named like S001C001P001R001A001.skeleton, with "
                "S001C001P001R001A001_rgb.avi beside them or not, in folders or zip archives"
            )
        return [ClipRef(name=name, skeleton=skeletons[name], video=videos.get(name)) for name in sorted(skeletons)]

    def missing(self, path: str) -> dict[str, str]:
        """Return what is on the official lists of missing or incomplete skeletons, and videos without a skeleton."""
        skeletons, videos = pair(path, _NAME, _SUFFIXES)
        missing = dict.fromkeys(videos.keys() - skeletons.keys(), NO_SKELETON)
        if not (Path(path) / SET_FILE).is_file():
            missing |= dict.fromkeys((skeletons.keys() | videos.keys()) & set(missing_names()), _LISTED)
        return dict(sorted(missing.items()))

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip; its video is not decoded yet.

        Raises:
            BadClip: the skeleton is truncated or malformed, has no body, or is of an unknown class.
            OSError: it could not be read.
        """
        setup, camera, performer, replication, action = _fields(ref.name)
        file = str(ref.skeleton)
        if not 1 <= action <= len(self.classes):
            raise BadClip(file, f"action {action} of a set with {len(self.classes)} classes")
        text = parse_skeleton(read_bytes(ref.skeleton), file)
        found = people(text, self.persons)
        if found is None:
            raise BadClip(file, f"no body in any of its {text.frames} frames")
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


def _fields(name: str) -> tuple[int, ...]:
    """Return setup, camera, performer, replication and action."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not a sample's name")
    return tuple(int(number) for number in found.groups())


def _read_set(path: Path) -> dict[str, Any]:
    """Return what a generated set says of itself.

    Raises:
        InputError: it is not readable.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        classes, protocol, persons = tuple(map(str, said["classes"])), str(said["default_protocol"]), said["persons"]
        if not isinstance(persons, int) or persons < 1:
            raise ValueError(f"persons is {persons!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected classes, default_protocol and persons as JSON ({type(error).__name__}: {error})"
        ) from None
    if protocol not in PROTOCOLS:
        raise InputError(f"{path}: there is no protocol {protocol!r}{did_you_mean(protocol, PROTOCOLS)}")
    return {"classes": classes, "default_protocol": protocol, "persons": persons}
