"""The clip sizes that a network is built for."""

from typing import Protocol


class Shape(Protocol):
    """Sizes of a data set's clips.

    Attributes:
        classes: number of classes.
        channels: video channels.
        frames: video frames per clip.
        size: height and width of a video frame in pixels.
        skeleton_frames: skeleton frames per clip.
        joints: joints per person.
        persons: persons per clip.
        bones: the joint tree as (child, parent) pairs; empty where it is not known.
    """

    @property
    def classes(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def frames(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def skeleton_frames(self) -> int: ...

    @property
    def joints(self) -> int: ...

    @property
    def persons(self) -> int: ...

    @property
    def bones(self) -> tuple[tuple[int, int], ...]: ...
