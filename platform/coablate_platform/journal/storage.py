"""A folder on a local disk or in object storage. Its files are written atomically."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from coablate_platform.files import filesystem_of, write_atomically


@dataclass(frozen=True)
class Folder:
    """A folder; all file names are relative to it. Picklable: it holds its address only.

    Args:
        uri: any URI that ``pyarrow.fs`` opens, or a local path. A relative path is made absolute, since workers run in
            other working directories.
    """

    uri: str

    def __post_init__(self) -> None:
        if "://" not in self.uri:
            object.__setattr__(self, "uri", str(Path(self.uri).expanduser().absolute()))

    @property
    def local(self) -> Path | None:
        """The folder's path on the local disk, or None if it is elsewhere."""
        filesystem, path = filesystem_of(self.uri)
        return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically: readers see the old file until the new one is complete.

        Raises:
            OSError: the storage refused (full, read-only, out of reach); the old file is intact.
        """
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

    def delete(self, name: str) -> bool:
        """Delete a file, and return whether there was one."""
        filesystem, root = filesystem_of(self.uri)
        try:
            filesystem.delete_file(f"{root}/{name}")
        except FileNotFoundError:
            return False
        return True

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
