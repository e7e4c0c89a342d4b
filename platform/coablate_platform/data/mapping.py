"""Unpacks a store's shards into memory-mapped Arrow files, once a node: every process there reads the same pages."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from coablate_platform.data.schema import FORMAT, INDEX, SCHEMA, SHARDS, fingerprint
from coablate_platform.files import locked, replacing, write_atomically
from coablate_platform.study.errors import InputError

MAPPED = ".mapped"
_ROWS = 64  # clips a record batch: bounds the memory of unpacking
_DONE = "complete.json"


def map_shards(files: fs.FileSystem, root: str, uri: str, expected: str) -> list[pa.RecordBatch]:
    """Return all rows of a store as record batches whose buffers are mapped files.

    Args:
        files: where the store lies.
        root: its path there.
        uri: its name in messages.
        expected: the store's fingerprint; the mapped files lie in a folder of that name.

    Raises:
        InputError: a shard is damaged or missing, or none lies there.
    """
    folder = _cache(files, root) / expected
    _make(folder)
    if not (folder / _DONE).exists():
        with locked(folder / "lock", wait=True):
            if not (folder / _DONE).exists():
                _unpack(files, root, uri, expected, folder)
    names = json.loads((folder / _DONE).read_text())
    return [batch for name in names for batch in _mapped(folder / name)]


def _unpack(files: fs.FileSystem, root: str, uri: str, expected: str, folder: Path) -> None:
    """Unpack every shard, then write the list of them; what an earlier attempt left half done is overwritten."""
    names, digests, mapped = [], [], []
    for path in list_shards(files, root):
        target = folder / f"{Path(path).stem}.arrow"
        _unpack_shard(files, path, target)
        mapped.append(target.name)
        for batch in _mapped(target):
            names += batch["name"].to_pylist()
            digests += batch["digest"].to_pylist()
    if fingerprint(names, digests) != expected:
        raise InputError(
            f"{uri}: the {len(names)} clips in {SHARDS}/ are not those that the store was finished with; "
            "run `coablate data prepare` again"
        )
    write_atomically(fs.LocalFileSystem(), str(folder / _DONE), json.dumps(mapped).encode())


def _unpack_shard(files: fs.FileSystem, path: str, target: Path) -> None:
    try:
        with (
            replacing(target, durable=False) as partial,
            files.open_input_file(path) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as shard,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, SCHEMA) as writer,
        ):
            for batch in shard.iter_batches(batch_size=_ROWS, columns=SCHEMA.names):
                writer.write_batch(batch.cast(SCHEMA))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: the shard cannot be unpacked to {target.parent} ({str(error).splitlines()[0]}); if it is "
            "damaged, delete it and run `coablate data prepare` again"
        ) from error


def _mapped(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def list_shards(files: fs.FileSystem, root: str) -> list[str]:
    """Return the paths of a store's Parquet files, sorted."""
    found = files.get_file_info(fs.FileSelector(f"{root}/{SHARDS}", allow_not_found=True))
    return sorted(info.path for info in found if info.path.endswith(".parquet"))


def index_of(batches: list[pa.RecordBatch]) -> pa.Table:
    """Return the light columns of all rows, sorted by name, with ``batch`` and ``row``: where the clip lies."""
    light = [
        batch.select(INDEX)
        .append_column("batch", pa.array([number] * batch.num_rows, pa.int32()))
        .append_column("row", pa.array(range(batch.num_rows), pa.int32()))
        for number, batch in enumerate(batches)
    ]
    return pa.Table.from_batches(light).sort_by("name").combine_chunks()


def _cache(files: fs.FileSystem, root: str) -> Path:
    """Return the folder for mapped files: in the store, or in the node's temporary folder where that cannot be."""
    if isinstance(files, fs.LocalFileSystem) and os.access(root, os.W_OK):
        return Path(root) / MAPPED
    return Path(tempfile.gettempdir()) / f"coablate-{os.getuid()}-format{FORMAT}"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise InputError(f"{folder}: no place to unpack the store ({error.strerror})") from error
