"""Reads, encodes and writes the clips of one shard: the work of one task, whole or absent afterwards."""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef, RawClip, Reader, Recipe
from coablate_platform.data.formats.files import Measure, measure
from coablate_platform.data.schema import PARQUET, SCHEMA, make_row
from coablate_platform.data.video import Resize, VideoError, encode, fit
from coablate_platform.files import replacing

APART, APART_SHARE = 3, 0.05
"""Frames, and the share of the skeleton's besides, by which a video may be longer or shorter than its skeleton: two
recordings of one clip need not end together. Beyond that, one of them lacks a part. The numbers are our choice."""

_ROWS = 16  # clips a row group: bounds what a task holds in memory
_BAD = b"coablate.bad"
_FILES = b"coablate.files"

Measures = Sequence[Measure]
"""Of the skeleton's and, where there is one, of the video's file."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """What decides a store's content, but for ``shard_clips``.

    Args:
        short_side: of a stored frame in pixels; smaller videos are not enlarged.
        resize: see :func:`~coablate_platform.data.video.fit`.
        gop: frames from one keyframe to the next; fewer make seeking faster and files larger.
        quality: quantiser of the video, 1 (best) to 31.
        shard_clips: clips a shard; what an interruption loses of each task.
    """

    short_side: int = 256
    resize: Resize = "crop"
    gop: int = 12
    quality: int = 2
    shard_clips: int = 128

    def recipe(self) -> Recipe:
        return {name: value for name, value in asdict(self).items() if name != "shard_clips"}


class LeftOut(NamedTuple):
    """A clip that is not in the store, and why.

    Args:
        name: the clip's.
        file: the one at fault, with its line where it is text.
        reason: in one line.
        stamp: size and modification time of the clip's files: when they change, it is tried again. Empty where the
            files may not be at fault: it is tried again in any case.
    """

    name: str
    file: str
    reason: str
    stamp: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a finished shard holds.

    Args:
        digests: of its clips, by name.
        bad: clips that it had to leave out.
        files: what the clips' files measured when they were read, by name; without those that could not be measured,
            and all of a shard that an earlier version wrote.
    """

    digests: dict[str, str]
    bad: list[LeftOut]
    files: dict[str, Measures]


def write_shard(source: Reader, refs: Sequence[ClipRef], folder: Path, options: PrepareOptions) -> Path:
    """Write the clips of one shard, named by its content of clips; a clip that cannot be read is listed inside.

    Raises:
        OSError: the folder cannot be written.
    """
    key = hashlib.sha256("\n".join(f"{ref.name} {stamp(ref)}" for ref in refs).encode()).hexdigest()
    target = folder / f"{key[:16]}.parquet"
    bad: list[LeftOut] = []
    files = {ref.name: measured for ref in refs if (measured := _measures(ref))}
    with replacing(target) as partial, pq.ParquetWriter(partial, SCHEMA, **PARQUET) as writer:
        rows: list[dict[str, Any]] = []
        for row in _rows(source, refs, options, bad):
            rows.append(row)
            if len(rows) == _ROWS:
                writer.write_table(_table(rows))
                rows = []
        if rows:
            writer.write_table(_table(rows))
        writer.add_key_value_metadata({_BAD: json.dumps(bad).encode(), _FILES: json.dumps(files).encode()})
    return target


def read_shard(path: Path) -> Shard:
    """Return what a shard holds, without its clips' content.

    Raises:
        OSError, pyarrow.ArrowException: it is damaged.
    """
    with pq.ParquetFile(path) as file:
        table = file.read(["name", "digest"])
        said = file.metadata.metadata or {}
    digests = dict(zip(table["name"].to_pylist(), table["digest"].to_pylist(), strict=True))
    files = {name: [Measure(*file) for file in files] for name, files in json.loads(said.get(_FILES, b"{}")).items()}
    return Shard(
        digests=digests,
        bad=[LeftOut(*entry) for entry in json.loads(said.get(_BAD, b"[]"))],
        files={name: files[name] for name in digests if name in files},
    )


def stamp(ref: ClipRef) -> str:
    """Return size and modification time of a clip's files, or of the archives that hold them."""
    return " ".join(_file_stamp(file) for file in (ref.skeleton, ref.video) if file is not None)


def _file_stamp(file: FileRef) -> str:
    try:
        status = Path(file.uri).stat()
    except OSError:
        return "-"
    return f"{status.st_size}:{status.st_mtime_ns}"


def change(ref: ClipRef, before: Measures) -> str | None:
    """Say which of a stored clip's files is not what it was, and how; None where none can be told to have changed.

    A file that was copied or touched is read; checksums count where both are known, so that a set may lie in archives
    once and in folders another time.
    """
    for file, then, now in zip((ref.skeleton, ref.video), before, _measures(ref, before) or (), strict=False):
        if then.size != now.size:
            return f"{file} has {now.size} bytes, it had {then.size}"
        if None not in (then.checksum, now.checksum) and then.checksum != now.checksum:
            return f"{file} has the size that it had, but another checksum"
    return None


def _measures(ref: ClipRef, before: Measures = ()) -> Measures | None:
    files = [file for file in (ref.skeleton, ref.video) if file is not None]
    try:
        return [measure(file, then) for file, then in itertools.zip_longest(files, before[: len(files)])]
    except (OSError, KeyError, zipfile.BadZipFile, BadClip):
        return None


def _rows(
    source: Reader, refs: Sequence[ClipRef], options: PrepareOptions, bad: list[LeftOut]
) -> Iterator[dict[str, Any]]:
    """Yield a row for every clip that can be read, and append the others to ``bad``: no file stops a set."""
    for ref in refs:
        try:
            yield _row(source, ref, options)
        except BadClip as error:
            file = error.file if error.line is None else f"{error.file}:{error.line}"
            bad.append(LeftOut(ref.name, file, error.reason, stamp(ref)))
        except VideoError as error:
            bad.append(LeftOut(ref.name, str(ref.video or ref.skeleton), f"its video {error}", stamp(ref)))
        except OSError as error:
            file = str(error.filename or ref.skeleton)
            bad.append(LeftOut(ref.name, file, f"cannot be read: {error.strerror or error}", ""))
        except Exception as error:  # what no reader foresaw: it may be the program's fault, so it is tried again
            file = " or ".join(str(file) for file in (ref.skeleton, ref.video) if file is not None)
            said = " ".join(str(error).split())
            bad.append(LeftOut(ref.name, file, f"cannot be read: {type(error).__name__}: {said}", ""))


def _row(source: Reader, ref: ClipRef, options: PrepareOptions) -> dict[str, Any]:
    clip = source.read(ref)
    if not source.has_video:
        return make_row(clip, None, None)
    if clip.video is None:
        raise BadClip(str(ref.skeleton), "has no video beside it, as other clips have")
    place = fit(clip.video.size, options.short_side, options.resize)
    video = encode(clip.video.frames(place.inner), place, gop=options.gop, quality=options.quality)
    _check_lengths(ref, len(video.packets), len(clip.xyz))
    return make_row(clip, video, _stored_pixels(clip, place.pixels))


def _check_lengths(ref: ClipRef, video: int, skeleton: int) -> None:
    """Refuse a video and a skeleton that cannot be of one length, see :data:`APART`."""
    if abs(video - skeleton) > APART + APART_SHARE * skeleton:
        raise BadClip(str(ref.video), f"the video has {video} frames, its skeleton {skeleton}: one lacks a part")


def _stored_pixels(clip: RawClip, move: Any) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    return None if clip.pixels is None else move(clip.pixels)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)
