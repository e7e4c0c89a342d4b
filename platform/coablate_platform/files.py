"""Files and locks for every room: storage by URI, writes that are whole or absent, one lock file a folder."""

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
    """Return the file system of a URI, and the path on it.

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
        raise InputError(f"{uri}: not a place that can be read ({first_line(error)})") from None
    return filesystem, path.rstrip("/")


@contextlib.contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, and move the file to ``target`` when the block ends without an error.

    Readers see the former file or the new one, never a part. After an error nothing is left behind.

    Args:
        target: a local path; its folder exists.
        durable: flush the file and its folder to the disk, so that it also survives a power cut.

    Raises:
        OSError: the disk refused; the former file is intact.
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
    """Write a file that readers see whole or not at all, and make its folder where it is missing.

    Raises:
        OSError: the storage refused; the former file is intact.
    """
    parent, _, name = path.rpartition("/")
    filesystem.create_dir(parent, recursive=True)
    if isinstance(filesystem, fs.LocalFileSystem):
        with replacing(Path(path)) as partial:
            partial.write_bytes(content)
        return
    aside = f"{parent}/.{name}.{uuid.uuid4().hex}.tmp"
    try:
        with filesystem.open_output_stream(aside) as stream:
            stream.write(content)
        filesystem.move(aside, path)
    except OSError:
        if filesystem.get_file_info(aside).type is not fs.FileType.NotFound:
            filesystem.delete_file(aside)
        raise


def exists(filesystem: fs.FileSystem, path: str) -> bool:
    """Return whether there is a file or a folder at a path."""
    return filesystem.get_file_info(path).type is not fs.FileType.NotFound


@contextlib.contextmanager
def locked(path: Path, *, wait: bool, taken: str = "") -> Iterator[None]:
    """Hold a lock file. The system releases it when the process dies.

    Args:
        path: the lock file; its folder exists.
        wait: wait until the lock is free.
        taken: what to tell the user where it is not free and ``wait`` is off.

    Raises:
        InputError: another process holds it and ``wait`` is off, or the file system has no locks.
        OSError: the file cannot be made.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(taken) from None
    except OSError as error:
        if error.errno == errno.ENOLCK:
            raise InputError(f"{path.parent}: cannot be locked here ({error.strerror})") from None
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
