"""Unpacks a store's shards into Arrow files, once per node, and maps them: processes share one copy in memory."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from coablate_platform.data.schema import FORMAT, INDEX, METADATA, SCHEMA, SHARDS, fingerprint
from coablate_platform.files import locked, replacing, write_atomically
from coablate_platform.study.errors import InputError, first_line

MAPPED = ".mapped"
_BATCH_ROWS = 64  # clips per record batch: bounds the memory that unpacking needs
_DONE = "complete.json"


def map_shards(filesystem: fs.FileSystem, root: str, uri: str, expected: str) -> list[pa.RecordBatch]:
    """Return all rows of a store as record batches whose buffers are memory-mapped files.

    The first process on a node unpacks the shards; others wait for it, and later ones find the files complete.

    Args:
        filesystem: the store's file system.
        root: the store's path on it.
        uri: the store's name in error messages.
        expected: the store's fingerprint, which also names the folder of the unpacked files.

    Raises:
        InputError: a shard is damaged or missing, or the node has no place for the unpacked files.
    """
    folder = _cache_folder(filesystem, root) / expected
    _make_folder(folder)
    if not (folder / _DONE).exists():
        with locked(folder / "lock", wait=True):
            if not (folder / _DONE).exists():
                _unpack(filesystem, root, uri, expected, folder)
    names = json.loads((folder / _DONE).read_text())
    return [batch for name in names for batch in _read_mapped(folder / name)]


def _unpack(filesystem: fs.FileSystem, root: str, uri: str, expected: str, folder: Path) -> None:
    """Unpack every shard, then write the list of unpacked files; files of an interrupted attempt are overwritten."""
    names, digests, unpacked = [], [], []
    for path in list_shards(filesystem, root):
        target = folder / f"{Path(path).stem}.arrow"
        _unpack_shard(filesystem, path, target)
        unpacked.append(target.name)
        for batch in _read_mapped(target):
            names += batch["name"].to_pylist()
            digests += batch["digest"].to_pylist()
    if fingerprint(names, digests) != expected:
        raise InputError(
            f"{uri}: the {len(names)} clips in {SHARDS}/ do not match the fingerprint in {METADATA}; "
            "run `coablate data prepare` again"
        )
    write_atomically(fs.LocalFileSystem(), str(folder / _DONE), json.dumps(unpacked).encode())


def _unpack_shard(filesystem: fs.FileSystem, path: str, target: Path) -> None:
    try:
        with (
            replacing(target, durable=False) as partial,
            filesystem.open_input_file(path) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as shard,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, SCHEMA) as writer,
        ):
            for batch in shard.iter_batches(batch_size=_BATCH_ROWS, columns=SCHEMA.names):
                writer.write_batch(batch.cast(SCHEMA))
    except (pa.ArrowException, OSError, ValueError) as error:
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


def index_of(batches: list[pa.RecordBatch]) -> pa.Table:
    """Return the index of a store: its small columns, sorted by name, and each clip's ``batch`` and ``row`` in it."""
    parts = [
        batch.select(INDEX)
        .append_column("batch", pa.array([number] * batch.num_rows, pa.int32()))
        .append_column("row", pa.array(range(batch.num_rows), pa.int32()))
        for number, batch in enumerate(batches)
    ]
    return pa.Table.from_batches(parts).sort_by("name").combine_chunks()


def _cache_folder(filesystem: fs.FileSystem, root: str) -> Path:
    """Return the folder for unpacked files: in the store where it is local and writable, else among temporary files."""
    if isinstance(filesystem, fs.LocalFileSystem) and os.access(root, os.W_OK):
        return Path(root) / MAPPED
    return Path(tempfile.gettempdir()) / f"coablate-{os.getuid()}-format{FORMAT}"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"{folder}: the store cannot be unpacked here ({error.strerror})") from error
