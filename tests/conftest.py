"""What all tests share: where the genuine data lies, and clips made up in memory with stores of them."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip, Recipe
from coablate_platform.data.joints import KINECT_V1, JointLayout
from coablate_platform.data.prepare import finish, metadata_of, read_shards
from coablate_platform.data.schema import SHARDS
from coablate_platform.data.shard import PrepareOptions, write_shard
from coablate_platform.data.store import Store

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
pytest_plugins = ("commands", "made_study", "object_storage")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's, here and in subprocesses: on a busy machine several stall


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="rewrite the golden curves from this machine")


@dataclass(frozen=True, kw_only=True)
class ArrayVideo:
    """Frames of grey noise that moves, with a white square on joint 0."""

    number: int
    count: int
    size: tuple[int, int] = (48, 64)

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[NDArray[np.uint8]]:
        height, width = size or self.size
        ground = np.random.default_rng(self.number).integers(0, 120, (height, width, 1), dtype=np.uint8).repeat(3, 2)
        for moment in range(self.count):
            frame = np.roll(ground // 16 * 16, moment, axis=1)
            x, y = 10 + moment, 20
            frame[y - 4 : y + 4, x - 4 : x + 4] = 255
            yield frame


@dataclass(frozen=True, kw_only=True)
class MemoryReader:
    """Clips by number; those in ``bad`` cannot be read."""

    clips: int = 12
    has_video: bool = True
    bad: frozenset[int] = field(default_factory=frozenset)
    name: str = "utd_mhad"
    layout: JointLayout = KINECT_V1
    persons: int = 2
    classes: tuple[str, ...] = ("wave", "clap", "sit")
    default_protocol: str = "utd/cs"
    reading: Recipe = field(default_factory=dict)

    def refs(self) -> list[ClipRef]:
        return [
            ClipRef(name=f"c{number:03}", skeleton=FileRef(uri=f"/nowhere/{number}")) for number in range(self.clips)
        ]

    def read(self, ref: ClipRef) -> RawClip:
        number = int(ref.name[1:])
        if number in self.bad:
            raise BadClip(f"/nowhere/{number}", "is truncated", line=7)
        frames = 20 + number
        generator = np.random.default_rng(number)
        xyz = generator.normal(size=(frames, 2, 20, 3)).cumsum(0).astype(np.float32)
        xyz[:, 1] = 0  # nobody there
        xyz[5] = 0  # a frame without a body
        pixels = np.zeros((frames, 2, 20, 2), np.float32)
        pixels[:, 0, 0] = np.stack([10 + np.arange(frames), np.full(frames, 20)], axis=1)
        return RawClip(
            name=ref.name,
            label=number % 3,
            subject=number % 8 + 1,
            camera=1,
            setup=1,
            replication=number // 8 + 1,
            xyz=xyz,
            pixels=pixels if self.has_video else None,
            valid=xyz.any((2, 3)),
            video=ArrayVideo(number=number, count=frames) if self.has_video else None,
        )


def build(folder: Path, reader: MemoryReader, options: PrepareOptions | None = None, *, reverse: bool = False) -> Store:
    """Make a store as ``prepare`` does, without Ray."""
    options = options or PrepareOptions(short_side=48, shard_clips=5)
    refs = reader.refs()[::-1] if reverse else reader.refs()
    (folder / SHARDS).mkdir(parents=True)
    metadata = metadata_of(reader, options, folder)
    for start in range(0, len(refs), options.shard_clips):
        write_shard(reader, refs[start : start + options.shard_clips], folder / SHARDS, options)
    finish(folder, metadata, read_shards(folder), {})
    return Store.open(str(folder))


@pytest.fixture(scope="session")
def make_store() -> Callable[..., Store]:
    return build


@pytest.fixture(scope="session")
def make_reader() -> type[MemoryReader]:
    return MemoryReader


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build(tmp_path_factory.mktemp("store") / "s", MemoryReader(clips=40))


@pytest.fixture(scope="session")
def skeleton_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return build(tmp_path_factory.mktemp("store") / "k", MemoryReader(has_video=False))


@pytest.fixture(scope="session")
def write_walk() -> Callable[..., Path]:
    """Write one skeleton as NTU does: someone who walks; return its path."""

    def write(folder: Path, name: str, frames: int = 20) -> Path:
        lines = [str(frames)]
        for frame in range(frames):
            lines += ["1", "72057594037927936 0 1 1 1 1 0 0 0 2", "25"]
            for joint in range(25):
                x, y = 0.4 * joint / 24 + 0.01 * frame, 1.7 * (24 - joint) / 24
                lines.append(f"{x:.5f} {y:.5f} 3 1 2 {1000 * x:.3f} {500 * y:.3f} 0 0 0 1 2")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.skeleton"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture(scope="session")
def genuine_data() -> Path:
    """The folder that COABLATE_DATA names; tests that need it are skipped, saying why, where it is unset."""
    if "COABLATE_DATA" not in os.environ:
        pytest.skip("COABLATE_DATA is not set: no genuine data on this machine")
    return Path(os.environ["COABLATE_DATA"])


@pytest.fixture
def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
