"""A folder on a local disk or on object storage, whose files appear whole or not at all."""

import os
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from coablate_platform.study.errors import InputError


@lru_cache(maxsize=64)
def _open(uri: str) -> tuple[Any, str]:
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise InputError(f"storage {uri!r} cannot be opened: {error}") from None
    return filesystem, path.rstrip("/")


@dataclass(frozen=True)
class Folder:
    """One folder below which every path is relative. Picklable: it holds its address only.

    Args:
        uri: a local path (made absolute, for workers stand elsewhere) or any URI that ``pyarrow.fs`` opens.
    """

    uri: str

    def __post_init__(self) -> None:
        if "://" not in self.uri:
            object.__setattr__(self, "uri", str(Path(self.uri).expanduser().absolute()))

    @property
    def local(self) -> Path | None:
        """The folder on the local disk, or None where it is elsewhere."""
        filesystem, path = _open(self.uri)
        return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else None

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place atomically; the former one stays until the new one is whole.

        Raises:
            OSError: the storage refused (full, read-only, out of reach); the former file is intact.
        """
        filesystem, root = _open(self.uri)
        target = f"{root}/{name}"
        parent, _, base = target.rpartition("/")
        part = f"{parent}/.{base}.{uuid.uuid4().hex}.part"
        filesystem.create_dir(parent, recursive=True)
        try:
            if self.local is None:
                with filesystem.open_output_stream(part) as stream:
                    stream.write(content)
                filesystem.move(part, target)
            else:
                _write_durably(Path(part), Path(target), content)
        except OSError:
            if filesystem.get_file_info(part).type is not fs.FileType.NotFound:
                filesystem.delete_file(part)
            raise

    def read(self, name: str) -> bytes | None:
        """Return the file's content, or None where there is no such file."""
        filesystem, root = _open(self.uri)
        try:
            with filesystem.open_input_stream(f"{root}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def stamps(self, name: str) -> dict[str, tuple[int, int]]:
        """List the files below a subfolder in one request.

        Returns:
            Path relative to the subfolder -> (modification time in ns, size in bytes). Unfinished files are left
            out. A file that was written anew has another stamp.
        """
        filesystem, root = _open(self.uri)
        base = f"{root}/{name}/"
        found = filesystem.get_file_info(fs.FileSelector(base.rstrip("/"), allow_not_found=True, recursive=True))
        return {
            info.path[len(base) :]: (info.mtime_ns or 0, info.size)
            for info in found
            if info.type is fs.FileType.File and not info.base_name.startswith(".")
        }


def to_arrow(table: Any) -> bytes:
    """Return an Arrow table as the bytes of a file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def arrow_table(content: bytes) -> Any:
    """Return the Arrow table of a file's bytes.

    Raises:
        ArrowException, OSError: they are damaged.
    """
    return pa.ipc.open_file(content).read_all()


def _write_durably(part: Path, target: Path, content: bytes) -> None:
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
