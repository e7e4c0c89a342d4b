"""Unpacks a store's shards into Arrow files, once per node, and maps them: processes share one copy in memory."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from coablate_platform.data.cache import DISK_FULL, cache_folder, is_intact, is_unchanged, record
from coablate_platform.data.rows import check_rows
from coablate_platform.data.schema import FINGERPRINT, INDEX, METADATA, SCHEMA, SHARDS, StoreMetadata, fingerprint
from coablate_platform.files import locked, replacing
from coablate_platform.study.errors import InputError, first_line

MAPPED = ".mapped"
_BATCH_ROWS = 64  # clips per record batch: bounds the memory that unpacking needs
_LOCK = "lock"


def map_shards(filesystem: fs.FileSystem, root: str, uri: str, metadata: StoreMetadata) -> list[pa.RecordBatch]:
    """Return all rows of a store as record batches whose buffers are memory-mapped files.

    The first process on a node unpacks the shards; others wait for it, and later ones find the files complete. Files
    that were changed or cut off since are unpacked anew.

    Args:
        filesystem: the store's file system.
        root: the store's path on it.
        uri: the store's name in error messages.
        metadata: the store's metadata; its fingerprint names the folder of the unpacked files.

    Raises:
        InputError: a shard is damaged or missing, or the node has no place for the unpacked files.
    """
    local = Path(root) / MAPPED if isinstance(filesystem, fs.LocalFileSystem) else None
    folder = cache_folder(local, str(metadata.fingerprint))
    try:
        names = is_unchanged(folder)
        if names is None:
            with locked(folder / _LOCK, wait=True):
                names = is_intact(folder) or _unpack(filesystem, root, uri, metadata, folder)
        return [batch for name in names for batch in _read_mapped(folder / name)]
    except OSError as error:
        raise InputError(f"{folder}: the store cannot be unpacked here ({error.strerror or error})") from error


def _unpack(filesystem: fs.FileSystem, root: str, uri: str, metadata: StoreMetadata, folder: Path) -> list[str]:
    """Unpack every shard, and return the names of the unpacked files; after an error no file is left."""
    try:
        _clear(folder)  # what a killed process left, or files that are damaged
        names, digests, unpacked = [], [], []
        for path in list_shards(filesystem, root):
            target = folder / f"{Path(path).stem}.arrow"
            _unpack_shard(filesystem, path, target, metadata)
            unpacked.append(target.name)
            for batch in _read_mapped(target):
                names += batch["name"].to_pylist()
                digests += batch["digest"].to_pylist()
        if not names or fingerprint(names, digests) != metadata.fingerprint:
            raise InputError(
                f"{uri}: the {len(names)} clips in {SHARDS}/ do not match the fingerprint in {METADATA}; "
                "run `coablate data prepare` again"
            )
        record(folder, unpacked)
    except BaseException:
        _clear(folder)
        raise
    return unpacked


def _clear(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name != _LOCK:
            with contextlib.suppress(OSError):
                file.unlink()


def _unpack_shard(filesystem: fs.FileSystem, path: str, target: Path, metadata: StoreMetadata) -> None:
    try:
        with (
            replacing(target, durable=False) as partial,
            filesystem.open_input_file(path) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as shard,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, SCHEMA) as writer,
        ):
            for batch in shard.iter_batches(batch_size=_BATCH_ROWS, columns=SCHEMA.names):
                rows = batch.cast(SCHEMA)
                check_rows(rows, metadata)
                writer.write_batch(rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise InputError(
                f"{target.parent}: there is no room to unpack the store here ({error.strerror or first_line(error)})"
            ) from error
        raise InputError(
            f"{path}: the shard cannot be unpacked to {target.parent} ({first_line(error)}); if it is "
            "damaged, delete it and run `coablate data prepare` again"
        ) from error


def _read_mapped(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def list_shards(filesystem: fs.FileSystem, root: str) -> list[str]:
    """Return the paths of a store's Parquet files, sorted."""
    found = filesystem.get_file_info(fs.FileSelector(f"{root}/{SHARDS}", allow_not_found=True))
    return sorted(info.path for info in found if info.path.endswith(".parquet"))


def remove_unpacked(store: Path, keep: str) -> None:
    """Remove what was unpacked in a store from former content.

    Args:
        store: folder of the store.
        keep: fingerprint of the present content.
    """
    for folder in (store / MAPPED).glob("*"):
        if folder.name != keep and FINGERPRINT.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def index_of(batches: list[pa.RecordBatch]) -> pa.Table:
    """Return the index of a store: its small columns, sorted by name, and each clip's ``batch`` and ``row`` in it."""
    parts = [
        batch.select(INDEX)
        .append_column("batch", pa.array([number] * batch.num_rows, pa.int32()))
        .append_column("row", pa.array(range(batch.num_rows), pa.int32()))
        for number, batch in enumerate(batches)
    ]
    return pa.Table.from_batches(parts).sort_by("name").combine_chunks()
