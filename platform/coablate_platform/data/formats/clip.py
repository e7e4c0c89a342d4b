"""The interface of readers: clips as they are read, references to their files, and the error for a bad clip."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.joints import JointLayout
from coablate_platform.data.protocols import Protocol as DataProtocol

# T frames · M persons · V joints · H, W pixels

Recipe = dict[str, int | float | str]
"""Settings that decide a store's content, by name."""


class BadClip(Exception):  # noqa: N818 - it names a clip, and BadClipError would say no more
    """A clip that cannot be read; ``prepare`` leaves it out and lists it in its report.

    Args:
        file: path of the file; for a member of a zip archive ``path!member``.
        reason: what is wrong, in one line.
        line: line number, counted from 1, where the file is text.
    """

    def __init__(self, file: str, reason: str, line: int | None = None) -> None:
        # The base class gets all arguments, so that the exception can be pickled.
        super().__init__(file, reason, line)
        self.file = file
        self.reason = reason
        self.line = line

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.reason}"


class UndecodedVideo(Protocol):
    """A video that is decoded when its frames are read."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video frame in pixels."""
        ...

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the file is truncated or not a video.
            OSError: the system could not read the file.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """A reference to a file or to a member of a zip archive.

    Args:
        uri: path of the file or of the archive.
        member: name of the member; None for a file.
    """

    uri: str
    member: str | None = None

    def __str__(self) -> str:
        return self.uri if self.member is None else f"{self.uri}!{self.member}"


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """A reference to a clip: its name and its files. Small and picklable."""

    name: str
    skeleton: FileRef
    video: FileRef | None = None

    @property
    def files(self) -> list[FileRef]:
        """The skeleton's file and, where there is one, the video's."""
        return [self.skeleton] if self.video is None else [self.skeleton, self.video]


NO_SKELETON = "no skeleton"
"""Reason for which a video without a skeleton file is left out."""
NO_VIDEO = "no video, though other clips have one"
"""Reason for which a clip without a video file is left out."""


@dataclass(frozen=True, kw_only=True)
class RawClip:
    """One clip as it is read from its files, in the same convention for all formats.

    Args:
        name: unique in its data set.
        label: class, counted from 0.
        subject: number of the performer, as in the file name, from 1; in JHMDB, of the video that it was cut from.
        camera: number of the camera or view, from 1.
        setup: NTU's setup; where lists of names divide the set, the code of the clip's sides, see
            :mod:`coablate_platform.data.sides`; 1 in other data sets.
        replication: NTU's replication; the trial or episode in other data sets.
        xyz: joints (T, M, V, 3) float32 in metres, in the camera's frame (x to the right of the picture, y up), finite;
            zeros where a body is absent. JHMDB has z = 0, and a person's size as its unit. M is the number of bodies
            kept, at least 1; the body that moves most comes first.
        pixels: joints in the video (T, M, V, 2) float32 in pixels, x then y; zeros where a body is absent, NaN where
            the sensor gave no position. None without a video.
        valid: (T, M), whether the body was tracked in the frame.
        video: the video, or None. It starts with the skeleton, and may be a few frames longer or shorter.
    """

    name: str
    label: int
    subject: int
    camera: int
    setup: int
    replication: int
    xyz: NDArray[np.float32]
    pixels: NDArray[np.float32] | None
    valid: NDArray[np.bool_]
    video: UndecodedVideo | None


def tracked_frames(xyz: NDArray[np.float32], file: str) -> NDArray[np.bool_]:
    """Return in which frames each body is tracked: a sensor writes zeros for all joints where it lost the body.

    Args:
        xyz: joints (T, M, V, 3) in metres.
        file: the skeleton's file in the error message.

    Returns:
        (T, M), True where any coordinate is not zero.

    Raises:
        BadClip: no body is tracked in any frame.
    """
    tracked = np.asarray(xyz.any((2, 3)), dtype=np.bool_)
    if not tracked.any():
        raise no_body(file, len(xyz))
    return tracked


def no_body(file: str, frames: int) -> BadClip:
    """Return the exception for a clip in which nobody is tracked."""
    return BadClip(file, f"no body in any of its {frames} frames")


def to_float32(array: NDArray[np.number]) -> NDArray[np.float32]:
    """Convert an array to float32 without a warning; numbers that are too large become infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


@runtime_checkable
class Reader(Protocol):
    """A reader of one data set's format: it finds the clips in a folder and reads them.

    ``classes``, ``persons``, ``default_protocol`` and ``has_video`` may depend on the folder: :meth:`at` returns a
    reader with the folder's values.
    """

    @property
    def name(self) -> str:
        """Name of the data set, as in ``coablate data prepare NAME``."""
        ...

    @property
    def layout(self) -> JointLayout:
        """The joints of every skeleton, in the order of ``RawClip.xyz``. The store keeps a layout that is not ours."""
        ...

    @property
    def persons(self) -> int:
        """Most persons that a clip can have."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""
        ...

    @property
    def default_protocol(self) -> str | DataProtocol:
        """The protocol of studies that name none: the name of a known one, or a protocol, which the store keeps."""
        ...

    @property
    def has_video(self) -> bool:
        """Whether clips have videos; a clip without one is then left out."""
        ...

    @property
    def reading(self) -> Recipe:
        """Settings that decide what :meth:`read` returns; the store keeps them in its recipe.

        They are named thresholds, and ``reader``, a version number to increase whenever the result changes for any
        other reason.
        """
        ...

    def at(self, path: str) -> "Reader":
        """Return this reader with the classes, persons, protocol and video of the clips under ``path``.

        Raises:
            InputError: there is no clip of this format.
        """
        ...

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, in a fixed order, without opening their files.

        Raises:
            InputError: there is no clip of this format, or a file appears twice.
        """
        ...

    def missing(self, path: str) -> dict[str, str]:
        """Return the clips under ``path`` that are left out without being read, by name, each with the reason.

        These are clips on the data set's own lists of unusable samples, videos without a skeleton (:data:`NO_SKELETON`)
        and, where other clips have a video, skeletons without one (:data:`NO_VIDEO`). There are few different reasons,
        so that a report can count them.
        """
        ...

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip.

        Raises:
            BadClip: its files are truncated or malformed.
            OSError: the system could not read its files.
        """
        ...
