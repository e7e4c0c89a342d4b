"""Readers of published formats, by name. The synthetic set is written in NTU's formats and read as ``ntu``."""

from coablate_platform.data.formats.clip import Reader
from coablate_platform.data.formats.ntu import Ntu
from coablate_platform.data.formats.nw_ucla import NwUcla
from coablate_platform.data.formats.utd_mhad import UtdMhad

READERS: dict[str, Reader] = {reader.name: reader for reader in (Ntu(), UtdMhad(), NwUcla())}
