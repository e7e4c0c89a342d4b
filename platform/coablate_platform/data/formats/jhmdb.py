"""Reads JHMDB: colour videos with 15 hand-annotated 2-D joints of one person."""

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.avi import AviVideo
from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip, Recipe, to_float32, tracked_frames
from coablate_platform.data.formats.depth import load_matrix
from coablate_platform.data.formats.files import add_once, parts_of, unpaired, walk
from coablate_platform.data.formats.jhmdb_splits import CLASSES, ClipLists, read_lists
from coablate_platform.data.joints import PUPPET, JointLayout
from coablate_platform.study.errors import InputError

WIDTH, HEIGHT = 320, 240
"""Size in pixels of the frames that were annotated."""

_VIDEO = re.compile(r"(.+)\.(?:avi|mp4|m4v|mkv|mov|webm|mpe?g|ts|wmv|flv)", re.IGNORECASE)
_LIST = re.compile(r"[a-z_]+_test_split[123]\.txt", re.IGNORECASE)
_JOINTS = "joint_positions.mat"
_OTHER_LISTS = "sub_splits"
"""The folder with the lists of sub-JHMDB, whose files have the same names as those of JHMDB."""


class _Found(NamedTuple):
    """The files of a set: skeletons and videos by clip, lists by file name, and the classes of the skeletons."""

    skeletons: dict[str, FileRef]
    videos: dict[str, FileRef]
    lists: dict[str, FileRef]
    classes: set[str]


@dataclass(frozen=True, kw_only=True)
class Jhmdb:
    """Reads ``joint_positions/CLASS/NAME/joint_positions.mat``, ``CLASS/NAME.avi`` and ``CLASS_test_splitN.txt``.

    The published folders are ``joint_positions``, ``ReCompress_Videos`` and ``splits``; others may have any name, since
    a clip is told by its class's folder and its own name. A video may have another size than the annotated frames, but
    must show all of them. A set without any video is read as skeletons only.

    ===========  =====================================================================================================
    value        content
    ===========  =====================================================================================================
    ``xyz``      ``pos_world`` as (x, -y, 0): x to the right, y up. The origin is the middle of the picture, the unit
                 about the person's height without head and feet
    ``pixels``   ``pos_img``, which counts from 1 in the annotated frames, in pixels of the video, counted from 0
    ``subject``  number of the video that the clip was cut from
    ``setup``    the code of the clip's sides in the three splits
    ===========  =====================================================================================================

    Every joint has coordinates in every frame, also where it is hidden or beyond the picture's border.

    Args:
        classes: those of the 21 classes that have clips.
        has_video: whether any clip has a video.
        lists: what the split files say; empty before :meth:`at`.
    """

    name: str = "jhmdb"
    layout: JointLayout = PUPPET
    persons: int = 1
    classes: tuple[str, ...] = CLASSES
    default_protocol: str = "jhmdb/split1"
    has_video: bool = True
    lists: ClipLists = field(default_factory=ClipLists)

    @property
    def reading(self) -> Recipe:
        """The reader's version, and a digest of the split files, since the store holds each clip's sides."""
        return {"reader": 1, "lists": self.lists.digest}

    def at(self, path: str) -> "Jhmdb":
        """Return this reader with the classes, videos and splits of the clips under ``path``.

        Raises:
            InputError: there is no clip, or a split file is missing or malformed.
        """
        found = _find(path)
        classes = tuple(label for label in CLASSES if label in found.classes)
        lists = read_lists(path, found.lists, classes)
        return replace(self, classes=classes, has_video=bool(found.skeletons.keys() & found.videos.keys()), lists=lists)

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path`` that have joints, sorted by name.

        Raises:
            InputError: there is no clip, or one appears twice.
        """
        found = _find(path)
        return [
            ClipRef(name=name, skeleton=found.skeletons[name], video=found.videos.get(name))
            for name in sorted(found.skeletons)
        ]

    def missing(self, path: str) -> dict[str, str]:
        """Return the clips that lack a file: the data set has no list of unusable clips."""
        found = _find(path)
        return dict(sorted(unpaired(found.skeletons, found.videos).items()))

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip; of its video only the size is read.

        Raises:
            BadClip: the joints are not a Matlab file of that form, a split does not divide the clip, or the video is
                not one.
            OSError: the system could not read a file.
        """
        file = str(ref.skeleton)
        image, world = (_load(ref.skeleton, name, len(self.layout.joints)) for name in ("pos_img", "pos_world"))
        if image.shape != world.shape:
            raise BadClip(file, f"pos_img has {len(image)} frames, pos_world {len(world)}")
        label = _class_of(ref.skeleton)
        if label not in self.classes:
            raise BadClip(file, f"its class's folder {label!r} is none of the set's {len(self.classes)} classes")
        if ref.name not in self.lists.setups:
            raise BadClip(file, f"the clip is not in {label}_test_split1.txt, …_split2.txt and …_split3.txt")
        xyz = np.stack([world[..., 0], -world[..., 1], np.zeros_like(world[..., 0])], axis=-1)[:, None]
        valid = tracked_frames(xyz, file)
        video = None if ref.video is None else AviVideo(file=ref.video)
        pixels = None if video is None else video_pixels(image, video.size)[:, None]
        return RawClip(
            name=ref.name,
            label=self.classes.index(label),
            subject=self.lists.subjects[ref.name],
            camera=1,
            setup=self.lists.setups[ref.name],
            replication=1,
            xyz=xyz,
            pixels=None if pixels is None else np.where(valid[..., None, None], pixels, np.float32(0)),
            valid=valid,
            video=video,
        )


def video_pixels(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Convert joints from pixels of the annotated frames into pixels of a video that shows all of them.

    Args:
        image: (…, 2), x then y; the centre of the first pixel is 1.
        size: height and width of the video's frames.

    Returns:
        (…, 2), x then y; the centre of the first pixel is 0.
    """
    scale = np.array([size[1] / WIDTH, size[0] / HEIGHT])
    return to_float32((image - 0.5) * scale - 0.5)


def _load(file: FileRef, name: str, joints: int) -> NDArray[np.float32]:
    """Read joints (T, V, 2), which are (2, V, T) in the file."""
    found = load_matrix(file, name)
    if found.ndim == 2:  # Matlab drops a last axis of one frame
        found = found[..., None]
    if found.ndim != 3 or found.shape[:2] != (2, joints) or not found.shape[2]:
        raise BadClip(str(file), f"expected {name} of shape (2, {joints}, T), found {found.shape}")
    values = to_float32(found).transpose(2, 1, 0)
    if not np.isfinite(values).all():
        raise BadClip(str(file), f"a joint of {name} is not a finite number")
    return values


def _class_of(joints: FileRef) -> str:
    """Return the name of the folder above a clip's own folder, in lower case."""
    return "".join(parts_of(joints)[-3:-2]).lower()


def _find(path: str) -> _Found:
    """Find the files of the set under a path.

    Raises:
        InputError: no clip has joints, or a file appears twice.
    """
    found = _Found({}, {}, {}, set())
    for name, file in walk(path):
        folders = parts_of(file)[:-1]
        if name.lower() == _JOINTS and _class_of(file) in CLASSES:
            add_once(found.skeletons, folders[-1], file, path)
            found.classes.add(_class_of(file))
        elif (match := _VIDEO.fullmatch(name)) and "".join(folders[-1:]).lower() in CLASSES:
            add_once(found.videos, match[1], file, path)
        elif _LIST.fullmatch(name) and _OTHER_LISTS not in folders:
            add_once(found.lists, name.lower(), file, path)
    if not found.skeletons:
        raise InputError(
            f"{path}: no clip found; expected JHMDB files named like joint_positions/catch/NAME/{_JOINTS}, "
            "ReCompress_Videos/catch/NAME.avi and splits/catch_test_split1.txt"
        )
    return found
