"""A store of made-up clips as long and as large as UTD-MHAD's, so that benchmarks need no download."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import ClipRef, FileRef, RawClip, Recipe
from coablate_platform.data.joints import KINECT_V1
from coablate_platform.data.prepare import finish, metadata_of, read_shards
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.data.store import Store


@dataclass(frozen=True, kw_only=True)
class Square:
    """A bright square that crosses a still background."""

    number: int
    count: int
    size: tuple[int, int] = (64, 86)

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        height, width = size or self.size
        ground = np.random.default_rng(self.number).integers(0, 160, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        ground = ground.repeat(8, 0).repeat(8, 1)[:height, :width]
        for moment in range(self.count):
            frame = ground.copy()
            frame[20:44, moment % 60 : moment % 60 + 20] = 220
            yield frame


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """Clips of one person with 41 to 100 frames."""

    has_video: bool
    name: str = "utd_mhad"
    layout = KINECT_V1
    persons: int = 1
    classes: tuple[str, ...] = tuple(f"action {number}" for number in range(27))
    default_protocol: str = "utd/cs"
    reading: Recipe = field(default_factory=dict)

    def read(self, ref: ClipRef) -> RawClip:
        number = int(ref.name[1:])
        frames = 41 + number * 37 % 60
        xyz = np.random.default_rng(number).normal(size=(frames, 1, 20, 3)).astype(np.float32)
        return RawClip(
            name=ref.name,
            label=number % 27,
            subject=number % 8 + 1,
            camera=1,
            setup=1,
            replication=1,
            xyz=xyz,
            pixels=xyz[..., :2] if self.has_video else None,
            valid=np.ones((frames, 1), np.bool_),
            video=Square(number=number, count=frames) if self.has_video else None,
        )


def make_store(folder: Path, clips: int, *, has_video: bool) -> Store:
    """Prepare a store of ``clips`` clips in ``folder``; half of them train under the store's own protocol."""
    reader: Any = MadeUp(has_video=has_video)  # the part of a Reader that writing needs
    options = PrepareOptions(short_side=64)
    refs = [ClipRef(name=f"c{number:04}", skeleton=FileRef(uri="memory")) for number in range(clips)]
    (folder / SHARDS).mkdir(parents=True)
    metadata = metadata_of(reader, options, folder)
    write_shard(reader, refs, folder / SHARDS, options)
    finish(folder, metadata, read_shards(folder), {})
    return Store.open(str(folder))
