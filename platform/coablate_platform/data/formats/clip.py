"""What every reader of a genuine format hands on: clips, where they lie, and what is wrong with a bad one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.joints import JointLayout
from coablate_platform.data.protocols import Protocol as DataProtocol

# T frames · M persons · V joints · H, W pixels

Recipe = dict[str, int | float | str]
"""What decides a store's content, setting by setting."""


class BadClip(Exception):  # noqa: N818 - the name of the thing, not of the exception
    """A clip that cannot be read: left out by ``prepare``, and listed.

    Args:
        file: path, with ``!member`` behind it for a file in a zip archive.
        reason: what is wrong, in one line.
        line: line number from 1 where the format is text.
    """

    def __init__(self, file: str, reason: str, line: int | None = None) -> None:
        # The arguments go to the base class, so that the exception survives a trip between processes.
        super().__init__(file, reason, line)
        self.file = file
        self.reason = reason
        self.line = line

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.reason}"


class VideoSource(Protocol):
    """A video that has not been decoded yet."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video frame in pixels."""
        ...

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        """Yield RGB frames (H, W, 3), scaled to ``size`` (height, width) where given.

        Raises:
            BadClip: the video is truncated or not a video.
            OSError: its file could not be read.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FileRef:
    """A file, or a member of a zip archive.

    Args:
        uri: path of the file or the archive.
        member: name inside the archive.
    """

    uri: str
    member: str | None = None

    def __str__(self) -> str:
        return self.uri if self.member is None else f"{self.uri}!{self.member}"


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """One clip by name, and the files that hold it. Small and picklable."""

    name: str
    skeleton: FileRef
    video: FileRef | None = None


NO_SKELETON = "no skeleton"
"""Why a video that lies alone is left out."""


@dataclass(frozen=True, kw_only=True)
class RawClip:
    """One clip as the format has it, in one convention for all formats.

    Args:
        name: unique in its set.
        label: class from 0.
        subject: performer number as in the file name, from 1.
        camera: camera or view, from 1.
        setup: NTU's setup; 1 elsewhere.
        replication: NTU's replication, the trial or episode elsewhere.
        xyz: joints (T, M, V, 3) float32 in metres in the camera's frame, finite; zeros where a body is absent. M is
            the number of bodies kept, at least 1, in the order of how much they move.
        pixels: joints in the video frame (T, M, V, 2) float32, x then y, in pixels; zeros where a body is absent, NaN
            where the sensor gave none. None without a video stream.
        valid: (T, M) where a body was tracked.
        video: the frames, or None. It may be a few frames longer or shorter than the skeleton: both start together.
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
    video: VideoSource | None


def to_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array as float32; what is too large for it becomes infinite, for the caller to refuse."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


@runtime_checkable
class Reader(Protocol):
    """A data set's format: how its clips are found and read.

    ``classes``, ``persons``, ``default_protocol`` and ``has_video`` may depend on what lies in a folder:
    :meth:`at` returns the source with those of the folder.
    """

    @property
    def name(self) -> str: ...

    @property
    def layout(self) -> JointLayout:
        """The joints: a known layout, or the reader's own, which the store then remembers."""
        ...

    @property
    def persons(self) -> int: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def default_protocol(self) -> str | DataProtocol:
        """The protocol of a study that names none: by a known name, or itself, which the store then remembers."""
        ...

    @property
    def has_video(self) -> bool: ...

    @property
    def reading(self) -> Recipe:
        """How clips are read, wherever they lie: thresholds by name, and ``reader``, raised when the same files come
        out otherwise than before for a reason that no threshold tells."""
        ...

    def at(self, path: str) -> "Reader":
        """Return this source as it describes the clips under ``path``.

        Raises:
            InputError: nothing of this format lies there.
        """
        ...

    def list_clips(self, path: str) -> list[ClipRef]:
        """Return the clips under ``path``, sorted by name, without opening them.

        Raises:
            InputError: nothing of this format lies there, or a file is there twice.
        """
        ...

    def missing(self, path: str) -> dict[str, str]:
        """Return the clips of which anything lies under ``path`` that cannot be used, each with the reason.

        They are those on the set's own lists of unusable ones, and videos without a skeleton. Reasons are few, so
        that they can be counted.
        """
        ...

    def read(self, ref: ClipRef) -> RawClip:
        """Read one clip.

        Raises:
            BadClip: it is truncated or malformed.
            OSError: its files could not be read.
        """
        ...
