"""Readers of published formats, by name. The synthetic set is written in NTU's formats and read as ``ntu``."""

from coablate_platform.data.formats.clip import Reader
from coablate_platform.data.formats.ntu import Ntu
from coablate_platform.data.formats.nw_ucla import NwUcla
from coablate_platform.data.formats.utd_mhad import UtdMhad
from coablate_platform.study.extensions import Kind, lacking, load_object

READERS: dict[str, Reader] = {reader.name: reader for reader in (Ntu(), UtdMhad(), NwUcla())}
_MEMBERS = (
    *("name", "layout", "persons", "classes", "default_protocol", "has_video", "reading"),
    *("at", "list_clips", "missing", "read"),
)
KIND = Kind(
    word="reader",
    unknown="there is no data source",
    group="coablate.readers",
    expected="reader",
    lacking=lambda value: lacking(value, _MEMBERS),
    classes=True,
)


def get_reader(reference: str) -> Reader:
    """Return a reader.

    Args:
        reference: Coablate's name, one that a package has registered, ``module:Name`` or ``file.py:Name``.

    Raises:
        InputError: there is none, or it lacks what a reader has.
    """
    reader: Reader = READERS.get(reference) or load_object(reference, KIND, READERS).value
    return reader
