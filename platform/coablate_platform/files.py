"""Files and locks: storage by URI, atomic writes, lock files."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import fs

from coablate_platform.study.errors import InputError, first_line


@lru_cache(maxsize=64)
def filesystem_of(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a URI and the path on it.

    Args:
        uri: a local path, or any URI that ``pyarrow.fs`` opens.

    Raises:
        InputError: the scheme is unknown, or the storage cannot be reached.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), uri.rstrip("/") or "/"
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{uri}: this storage cannot be opened ({first_line(error)})") from None
    return filesystem, path.rstrip("/")


@contextlib.contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, and move that file to ``target`` when the block ends without an error.

    Readers see the former file or the new one, never a part of it. After an error the former file is intact, and the
    partial one is removed.

    Args:
        target: a local path; its folder exists.
        durable: also flush the file and its folder to the disk, so that the file survives a power cut.

    Raises:
        OSError: the file cannot be written.
    """
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield partial
        if durable:
            _flush(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        _flush(target.parent)


def write_atomically(filesystem: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file atomically; make its folder if it does not exist.

    Args:
        filesystem: the file system, local or remote.
        path: the path on it.
        content: the whole content.

    Raises:
        OSError: the file cannot be written; the former file is intact.
    """
    parent, _, name = path.rpartition("/")
    filesystem.create_dir(parent, recursive=True)
    if isinstance(filesystem, fs.LocalFileSystem):
        with replacing(Path(path)) as partial:
            partial.write_bytes(content)
        return
    partial_path = f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
    try:
        with filesystem.open_output_stream(partial_path) as stream:
            stream.write(content)
        filesystem.move(partial_path, path)
    except OSError:
        if filesystem.get_file_info(partial_path).type is not fs.FileType.NotFound:
            filesystem.delete_file(partial_path)
        raise


def flush_folder(filesystem: fs.FileSystem, path: str) -> None:
    """Flush a local folder to the disk, so that renamed files keep their names after a power cut."""
    if isinstance(filesystem, fs.LocalFileSystem):
        _flush(Path(path))


def exists(filesystem: fs.FileSystem, path: str) -> bool:
    """Return whether there is a file or a folder at a path."""
    return filesystem.get_file_info(path).type is not fs.FileType.NotFound


@contextlib.contextmanager
def locked(path: Path, *, wait: bool, taken: str = "") -> Iterator[None]:
    """Hold a lock file during the block. The system releases it if the process dies.

    Args:
        path: the lock file; its folder exists.
        wait: wait until the lock is free, instead of raising an error.
        taken: the error's message if another process holds the lock.

    Raises:
        InputError: another process holds the lock and ``wait`` is off, or the file system has no locks.
        OSError: the lock file cannot be made.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(taken) from None
    except OSError as error:
        if error.errno == errno.ENOLCK:
            raise InputError(f"{path.parent}: this file system has no locks ({error.strerror})") from None
        raise
    try:
        yield
    finally:
        lock.release()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
