"""Finds and reads files in folders and zip archives."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from coablate_platform.data.formats.clip import BadClip, ClipRef, FileRef
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


def find_pairs(
    path: str, pattern: re.Pattern[str], suffixes: tuple[str, str]
) -> tuple[dict[str, FileRef], dict[str, FileRef]]:
    """Return the skeleton files and the video files under a path, each by the name of its clip.

    Args:
        path: see :func:`walk`.
        pattern: pattern of a clip's name.
        suffixes: what follows the clip's name in the name of its skeleton file and of its video file.

    Raises:
        InputError: the path does not exist, an archive is damaged, or a clip appears twice.
    """
    found: tuple[dict[str, FileRef], dict[str, FileRef]] = ({}, {})
    for name, file in walk(path):
        for suffix, files in zip(suffixes, found, strict=True):
            clip = name.removesuffix(suffix)
            if clip != name and pattern.fullmatch(clip):
                if clip in files:
                    raise InputError(f"{path}: clip {clip} appears twice: {files[clip]} and {file}")
                files[clip] = file
    return found


def paired_clips(path: str, pattern: re.Pattern[str], suffixes: tuple[str, str], expected: str) -> list[ClipRef]:
    """Return the clips under a path that have a skeleton file, sorted by the numbers in their names.

    Args:
        path: see :func:`walk`.
        pattern: see :func:`find_pairs`.
        suffixes: see :func:`find_pairs`.
        expected: the names that are expected, for the error message.

    Raises:
        InputError: there is no clip, or one appears twice; the path does not exist, or an archive is damaged.
    """
    skeletons, videos = find_pairs(path, pattern, suffixes)
    if not skeletons:
        raise InputError(f"{path}: no clip found; expected {expected}")
    names = sorted(skeletons, key=lambda name: name_numbers(pattern, name))
    return [ClipRef(name=name, skeleton=skeletons[name], video=videos.get(name)) for name in names]


def name_numbers(pattern: re.Pattern[str], name: str) -> tuple[int, ...]:
    """Return the numbers in a clip's name: the groups of its pattern.

    Raises:
        ValueError: the name does not match the pattern.
    """
    match = pattern.fullmatch(name)
    if match is None:
        raise ValueError(f"{name} is not the name of a clip")
    return tuple(int(number) for number in match.groups())


def read_bytes(file: FileRef) -> bytes:
    """Read a file.

    Raises:
        BadClip: the file does not exist any more, or its archive is damaged.
        OSError: the system could not read it, through no fault of the file: permission, network, open files.
    """
    path = Path(file.uri)
    try:
        if file.member is None:
            return path.read_bytes()
        return _archive(file.uri, path.stat().st_mtime_ns).read(file.member)
    except FileNotFoundError:
        raise BadClip(str(file), "the file does not exist any more") from None
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise BadClip(str(file), f"cannot be read: {error}") from None


class FileFingerprint(NamedTuple):
    """The fingerprint of a file, by which a later preparation finds out whether the file has changed.

    Args:
        size: in bytes.
        checksum: CRC-32 of the content; None where the content was not read.
        modified: modification time in nanoseconds; None for a member of an archive, whose checksum is recorded there.
    """

    size: int
    checksum: int | None = None
    modified: int | None = None


def fingerprint_file(file: FileRef, before: FileFingerprint | None = None) -> FileFingerprint:
    """Return the fingerprint of a file.

    Where an earlier fingerprint is given, the content is read only if the sizes are equal and the times are not.

    Raises:
        OSError, KeyError, zipfile.BadZipFile: the file or the member does not exist any more.
        BadClip: the file was removed while it was read.
    """
    status = Path(file.uri).stat()
    if file.member is not None:
        member = _archive(file.uri, status.st_mtime_ns).getinfo(file.member)
        return FileFingerprint(member.file_size, member.CRC)
    if before is not None and before.size != status.st_size:
        return FileFingerprint(status.st_size)
    if before is not None and before.modified == status.st_mtime_ns:
        return before
    return FileFingerprint(status.st_size, zlib.crc32(read_bytes(file)), status.st_mtime_ns)


@lru_cache(maxsize=4)
def _archive(path: str, modified: int) -> zipfile.ZipFile:
    """Open an archive, once per process and modification time.

    Reading the directory of an archive with 57,000 members takes longer than reading a clip.
    """
    return zipfile.ZipFile(path)
