"""A folder on a local disk or on object storage, whose files appear whole or not at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from coablate_platform.files import filesystem_of, write_atomically


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
        filesystem, path = filesystem_of(self.uri)
        return Path(path) if isinstance(filesystem, fs.LocalFileSystem) else None

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place atomically; the former one stays until the new one is whole.

        Raises:
            OSError: the storage refused (full, read-only, out of reach); the former file is intact.
        """
        filesystem, root = filesystem_of(self.uri)
        write_atomically(filesystem, f"{root}/{name}", content)

    def read(self, name: str) -> bytes | None:
        """Return the file's content, or None where there is no such file."""
        filesystem, root = filesystem_of(self.uri)
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
        filesystem, root = filesystem_of(self.uri)
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
