"""Files and locks: storage by URI, atomic writes, lock files, the state that stays on this machine."""

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import fs

from coablate_platform.study.errors import InputError, first_line

STATE = "COABLATE_STATE"
"""Environment variable with the folder for the state of results folders that are not on a local disk."""
_OBJECT_STORAGE = ("s3", "gcs", "abfs")  # type names of pyarrow's file systems
_ONE_PUT = "allow_delayed_open=true"  # S3: one request for a small file, instead of an upload in parts


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
    options = f"{'&' if '?' in uri else '?'}{_ONE_PUT}" if uri.startswith("s3://") else ""
    try:
        filesystem, path = fs.FileSystem.from_uri(f"{uri}{options}")
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = first_line(error).replace(options, "")
        raise InputError(f"{uri}: this storage cannot be opened ({reason})") from None
    return filesystem, path.rstrip("/")


def local_path(uri: str) -> Path | None:
    """Return the path of a URI on the local disk, or None if it is elsewhere.

    Raises:
        InputError: the scheme is unknown, or the storage cannot be reached.
    """
    filesystem, path = filesystem_of(uri)
    return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else None


def is_object_storage(filesystem: fs.FileSystem) -> bool:
    """Return whether a file system is object storage: a file appears whole when its upload ends, and has no folder."""
    return filesystem.type_name in _OBJECT_STORAGE


def state_folder(uri: str) -> Path:
    """Return this machine's folder for what belongs to a folder elsewhere and needs a local disk; make it.

    It is below the folder that ``COABLATE_STATE`` names, else below ``coablate`` in the user's state directory
    (``XDG_STATE_HOME``, else ``~/.local/state``). Its name has the end of the URI and a digest of it.

    Args:
        uri: URI of a folder that is not on a local disk.

    Raises:
        InputError: it cannot be made.
    """
    own = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    base = Path(os.environ.get(STATE) or f"{own}/coablate").expanduser().absolute()
    uri = uri.rstrip("/")
    readable = re.sub(r"[^\w.]+", "-", uri.partition("://")[2].partition("?")[0])[-60:].strip("-")
    folder = base / f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"state folder {folder}: cannot be made ({error.strerror}); set {STATE} to a folder") from None
    return folder


def local_copy(uri: str) -> Path:
    """Return a local folder with the files of a folder: itself if it is local, else a copy among this machine's state.

    Args:
        uri: path or URI of a folder whose files do not change, for example because its name is a digest of them.

    Raises:
        InputError: the storage cannot be reached, or the copy cannot be made.
        OSError: a file cannot be read or written.
    """
    if (local := local_path(uri)) is not None:
        return local
    (filesystem, root), copy = filesystem_of(uri), state_folder(uri)
    for info in filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True)):
        name = info.path[len(root) + 1 :]
        target = copy / name
        there = target.is_file() and target.stat().st_size == info.size
        if info.type is fs.FileType.File and ".." not in name.split("/") and not there:
            with filesystem.open_input_stream(info.path) as stream:
                write_atomically(fs.LocalFileSystem(), str(target), stream.read())
    return copy


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

    In object storage a put is atomic and there are no folders, so the file is put under its name at once. Elsewhere it
    is written under another name and moved.

    Args:
        filesystem: the file system, local or remote.
        path: the path on it.
        content: the whole content.

    Raises:
        OSError: the file cannot be written; the former file is intact.
    """
    if is_object_storage(filesystem):
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)
        return
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
