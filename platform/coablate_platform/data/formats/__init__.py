"""Finds readers by name or reference. The synthetic set is written in NTU's formats and read as ``ntu``."""

from coablate_platform.data.formats.clip import Reader
from coablate_platform.data.formats.jhmdb import Jhmdb
from coablate_platform.data.formats.ntu import Ntu
from coablate_platform.data.formats.nw_ucla import NwUcla
from coablate_platform.data.formats.pku_mmd import PkuMmd
from coablate_platform.data.formats.utd_mhad import UtdMhad
from coablate_platform.study.extensions import Kind, load_object, missing_attributes

READERS: dict[str, Reader] = {reader.name: reader for reader in (Ntu(), UtdMhad(), NwUcla(), Jhmdb(), PkuMmd())}
_MEMBERS = (
    *("name", "layout", "persons", "classes", "default_protocol", "has_video", "reading"),
    *("at", "list_clips", "missing", "read"),
)
READER_KIND = Kind(
    label="reader",
    unknown_prefix="there is no data source",
    group="coablate.readers",
    expected="reader",
    mismatch=lambda value: missing_attributes(value, _MEMBERS),
    instantiate=True,
)


def get_reader(reference: str) -> Reader:
    """Return the reader with a name or reference.

    Args:
        reference: a built-in or registered name, ``module:Name`` or ``file.py:Name``.

    Raises:
        InputError: there is no such reader, or the object lacks a member of a reader.
    """
    reader: Reader = READERS.get(reference) or load_object(reference, READER_KIND, READERS).value
    return reader
