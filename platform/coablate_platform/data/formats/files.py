"""Files in folders and zip archives, found and read alike."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from coablate_platform.data.formats.clip import BadClip, FileRef
from coablate_platform.study.errors import InputError


def walk(path: str) -> Iterator[tuple[str, FileRef]]:
    """Yield (file name, reference) of every file under a folder and inside its zip archives, or of one archive.

    Raises:
        InputError: the path does not exist, or an archive is damaged.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"{path}: no such file or folder")
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        if file.suffix.lower() == ".zip":
            try:
                members = _archive(str(file), file.stat().st_mtime_ns).namelist()
            except (zipfile.BadZipFile, OSError) as error:
                raise InputError(f"{file}: not a readable zip archive ({error})") from None
            yield from ((name.rsplit("/", 1)[-1], FileRef(uri=str(file), member=name)) for name in members)
        else:
            yield file.name, FileRef(uri=str(file))


def pair(
    path: str, samples: re.Pattern[str], suffixes: tuple[str, str]
) -> tuple[dict[str, FileRef], dict[str, FileRef]]:
    """Return the skeletons and the videos under a path by the name of their sample.

    Args:
        path: see :func:`walk`.
        samples: what a sample's name looks like.
        suffixes: what follows it in the name of the skeleton's and of the video's file.

    Raises:
        InputError: the path does not exist, an archive is damaged, or a file is there twice.
    """
    found: tuple[dict[str, FileRef], dict[str, FileRef]] = ({}, {})
    for name, file in walk(path):
        for suffix, files in zip(suffixes, found, strict=True):
            sample = name.removesuffix(suffix)
            if sample != name and samples.fullmatch(sample):
                if sample in files:
                    raise InputError(f"{path}: clip {sample} is there twice: {files[sample]} and {file}")
                files[sample] = file
    return found


def read_bytes(file: FileRef) -> bytes:
    """Return the content of a file.

    Raises:
        BadClip: it is gone, or its archive is damaged.
        OSError: the system did not hand it over, which says nothing of the file: permission, network, open files.
    """
    path = Path(file.uri)
    try:
        if file.member is None:
            return path.read_bytes()
        return _archive(file.uri, path.stat().st_mtime_ns).read(file.member)
    except FileNotFoundError:
        raise BadClip(str(file), "the file is gone") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise BadClip(str(file), f"cannot be read: {error}") from None


class Measure(NamedTuple):
    """What tells a changed file.

    Args:
        size: in bytes.
        checksum: CRC-32 of its content; None where the content was not read.
        modified: time of its last change in nanoseconds; None in an archive, which knows the checksum.
    """

    size: int
    checksum: int | None = None
    modified: int | None = None


def measure(file: FileRef, before: Measure | None = None) -> Measure:
    """Return what the file measures; its content is read unless size and time tell how it stands to ``before``.

    Raises:
        OSError, KeyError, zipfile.BadZipFile: it is not there any more.
        BadClip: it went while it was read.
    """
    status = Path(file.uri).stat()
    if file.member is not None:
        member = _archive(file.uri, status.st_mtime_ns).getinfo(file.member)
        return Measure(member.file_size, member.CRC)
    if before is not None and before.size != status.st_size:
        return Measure(status.st_size)
    if before is not None and before.modified == status.st_mtime_ns:
        return before
    return Measure(status.st_size, zlib.crc32(read_bytes(file)), status.st_mtime_ns)


@lru_cache(maxsize=4)
def _archive(path: str, modified: int) -> zipfile.ZipFile:
    """Open an archive once a process: the directory of one with 57,000 members takes longer to read than a clip."""
    return zipfile.ZipFile(path)
