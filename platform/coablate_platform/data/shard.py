"""Reads and encodes the clips of one shard and writes its Parquet file: the work of one Ray Data task."""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge, Le

from coablate_platform.data.formats.clip import (
    NO_VIDEO,
    BadClip,
    ClipRef,
    FileRef,
    RawClip,
    Reader,
    Recipe,
    no_body,
    to_float32,
    tracked_frames,
)
from coablate_platform.data.formats.files import FileFingerprint, fingerprint_file
from coablate_platform.data.schema import PARQUET, SCHEMA, Row, make_row
from coablate_platform.data.video import Resize, VideoError, encode, fit
from coablate_platform.files import replacing
from coablate_platform.study.validation import Count, Expected, check_fields

LENGTH_TOLERANCE, LENGTH_TOLERANCE_SHARE = 3, 0.05
"""A video may be longer or shorter than its skeleton by this many frames plus this share of the skeleton's frames: two
recordings of one clip need not end together. Where they differ by more, one of them is incomplete. The numbers are our
choice."""

DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError)
"""Errors of :func:`read_shard` for a file that is damaged, or no shard."""
_GROUP_ROWS = 16  # clips per row group: bounds the memory of a task
_BAD = b"coablate.bad"
_FILES = b"coablate.files"

ClipFingerprints = Sequence[FileFingerprint]
"""Fingerprints of a clip's skeleton file and, where there is one, of its video file."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """The settings of a preparation. All of them but ``shard_clips`` decide the store's content.

    Raises:
        InputError: a setting is not valid.

    Args:
        short_side: short side of a stored frame in pixels; smaller videos are not enlarged.
        resize: see :func:`~coablate_platform.data.video.fit`.
        gop: frames from one keyframe to the next; a smaller number makes seeking faster and files larger.
        quality: quantiser of the video, from 1 (best) to 31.
        shard_clips: clips per shard. An interruption loses the shards that are being written.
        skeleton_only: store no video, and keep the clips that have none. The store's metadata says whether it has
            video, so the recipe does not.
    """

    short_side: Annotated[int, Ge(16), Le(8192), Expected("a whole number from 16 to 8192")] = 256
    resize: Resize = "crop"
    gop: Annotated[int, Ge(1), Le(600), Expected("a whole number from 1 to 600")] = 12
    quality: Annotated[int, Ge(1), Le(31), Expected("a whole number from 1 to 31")] = 2
    shard_clips: Count = 128
    skeleton_only: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "preparation: ")

    def recipe(self) -> Recipe:
        """Return the settings that decide what is stored of a clip."""
        return {name: value for name, value in asdict(self).items() if name not in ("shard_clips", "skeleton_only")}


class BadClipRecord(NamedTuple):
    """A record of a clip that could not be prepared.

    Args:
        name: name of the clip.
        file: the file at fault, with ``:line`` behind it where it is text.
        reason: the reason in one line.
        stamp: see :func:`clip_stamp`; the clip is tried again when its files have another stamp. Empty where the files
            may not be at fault: the clip is tried again every time.
    """

    name: str
    file: str
    reason: str
    stamp: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The content of a finished shard, without the clips' data.

    Args:
        digests: digests of the stored clips, by name.
        bad: the clips that could not be prepared.
        fingerprints: fingerprints of the stored clips' files when they were read, by the clip's name. A clip whose
            files had none is missing, and so are all clips of a shard from an earlier version.
    """

    digests: dict[str, str]
    bad: list[BadClipRecord]
    fingerprints: dict[str, ClipFingerprints]


def write_shard(reader: Reader, refs: Sequence[ClipRef], folder: Path, options: PrepareOptions) -> Path:
    """Write the clips of one shard, whose name follows from the clips; list those that cannot be read in it.

    Raises:
        OSError: the folder cannot be written.
    """
    key = hashlib.sha256("\n".join(f"{ref.name} {clip_stamp(ref)}" for ref in refs).encode()).hexdigest()
    target = folder / f"{key[:16]}.parquet"
    bad: list[BadClipRecord] = []
    fingerprints = {ref.name: found for ref in refs if (found := _clip_fingerprints(ref))}
    with replacing(target) as partial, pq.ParquetWriter(partial, SCHEMA, **PARQUET) as writer:
        rows: list[Row] = []
        for row in _rows(reader, refs, options, bad):
            rows.append(row)
            if len(rows) == _GROUP_ROWS:
                writer.write_table(_table(rows))
                rows = []
        if rows:
            writer.write_table(_table(rows))
        metadata = {_BAD: json.dumps(bad).encode(), _FILES: json.dumps(fingerprints).encode()}
        writer.add_key_value_metadata(metadata)
    return target


def read_shard(path: Path) -> Shard:
    """Read what a shard holds, without the clips' data.

    Raises:
        DAMAGE: it is damaged, or no shard.
    """
    with pq.ParquetFile(path) as file:
        table = file.read(["name", "digest"])
        metadata = file.metadata.metadata or {}
    digests = dict(zip(table["name"].to_pylist(), table["digest"].to_pylist(), strict=True))
    if len(digests) != table.num_rows:
        raise ValueError(f"{table.num_rows} rows hold {len(digests)} different clips")
    fingerprints = json.loads(metadata.get(_FILES, b"{}"))
    return Shard(
        digests=digests,
        bad=[BadClipRecord(*entry) for entry in json.loads(metadata.get(_BAD, b"[]"))],
        fingerprints={
            name: [FileFingerprint(*entry) for entry in fingerprints[name]] for name in digests if name in fingerprints
        },
    )


def clip_stamp(ref: ClipRef) -> str:
    """Return size and modification time of a clip's files, or of the archives that hold them."""
    return " ".join(_file_stamp(file) for file in ref.files)


def _file_stamp(file: FileRef) -> str:
    try:
        status = Path(file.uri).stat()
    except OSError:
        return "-"
    return f"{status.st_size}:{status.st_mtime_ns}"


def describe_change(ref: ClipRef, before: ClipFingerprints) -> str | None:
    """Say which file of a stored clip has changed, and how; return None where no change can be found.

    A file whose modification time is another one is read and compared by its checksum. Archives record a checksum, so
    a data set may lie in archives at one time and unpacked at another.
    """
    for file, old, new in zip(ref.files, before, _clip_fingerprints(ref, before) or (), strict=False):
        if old.size != new.size:
            return f"{file} has {new.size} bytes, it had {old.size}"
        if None not in (old.checksum, new.checksum) and old.checksum != new.checksum:
            return f"{file} has the same size, but another checksum"
    return None


def _clip_fingerprints(ref: ClipRef, before: ClipFingerprints = ()) -> ClipFingerprints | None:
    """Return the fingerprints of a clip's files; None where a file cannot be read."""
    known = before[: len(ref.files)]
    try:
        return [fingerprint_file(file, old) for file, old in itertools.zip_longest(ref.files, known)]
    except (OSError, KeyError, zipfile.BadZipFile, BadClip):
        return None


def _rows(reader: Reader, refs: Sequence[ClipRef], options: PrepareOptions, bad: list[BadClipRecord]) -> Iterator[Row]:
    """Yield a row for every clip that can be read, and append the others to ``bad``: no file stops a data set."""
    for ref in refs:
        try:
            yield _row(reader, ref, options)
        except BadClip as error:
            file = error.file if error.line is None else f"{error.file}:{error.line}"
            bad.append(BadClipRecord(ref.name, file, error.reason, clip_stamp(ref)))
        except VideoError as error:
            bad.append(BadClipRecord(ref.name, str(ref.video or ref.skeleton), f"its video {error}", clip_stamp(ref)))
        except OSError as error:
            file = str(error.filename or ref.skeleton)
            bad.append(BadClipRecord(ref.name, file, f"cannot be read: {error.strerror or error}", ""))
        except Exception as error:  # one that no reader expects: perhaps the program's fault, so no stamp
            file = " or ".join(str(file) for file in ref.files)
            message = " ".join(str(error).split())
            bad.append(BadClipRecord(ref.name, file, f"cannot be read: {type(error).__name__}: {message}", ""))


def _row(reader: Reader, ref: ClipRef, options: PrepareOptions) -> Row:
    """Read one clip and encode its video."""
    clip = _checked(reader.read(ref), reader, ref)
    if options.skeleton_only or not reader.has_video:
        return make_row(clip, None, None)
    if clip.video is None:
        raise BadClip(str(ref.skeleton), NO_VIDEO)
    fitted = fit(clip.video.size, options.short_side, options.resize)
    video = encode(clip.video.frames(fitted.inner), fitted, gop=options.gop, quality=options.quality)
    _check_lengths(ref, len(video.packets), len(clip.xyz))
    return make_row(clip, video, None if clip.pixels is None else fitted.stored_pixels(clip.pixels))


def _checked(clip: RawClip, reader: Reader, ref: ClipRef) -> RawClip:
    """Return a clip with bodies that are zero marked as untracked; refuse what no store can hold, whoever read it."""
    file, joints = str(ref.skeleton), len(reader.layout.joints)
    if isinstance(clip.label, bool) or not isinstance(clip.label, int | np.integer):
        raise BadClip(file, f"label {str(clip.label)[:60]!r} is not a whole number")
    if not 0 <= clip.label < len(reader.classes):
        raise BadClip(file, f"label {clip.label}, counted from 0, is none of the set's {len(reader.classes)} classes")
    shape = clip.xyz.shape
    if len(shape) != 4 or shape[2:] != (joints, 3) or not shape[0] or not 1 <= shape[1] <= reader.persons:  # T, M, V, 3
        raise BadClip(file, f"expected joints of shape (T, 1 to {reader.persons}, {joints}, 3), found {shape}")
    if clip.valid.shape != shape[:2] or (clip.pixels is not None and clip.pixels.shape != (*shape[:3], 2)):
        raise BadClip(file, f"joints of shape {shape} do not fit the shapes of valid and pixels")
    xyz = to_float32(clip.xyz)
    if not np.isfinite(xyz).all():
        raise BadClip(file, "a joint is not a finite number")
    valid = clip.valid & tracked_frames(xyz, file)
    if not valid.any():
        raise no_body(file, shape[0])
    if clip.name != ref.name:
        raise BadClip(file, f"the clip is listed as {ref.name!r}, but its reader calls it {clip.name!r}")
    return replace(clip, valid=valid)


def _check_lengths(ref: ClipRef, video: int, skeleton: int) -> None:
    """Refuse a clip whose numbers of video and skeleton frames differ too much, see :data:`LENGTH_TOLERANCE`."""
    if abs(video - skeleton) > LENGTH_TOLERANCE + LENGTH_TOLERANCE_SHARE * skeleton:
        raise BadClip(
            str(ref.video), f"the video has {video} frames and the skeleton {skeleton}: one of them is incomplete"
        )


def _table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)
