"""Clips a second of ``ClipData.train``, as a ratio to a plain reader in the same run on the same store.

The plain reader decodes every frame of a clip on one thread, picks the ones it needs and scales them as floats, the
way public pipelines do. Run ``python benchmarks/loader.py [STORE]``; without a store one like UTD-MHAD is made up.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from coablate_platform.data.augment import draw
from coablate_platform.data.clips import ClipData
from coablate_platform.data.formats.clip import ClipRef, FileRef, RawClip
from coablate_platform.data.joints import KINECT_V1
from coablate_platform.data.mapping import write_whole
from coablate_platform.data.prepare import finish, read_shards
from coablate_platform.data.protocols import get_protocol
from coablate_platform.data.sampling import cut_skeleton, frame_numbers
from coablate_platform.data.schema import METADATA, SHARDS, StoreMetadata
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.data.store import Store
from coablate_platform.study.config import DataConfig
from coablate_platform.study.seeding import stream

CLIPS = 128
CONFIG = DataConfig(validation="none")


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
    """Clips as long and as large as UTD-MHAD's at short side 64."""

    name: str = "utd_mhad"
    layout = KINECT_V1
    persons: int = 1
    classes: tuple[str, ...] = tuple(f"action {number}" for number in range(27))
    default_protocol: str = "utd/cs"
    has_video: bool = True

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
            pixels=xyz[..., :2],
            valid=np.ones((frames, 1), np.bool_),
            video=Square(number=number, count=frames),
        )


def make_store(folder: Path) -> Store:
    source: Any = MadeUp()  # the part of a Source that writing needs
    options = PrepareOptions(short_side=64)
    refs = [ClipRef(name=f"c{number:04}", skeleton=FileRef(uri="memory")) for number in range(2 * CLIPS)]
    (folder / SHARDS).mkdir(parents=True)
    write_shard(source, refs, folder / SHARDS, options)
    metadata = StoreMetadata(
        source=source.name,
        layout=source.layout.name,
        persons=source.persons,
        classes=source.classes,
        default_protocol=source.default_protocol,
        has_video=True,
        recipe=dict(options.recipe()),
        versions={},
    )
    write_whole(folder / METADATA, metadata.to_json().encode())
    finish(folder, metadata, read_shards(folder), {})
    return Store.open(str(folder))


def plain_clips(store: Store, rows: list[int], modalities: tuple[str, ...]) -> int:
    """Cut the same samples without seeking, threads, or uint8 scaling."""
    for row in rows:
        clip, cut = store.clip(row), draw(CONFIG, stream(0, row))
        cut_skeleton(clip.xyz, cut, CONFIG.skeleton_frames, store.layout, CONFIG.jitter)
        if "video" in modalities and clip.video is not None:
            count = len(clip.video.packets)
            frames = np.stack(clip.video.decode(list(range(count)))).astype(np.float32) / 127.5 - 1
            chosen = torch.from_numpy(frames[frame_numbers(count, cut)]).permute(0, 3, 1, 2)
            torch.nn.functional.interpolate(chosen, (CONFIG.size, CONFIG.size), mode="bilinear")
    return len(rows)


def rate(work: Callable[[], int], seconds: float = 4.0) -> float:
    """Return clips a second, after one pass to warm up."""
    work()
    begin, clips = time.perf_counter(), 0
    while (spent := time.perf_counter() - begin) < seconds:
        clips += work()
    return clips / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", nargs="?", help="a prepared store; made up where none is named")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(arguments.store) if arguments.store else make_store(Path(folder) / "store")
        protocol = get_protocol(store.default_protocol)
        rows = protocol.split(store.index, hold_out=False)["train"][:CLIPS].tolist()
        print("| clips | threads | clips/s | plain reader | ratio |\n|---|---|---|---|---|")
        kinds = [("skeleton",)] + [("video", "skeleton")] * store.has_video
        for modalities in kinds:
            plain = rate(lambda kind=modalities: plain_clips(store, rows, kind))  # type: ignore[misc]
            for threads in (1, 2) if "video" in modalities else (1,):
                data = ClipData(store, CONFIG, protocol, (0, 0), modalities, threads=threads)
                found = rate(lambda data=data: sum(len(batch["label"]) for batch in data.train(0, 32)))  # type: ignore[misc]
                label = " + ".join(modalities)
                print(f"| {label} | {threads} | {found:.0f} | {plain:.0f} | {found / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
