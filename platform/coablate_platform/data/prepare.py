"""Makes a store from the published files of a data set; a later call resumes it or adds clips.

There is no journal: all state is in the store. A shard is complete or absent. It also lists its bad clips, which are
those that could not be prepared.

=========================================  ==============================================
state of the clip                          what :func:`prepare` does
=========================================  ==============================================
in no shard                                reads it and writes it into a shard
stored, its files are as they were         nothing
stored, its files have changed             refuses the input before anything is written
bad, its files are as they were            reports it again
bad, its files have changed                reads it again
bad, perhaps not because of its files      reads it again
bad, its files were removed                forgets it
=========================================  ==============================================

``store.json`` has no fingerprint from the first new shard until the end, and a store without one cannot be opened.
"""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyarrow import fs

from coablate_platform.data.formats import get_reader
from coablate_platform.data.formats.clip import NO_VIDEO, Reader
from coablate_platform.data.inputs import (
    check_files,
    clips_to_read,
    existing_path,
    list_input,
    stored_names,
    without_removed,
)
from coablate_platform.data.joints import LAYOUTS
from coablate_platform.data.mapping import list_shards, remove_unpacked
from coablate_platform.data.progress import ProgressCallback
from coablate_platform.data.protocols import PROTOCOLS, Protocol
from coablate_platform.data.schema import METADATA, SHARDS, StoreMetadata, fingerprint
from coablate_platform.data.shard import (
    DAMAGE,
    BadClipRecord,
    PrepareOptions,
    Shard,
    read_shard,
)
from coablate_platform.data.store import read_metadata
from coablate_platform.data.write_shards import write_shards
from coablate_platform.files import locked, write_atomically
from coablate_platform.study.errors import InputError, first_line
from coablate_platform.study.source import forget

REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """The outcome of a preparation. ``bad`` and ``missing`` also hold the clips of earlier calls for this store.

    Args:
        done: number of clips that this call added.
        skipped: number of clips of the input that were already in the store.
        bad: clips that could not be prepared; without those whose files were removed from the input.
        missing: clips that were left out without being read, with the reason: they are on the data set's own lists of
            unusable samples, have no skeleton, or have no video though others have one.
        lacks_video: whether the store has no video only because no clip of the input has one.
    """

    done: int
    skipped: int
    bad: list[BadClipRecord]
    missing: dict[str, str]
    lacks_video: bool = False

    @property
    def complete(self) -> bool:
        """Whether every clip was stored that the data set's own lists do not exclude."""
        return not self.bad and NO_VIDEO not in self.missing.values()


def prepare(
    source: str,
    input: Path,  # noqa: A002 - the command line's word
    store: Path,
    options: PrepareOptions,
    progress: ProgressCallback = lambda done, total: None,
    cpus: int | None = None,
) -> PrepareReport:
    """Add every clip under ``input`` to the store; a second call for the same input changes nothing.

    Args:
        source: name of the data set's format, or a reference to a reader of the user's own.
        input: folder or archive of the published files.
        store: folder of the store, new or existing. Several inputs may go into one store, such as the two parts of NTU
            RGB+D 120.
        options: the settings; an existing store must have the same ones.
        progress: called with the numbers of clips done and of clips to do, at first and after every shard.
        cpus: processor cores to use; None uses all, or those of the Ray cluster that this process has joined.

    Raises:
        InputError: the format is unknown, or the input has no clip of it; the store cannot be written, was made from
            another data set or with other settings; or the files of stored clips have changed.
    """
    forget()
    general = get_reader(source)
    path = str(existing_path(input, source))
    reader = general.at(path)
    refs, missing = list_input(reader, path, options)
    lacks_video = general.has_video and not reader.has_video and not options.skeleton_only
    with _locked_store(store):
        metadata = metadata_of(reader, options, store)
        shards = read_shards(store)
        check_files(store, refs, shards)
        before, todo = stored_names(shards), clips_to_read(refs, shards)
        requested = _requested_metadata(reader, options)
        if todo:
            metadata = _mark_unfinished(store, metadata, requested)
            write_shards(reader, todo, store, options, progress, cpus)
            shards = read_shards(store)
        after = stored_names(shards)
        if any(ref.name in after for ref in refs):
            metadata = metadata.with_longer_classes(requested)
        bad, missing = finish(store, metadata, without_removed(shards, refs, path), missing)
    skipped = sum(ref.name in before for ref in refs)
    done = len(after) - len(before)
    return PrepareReport(done=done, skipped=skipped, bad=bad, missing=missing, lacks_video=lacks_video)


@contextmanager
def _locked_store(store: Path) -> Iterator[None]:
    """Make the store's folder, and lock it against other preparations; a failure to write in the block is one line."""
    taken = f"{store}: another `coablate data prepare` is writing this store"
    lock = ExitStack()
    try:
        (store / SHARDS).mkdir(parents=True, exist_ok=True)
        lock.enter_context(locked(store / ".lock", wait=False, taken=taken))
    except OSError as error:
        raise InputError(f"{store}: the store cannot be written here ({error.strerror})") from None
    with lock:
        try:
            yield
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise InputError(f"{error.filename or store}: the store cannot be written ({reason})") from None


def metadata_of(reader: Reader, options: PrepareOptions, store: Path) -> StoreMetadata:
    """Return the metadata of a store; write ``store.json`` if the store is new.

    Raises:
        InputError: the store was made from another data set or with other settings.
    """
    requested = _requested_metadata(reader, options)
    existing = read_metadata(fs.LocalFileSystem(), str(store), str(store))
    if existing is None:
        _write(store / METADATA, requested.to_json())
        return requested
    if differences := "; ".join(existing.differences(requested)):
        raise InputError(
            f"{store}: this store was prepared with other settings ({differences}); use its settings or another folder"
        )
    return existing


def _requested_metadata(reader: Reader, options: PrepareOptions) -> StoreMetadata:
    """Return the metadata of a new store with these settings.

    Raises:
        InputError: the reader's own protocol cannot be remembered.
    """
    layout, protocol = reader.layout, reader.default_protocol
    if not isinstance(protocol, str):
        if PROTOCOLS.get(protocol.name, protocol) != protocol:
            raise InputError(f"reader {reader.name}: its protocol must not have the name {protocol.name!r} of ours")
        if type(protocol) is not Protocol:
            raise InputError(f"reader {reader.name}: a store can remember a Protocol, not a {type(protocol).__name__}")
    return StoreMetadata(
        source=reader.name,
        layout=layout.name,
        persons=reader.persons,
        classes=reader.classes,
        default_protocol=protocol if isinstance(protocol, str) else protocol.name,
        has_video=reader.has_video and not options.skeleton_only,
        recipe=options.recipe() | reader.reading,
        versions={name: importlib.metadata.version(name) for name in ("av", "numpy", "pyarrow")},
        joints=None if LAYOUTS.get(layout.name) == layout else layout.to_plain(),
        protocol=None if isinstance(protocol, str) else protocol.to_plain(),
    )


def _mark_unfinished(store: Path, metadata: StoreMetadata, requested: StoreMetadata) -> StoreMetadata:
    """Remove the fingerprint from ``store.json``, until :func:`finish` writes the new one.

    Raises:
        InputError: the store did not record all settings, so its clips may have been made with other ones.
    """
    if unrecorded := metadata.unrecorded(requested):
        raise InputError(
            f"{store}: an earlier version made this store and did not record {', '.join(unrecorded)}; it can be "
            "trained on, but clips cannot be added: prepare into a new store"
        )
    metadata = replace(metadata, fingerprint=None)
    _write_changed(store / METADATA, metadata.to_json())
    return metadata


def read_shards(store: Path) -> list[Shard]:
    """Read what all shards hold, in the order in which they were written.

    Raises:
        InputError: a shard is damaged.
    """
    shards = []
    paths = map(Path, list_shards(fs.LocalFileSystem(), str(store)))
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        try:
            shards.append(read_shard(path))
        except DAMAGE as error:
            reason = first_line(error)
            raise InputError(f"{path}: the shard is damaged ({reason}); delete it and prepare again") from None
    return shards


def finish(
    store: Path, metadata: StoreMetadata, shards: list[Shard], missing: dict[str, str]
) -> tuple[list[BadClipRecord], dict[str, str]]:
    """Write the report and the fingerprint; return the bad and the missing clips. Equal files are not rewritten.

    Args:
        store: folder of the store.
        metadata: the metadata to write, apart from the fingerprint.
        shards: all shards of the store, from :func:`read_shards`.
        missing: clips of this input that were left out without being read, with the reason. The report also keeps those
            of earlier inputs.

    Raises:
        InputError: no shard holds a clip; the report is written nevertheless. Or two shards hold the same clip.
    """
    _check_rows(store, shards)
    digests = {name: digest for shard in shards for name, digest in shard.digests.items()}
    latest = {clip.name: clip for shard in shards for clip in shard.bad if clip.name not in digests}
    bad = [latest[name] for name in sorted(latest)]
    known = _reported_missing(store / REPORT) | missing
    missing = {name: known[name] for name in sorted(known) if name not in digests and name not in latest}
    report = {"clips": len(digests), "bad": [clip._asdict() for clip in bad], "missing": missing}
    _write_changed(store / REPORT, json.dumps(report, indent=2) + "\n")
    if not digests:
        example = bad[0] if bad else None
        reason = f"the first: {example.file}: {example.reason}" if example else "all are missing or listed as unusable"
        raise InputError(f"{store}: none of the clips could be prepared ({reason}); {REPORT} there lists all of them")
    key = fingerprint(list(digests), list(digests.values()))
    remove_unpacked(store, keep=key)
    _write_changed(store / METADATA, replace(metadata, fingerprint=key).to_json())
    return bad, missing


def _check_rows(store: Path, shards: list[Shard]) -> None:
    """Check that no clip is stored twice, as after a shard was copied: the rows must add up to the fingerprint's."""
    rows = Counter(name for shard in shards for name in shard.digests)
    if twice := [name for name, count in rows.items() if count > 1]:
        raise InputError(
            f"{store}: {len(twice)} clips are in two shards of {SHARDS}/, the first: {twice[0]}; prepare into another "
            "folder"
        )


def _reported_missing(report: Path) -> dict[str, str]:
    """Return the missing clips of an earlier report; none where it does not exist or cannot be parsed."""
    try:
        return {str(name): str(reason) for name, reason in json.loads(report.read_text())["missing"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_bytes() != text.encode():
        _write(path, text)


def _write(path: Path, text: str) -> None:
    write_atomically(fs.LocalFileSystem(), str(path), text.encode())
