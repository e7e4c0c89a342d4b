"""Finds and reads files in folders and zip archives."""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from coablate_platform.data.formats.clip import NO_SKELETON, NO_VIDEO, BadClip, ClipRef, FileRef
from coablate_platform.study.errors import InputError

_LAST_PART = re.compile(r"[^/\\]*\Z")
"""The file name at the end of a path. Archives made by old .NET separate folders by backslashes."""


def walk(path: str) -> Iterator[tuple[str, FileRef]]:
    """Yield (file name, reference) of every file under a folder and inside its zip archives, or of one archive.

    Links are followed. A folder that several links lead to is read once; a link to a folder above the path is a circle
    and is not followed.

    Raises:
        InputError: the path does not exist, a folder cannot be read, or an archive is damaged.
    """
    try:
        is_folder = stat.S_ISDIR(Path(path).stat().st_mode)
        above = {_identity(folder) for folder in Path(path).resolve().parents}
    except OSError as error:
        raise InputError(f"{path}: no such file or folder ({error.strerror})") from None
    for file in _files_below(path, above) if is_folder else [path]:
        if file.lower().endswith(".zip"):
            try:
                members = _archive(file, Path(file).stat().st_mtime_ns).namelist()
            except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
                raise InputError(f"{file}: not a readable zip archive ({error})") from None
            yield from ((_base_name(name), FileRef(uri=file, member=name)) for name in members)
        else:
            yield _base_name(file), FileRef(uri=file)


def _files_below(folder: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the paths of all files under a folder, sorted in each folder, without the folders in ``visited``."""
    try:
        identity = _identity(folder)
        if identity in visited:
            return
        visited.add(identity)
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: this folder cannot be read ({error.strerror}), so its clips would be lost; make it readable, "
            "or move it out of the input"
        ) from None
    for entry in entries:
        if _is_folder(entry):
            yield from _files_below(entry.path, visited)
        elif entry.is_symlink() or entry.is_file():  # not a pipe or socket, which would be waited for
            yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link that may be meant for one, such as that of an unmounted disk."""
    try:
        return entry.is_dir() or (not Path(entry.name).suffix and not Path(entry.path).exists())
    except OSError:  # a link to itself: whoever reads it as a file gets the reason
        return False


def _identity(path: str | Path) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _base_name(path: str) -> str:
    match = _LAST_PART.search(path)
    return match[0] if match else path


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """The file names of a data set's clips. Capitals and small letters are the same.

    Args:
        clip: pattern of a clip's name, with a group for each number in it.
        skeleton: pattern of what follows the clip's name in the name of its skeleton file.
        video: the same for its video file; None where the data set has no video.
        expected: the names in words, for error messages.
        upper: whether a clip's name is in capitals.
    """

    clip: str
    skeleton: str
    video: str | None = None
    expected: str
    upper: bool = False

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return the numbers in a clip's name.

        Raises:
            ValueError: it is not the name of a clip.
        """
        match = re.fullmatch(self.clip, name, re.IGNORECASE | re.ASCII)
        if match is None:
            raise ValueError(f"{name} is not the name of a clip")
        return tuple(int(number) for number in match.groups())

    def find(self, path: str) -> tuple[dict[str, FileRef], dict[str, FileRef]]:
        """Return the skeleton files and the video files under a path, each by the name of its clip.

        Raises:
            InputError: the path or a folder in it cannot be read, an archive is damaged, or a clip has two files.
        """
        kinds = [self.skeleton] if self.video is None else [self.skeleton, self.video]
        patterns = [re.compile(f"({self.clip}){kind}", re.IGNORECASE | re.ASCII) for kind in kinds]
        found: tuple[dict[str, FileRef], dict[str, FileRef]] = ({}, {})
        for name, file in walk(path):
            for pattern, files in zip(patterns, found, strict=False):
                if match := pattern.fullmatch(name):
                    clip = match[1].upper() if self.upper else match[1].lower()
                    add_once(files, clip, file, path)
        return found

    def clips(self, path: str) -> list[ClipRef]:
        """Return the clips under a path that have a skeleton file, sorted by the numbers in their names.

        Raises:
            InputError: there is no clip, or :meth:`find` raises it.
        """
        skeletons, videos = self.find(path)
        if not skeletons:
            raise InputError(f"{path}: no clip found; expected {self.expected}")
        names = sorted(skeletons, key=self.numbers)
        return [ClipRef(name=name, skeleton=skeletons[name], video=videos.get(name)) for name in names]

    def unpaired(self, path: str) -> dict[str, str]:
        """Return the videos without a skeleton and, where any clip has a video, the skeletons without one.

        Returns:
            :data:`NO_SKELETON` or :data:`NO_VIDEO` by the clip's name, sorted by the numbers in the names.

        Raises:
            InputError: as :meth:`find` does.
        """
        lost = unpaired(*self.find(path))
        return {name: lost[name] for name in sorted(lost, key=self.numbers)}


def add_once(files: dict[str, FileRef], clip: str, file: FileRef, path: str) -> None:
    """Add a clip's file to the files of its kind.

    Args:
        files: the files by clip.
        clip: name of the clip, or of a list of clips.
        file: its file.
        path: the input in the error message.

    Raises:
        InputError: the clip has another file there.
    """
    if clip in files and not _is_same(files[clip], file):
        raise InputError(f"{path}: clip {clip} appears twice: {files[clip]} and {file}")
    files.setdefault(clip, file)


def unpaired(skeletons: Mapping[str, FileRef], videos: Mapping[str, FileRef]) -> dict[str, str]:
    """Return :data:`NO_SKELETON` or :data:`NO_VIDEO` by clip, from the skeleton and the video files by clip.

    Videos without a skeleton count and, where any clip has both, skeletons without a video.
    """
    lost = dict.fromkeys(videos.keys() - skeletons.keys(), NO_SKELETON)
    if skeletons.keys() & videos.keys():
        lost |= dict.fromkeys(skeletons.keys() - videos.keys(), NO_VIDEO)
    return lost


def parts_of(file: FileRef) -> list[str]:
    """Return the folders above a file, the highest first, and its name; those in its archive where it is in one."""
    return re.split(r"[/\\]", file.uri if file.member is None else file.member)


def _is_same(first: FileRef, second: FileRef) -> bool:
    """Return whether two references lead to one file through different links."""
    try:
        return first.member == second.member and Path(first.uri).samefile(second.uri)
    except OSError:
        return False


def read_text(file: FileRef) -> str:
    """Read a text file on which the whole data set depends, such as a list of clips.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_bytes(file).decode(errors="replace")
    except BadClip as error:
        raise InputError(f"{error}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None


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
