"""A folder on a local disk or in object storage. Its files are written atomically."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from coablate_platform.files import filesystem_of, local_path, state_folder, write_atomically

_READS = 3  # of a file that is written while it is read
Value = TypeVar("Value")


def unchecked() -> None:
    """Let every write pass."""


@dataclass(frozen=True)
class Folder:
    """A folder; all file names are relative to it. What is pickled of it is its address.

    Args:
        uri: any URI that ``pyarrow.fs`` opens, or a local path. A relative path is made absolute, since workers run in
            other working directories.
        check_write: called before each write and deletion in this process; an error prevents it.
    """

    uri: str
    check_write: Callable[[], None] = field(default=unchecked, compare=False, repr=False)

    def __post_init__(self) -> None:
        absolute = self.uri.rstrip("/") if "://" in self.uri else str(Path(self.uri).expanduser().resolve())
        object.__setattr__(self, "uri", absolute)

    def __reduce__(self) -> tuple[type["Folder"], tuple[str]]:
        return Folder, (self.uri,)

    @property
    def local(self) -> Path | None:
        """The folder's path on the local disk, or None if it is elsewhere."""
        return local_path(self.uri)

    @property
    def state(self) -> Path:
        """Local folder for databases and logs, which follow from the files: itself, or of this machine's state."""
        return self.local or state_folder(self.uri)

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically: readers see the old file until the new one is complete.

        Raises:
            OSError: the storage refused (full, read-only, out of reach); the old file is intact.
        """
        self.check_write()
        filesystem, root = filesystem_of(self.uri)
        write_atomically(filesystem, f"{root}/{name}", content)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is no such file."""
        filesystem, root = filesystem_of(self.uri)
        try:
            with filesystem.open_input_stream(f"{root}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def read_as(self, parse: Callable[[bytes], Value], name: str) -> Value | None:
        """Return a file's content as ``parse`` returns it, or None if there is no such file.

        Storage that is not a local disk tells a file's length before it gives the content. Of a file that grows between
        the two, the end is missing. It is therefore read again where it cannot be parsed.

        Raises:
            Exception: what ``parse`` raises: the file is damaged.
        """
        for reads_left in reversed(range(1 if self.local else _READS)):
            content = self.read(name)
            try:
                return None if content is None else parse(content)
            except Exception:
                if not reads_left:
                    raise
        return None

    def delete(self, name: str) -> bool:
        """Delete a file, and return whether there was one."""
        self.check_write()
        filesystem, root = filesystem_of(self.uri)
        try:
            filesystem.delete_file(f"{root}/{name}")
        except FileNotFoundError:
            return False
        return True

    def folders(self, name: str) -> set[str]:
        """Return the names of the folders directly below a subfolder. Costs one request."""
        filesystem, root = filesystem_of(self.uri)
        infos = filesystem.get_file_info(fs.FileSelector(f"{root}/{name}", allow_not_found=True))
        return {info.base_name for info in infos if info.type is fs.FileType.Directory}

    def stamps(self, name: str) -> dict[str, tuple[int, int]]:
        """List the files below a subfolder, with stamps that change when a file is written. Costs one request.

        Returns:
            Path relative to the subfolder -> (modification time in ns, size in bytes). Files that are still being
            written are left out.
        """
        filesystem, root = filesystem_of(self.uri)
        base = f"{root}/{name}/"
        infos = filesystem.get_file_info(fs.FileSelector(base.rstrip("/"), allow_not_found=True, recursive=True))
        return {
            info.path[len(base) :]: (info.mtime_ns or 0, info.size)
            for info in infos
            if info.type is fs.FileType.File and not info.base_name.startswith(".")
        }


def to_arrow(table: pa.Table) -> bytes:
    """Return the content of an Arrow file that holds a table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def arrow_table(content: bytes) -> pa.Table:
    """Return the table of an Arrow file.

    Raises:
        ArrowException, OSError: the file is damaged.
    """
    return pa.ipc.open_file(content).read_all()
