"""Keeps the unpacked files of a store: a folder that belongs to the user, and a record that tells damaged files.

The record holds the size, the CRC-32 and the change time of every file, taken when it was written. A file whose size
and change time are as recorded is believed. The system sets the change time at every write, and no program can set it
back. Any other file is read, and believed if its checksum is right.
"""

import contextlib
import errno
import json
import os
import stat
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

from pyarrow import fs

from coablate_platform.data.schema import FORMAT
from coablate_platform.files import write_atomically
from coablate_platform.study.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RECORD = "complete.json"
_BLOCK = 1 << 22  # bytes read at a time for a checksum
_TRIED = 100  # names of folders for temporary files; others may have taken some of them


class _FileState(NamedTuple):
    """Size in bytes, CRC-32 of the content, and time of the last change in nanoseconds."""

    size: int
    checksum: int
    changed: int


def cache_folder(local: Path | None, name: str) -> Path:
    """Return a folder for unpacked files that belongs to this user alone; make it if it does not exist.

    It is within the store where that is possible, else among the temporary files. There, other users can make folders
    of any name, so a folder is taken only if this user owns it and nobody else may enter.

    Args:
        local: the folder within the store; None if the store is not on a local file system.
        name: name of the folder of the unpacked files.

    Raises:
        InputError: no such folder can be made.
    """
    reason = f"{local} is not yours alone" if local is not None else ""
    if local is not None and os.access(local.parent, os.W_OK):
        try:
            local.mkdir(exist_ok=True)
            if _is_own(local / name):
                return local / name
        except OSError as error:
            reason = f"{local}: {error.strerror}"
    try:
        base = Path(tempfile.gettempdir()) / f"coablate-{os.geteuid()}-format{FORMAT}"
    except OSError as error:
        raise InputError(f"the store cannot be unpacked: there is no folder for temporary files ({error})") from None
    for number in range(_TRIED):
        shared = base if not number else base.with_name(f"{base.name}-{number}")
        try:
            if _is_own(shared) and _is_own(shared / name):
                return shared / name
        except OSError as error:
            reason = f"{shared}: {error.strerror}"
            break
    else:
        reason = f"{base} and all names like it belong to somebody else, or are open to others"
    raise InputError(f"the store cannot be unpacked ({reason}); set TMPDIR to a folder of your own")


def _is_own(folder: Path) -> bool:
    """Make a folder unless it exists; return whether it is a folder that this user alone may enter, not a link."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # an access list of the folder above may have added others
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def record(folder: Path, names: list[str]) -> None:
    """Write the record of a folder's complete files."""
    _write(folder, {name: _state_of(folder / name) for name in names})


def is_unchanged(folder: Path) -> list[str] | None:
    """Return the names of a folder's files if they are complete and as recorded, by size and change time; else None."""
    states = _read(folder)
    if states is None or any(_stat(folder / name) != (state.size, state.changed) for name, state in states.items()):
        return None
    return list(states)


def is_intact(folder: Path) -> list[str] | None:
    """Return the names of a folder's files if they are complete and have the recorded checksums, else None.

    Files with the right content are recorded with their present change times, so that they are not read again.
    """
    states = _read(folder)
    if states is None:
        return None
    try:
        found = {name: _state_of(folder / name) for name in states}
    except OSError:
        return None
    if any(found[name][:2] != state[:2] for name, state in states.items()):
        return None
    _write(folder, found)
    return list(found)


def _read(folder: Path) -> dict[str, _FileState] | None:
    """Return the recorded states by file name; None without a record of this form."""
    try:
        content = json.loads((folder / RECORD).read_text())
        return {str(name): _FileState(*map(int, state)) for name, state in content.items()} or None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def _write(folder: Path, states: dict[str, _FileState]) -> None:
    write_atomically(fs.LocalFileSystem(), str(folder / RECORD), json.dumps(states).encode())


def _stat(file: Path) -> tuple[int, int] | None:
    try:
        status = file.lstat()
    except OSError:
        return None
    return (status.st_size, status.st_ctime_ns) if stat.S_ISREG(status.st_mode) else None


def _state_of(file: Path) -> _FileState:
    """Return the state of a file, whose content is read.

    Raises:
        OSError: it cannot be read, or is a link.
    """
    checksum = 0
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as content:
        status = os.fstat(content.fileno())
        while block := content.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return _FileState(status.st_size, checksum, status.st_ctime_ns)
