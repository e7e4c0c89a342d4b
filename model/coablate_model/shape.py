"""What a network must know of the clips it will see."""

from typing import Protocol


class Shape(Protocol):
    """Sizes of a clip: classes, video channels, frames of size × size pixels, skeleton frames, joints, persons."""

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
