"""Makes a store from clips in a genuine format, on Ray Data: resumable, and nothing is left out in silence.

What has been done is read from the shards themselves, so a killed preparation needs no journal: shards are whole or
absent, clips that are in none are still to be done.
"""

import importlib.metadata
import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from coablate_platform.data.formats import get_reader
from coablate_platform.data.formats.clip import ClipRef, Reader
from coablate_platform.data.joints import LAYOUTS
from coablate_platform.data.mapping import MAPPED, list_shards
from coablate_platform.data.progress import Tell
from coablate_platform.data.schema import METADATA, SHARDS, StoreMetadata, fingerprint
from coablate_platform.data.shard import LeftOut, PrepareOptions, Shard, change, read_shard, stamp, write_shard
from coablate_platform.data.store import read_metadata
from coablate_platform.files import locked, write_atomically
from coablate_platform.study.errors import InputError
from coablate_platform.study.source import Sources, attach, forget

REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class PrepareReport:
    """What came of a preparation.

    Args:
        done: clips added by this call.
        skipped: clips that were in the store before.
        bad: clips that could not be read, with file and reason; all of the store's, not only this call's, but those
            whose files are gone from the input.
        missing: clips of which there is nothing to read, with the reason: the set's own lists call them unusable, or
            they have no skeleton; all of the store's likewise.
    """

    done: int
    skipped: int
    bad: list[LeftOut]
    missing: dict[str, str]


def prepare(
    source: str,
    input: Path,  # noqa: A002 - the command line's word
    store: Path,
    options: PrepareOptions,
    progress: Tell = lambda done, total: None,
    cpus: int | None = None,
) -> PrepareReport:
    """Bring every clip under ``input`` into the store; a second call over the same input changes nothing.

    Args:
        source: name of the format, or a reference to a reader of the user's own.
        input: folder (or archive) of the genuine files.
        store: folder to make or to go on with. Clips of several inputs may come together in one, such as the two
            parts of NTU RGB+D 120.
        options: the recipe; that of an existing store must be the same.
        progress: called with clips done and clips to do, after every shard.
        cpus: processor cores to use; None uses all, or those of the Ray cluster that is already joined.

    Raises:
        InputError: the source is unknown, nothing of it lies there, the store cannot be written, it exists with
            another source or recipe, or the files of clips in it have changed since.
    """
    forget()
    reader = get_reader(source)
    if not input.exists():
        raise InputError(f"{input}: no such folder to prepare {source} from")
    reader = reader.at(str(input.absolute()))
    missing = reader.missing(str(input.absolute()))
    refs = [ref for ref in reader.list_clips(str(input.absolute())) if ref.name not in missing]
    _check_names(refs)
    with _owned(store):
        metadata = metadata_of(reader, options, store)
        shards = read_shards(store)
        _check_files(store, refs, shards)
        present = {name for shard in shards for name in shard.digests}
        tried = {(clip.name, clip.stamp) for shard in shards for clip in shard.bad}
        todo = [ref for ref in refs if ref.name not in present and (ref.name, stamp(ref)) not in tried]
        asked = _asked(reader, options)
        if todo:
            metadata = _opened(store, metadata, asked)
            _write_shards(reader, todo, store, options, progress, cpus)
            shards = read_shards(store)
        if {ref.name for ref in refs} & {name for shard in shards for name in shard.digests}:
            metadata = metadata.widened(asked)
        bad, missing = finish(store, metadata, _without_gone(shards, refs, input.absolute()), missing)
    done = sum(len(shard.digests) for shard in shards) - len(present)
    return PrepareReport(done=done, skipped=sum(ref.name in present for ref in refs), bad=bad, missing=missing)


def _check_names(refs: list[ClipRef]) -> None:
    seen: dict[str, ClipRef] = {}
    for ref in refs:
        if ref.name in seen:
            raise InputError(f"clip {ref.name} appears twice: {seen[ref.name].skeleton} and {ref.skeleton}")
        seen[ref.name] = ref


def _check_files(store: Path, refs: list[ClipRef], shards: list[Shard]) -> None:
    """Refuse an input whose files are not those that the store's clips of the same names were made from."""
    before = {name: measures for shard in shards for name, measures in shard.files.items()}
    changes = [found for ref in refs if ref.name in before and (found := change(ref, before[ref.name]))]
    if changes:
        raise InputError(
            f"{store}: the files of {len(changes)} clips have changed since they were stored, the first: {changes[0]}; "
            "prepare them into a new store"
        )


def _without_gone(shards: list[Shard], refs: list[ClipRef], input: Path) -> list[Shard]:  # noqa: A002 - as above
    """Forget the clips that were left out for a file under the input, where their files are there no more."""
    here = {ref.name for ref in refs}
    return [
        replace(
            shard,
            bad=[clip for clip in shard.bad if clip.name in here or not clip.file.startswith(f"{input}{os.sep}")],
        )
        for shard in shards
    ]


@contextmanager
def _owned(store: Path) -> Iterator[None]:
    """Make the store's folder and keep other preparations out of it."""
    taken = f"{store}: another `coablate data prepare` is writing this store"
    lock = ExitStack()
    try:
        (store / SHARDS).mkdir(parents=True, exist_ok=True)
        lock.enter_context(locked(store / ".lock", wait=False, taken=taken))
    except OSError as error:
        raise InputError(f"{store}: the store cannot be written here ({error.strerror})") from None
    with lock:
        yield


def metadata_of(source: Reader, options: PrepareOptions, store: Path) -> StoreMetadata:
    """Return the store's metadata, written now where the store is new.

    Raises:
        InputError: the store was made from another source or with another recipe.
    """
    asked = _asked(source, options)
    existing = read_metadata(fs.LocalFileSystem(), str(store), str(store))
    if existing is None:
        _write(store / METADATA, asked.to_json())
        return asked
    if differences := "; ".join(existing.differences(asked)):
        raise InputError(
            f"{store}: this store was prepared otherwise ({differences}); use another folder or that recipe"
        )
    return existing


def _asked(source: Reader, options: PrepareOptions) -> StoreMetadata:
    """Return what a store of this source with this recipe says of itself at first."""
    layout, protocol = source.layout, source.default_protocol
    known = protocol if isinstance(protocol, str) else protocol.name
    return StoreMetadata(
        source=source.name,
        layout=layout.name,
        persons=source.persons,
        classes=source.classes,
        default_protocol=known,
        has_video=source.has_video,
        recipe=options.recipe() | source.reading,
        versions={name: importlib.metadata.version(name) for name in ("av", "numpy", "pyarrow")},
        joints=None if LAYOUTS.get(layout.name) == layout else asdict(layout),
        protocol=None if isinstance(protocol, str) else protocol.to_plain(),
    )


def _opened(store: Path, metadata: StoreMetadata, asked: StoreMetadata) -> StoreMetadata:
    """Let the store say that it is unfinished, until the end.

    Raises:
        InputError: its recipe does not say enough to make clips as its others were made.
    """
    if unsaid := metadata.unsaid(asked):
        raise InputError(
            f"{store}: an earlier version made this store and did not record {', '.join(unsaid)}; it can be trained "
            "on, but not added to: prepare into a new store"
        )
    metadata = replace(metadata, fingerprint=None)
    _write_changed(store / METADATA, metadata.to_json())
    return metadata


def read_shards(store: Path) -> list[Shard]:
    """Return what all shards hold, in the order in which they were written."""
    shards = []
    paths = map(Path, list_shards(fs.LocalFileSystem(), str(store)))
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        try:
            shards.append(read_shard(path))
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path}: the shard is damaged ({reason}); delete it and prepare again") from None
    return shards


def _write_shards(
    reader: Reader, refs: list[ClipRef], store: Path, options: PrepareOptions, progress: Tell, cpus: int | None
) -> None:
    """Run one Ray Data task a shard, as many at a time as there are cores, and report as they end."""
    size, place = options.shard_clips, (store / SHARDS).absolute()
    units = [{"work": pickle.dumps((reader, refs[start : start + size]))} for start in range(0, len(refs), size)]
    sources = _kept_sources(store.absolute())

    def write(row: dict[str, Any]) -> dict[str, Any]:
        attach(sources)
        reader, unit = pickle.loads(row["work"])
        try:
            write_shard(reader, unit, place, options)
        except OSError as error:  # said to the user in one line, instead of through a task's traceback
            return {"clips": 0, "error": f"{place}: the shard cannot be written ({error.strerror or error})"}
        return {"clips": len(unit), "error": ""}

    for leftover in place.glob("*.tmp"):  # of a run that was killed
        leftover.unlink(missing_ok=True)
    done = 0
    progress(done, len(refs))
    with _ray(cpus) as ray:
        shards = ray.data.from_items(units, override_num_blocks=len(units)).map(write)
        for result in shards.iter_rows():
            if result["error"]:
                raise InputError(result["error"])
            done += result["clips"]
            progress(done, len(refs))


def _kept_sources(store: Path) -> str:
    """Keep the source of a reader of the user's own with the store; return the folder, empty where it is ours."""
    sources = Sources.imported()
    folder = store / "source" / sources.digest
    for name, content in sources.files.items():
        write_atomically(fs.LocalFileSystem(), str(folder / name), content)
    return str(folder) if sources.files else ""


@contextmanager
def _ray(cpus: int | None) -> Iterator[Any]:
    """Yield Ray, started when nobody has and then stopped again; it says nothing, progress is the caller's."""
    import ray  # here: a run with nothing to do shall not wait for it
    import ray.data

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        logger.setLevel(level)
        if started:
            ray.shutdown()


def finish(
    store: Path, metadata: StoreMetadata, shards: list[Shard], missing: dict[str, str]
) -> tuple[list[LeftOut], dict[str, str]]:
    """Write report and fingerprint where they are not what stands there; return the bad clips and the missing ones.

    Args:
        store: the folder.
        metadata: as far as it is known.
        shards: all of the store's, from :func:`read_shards`.
        missing: clips of this input of which there is nothing to read; what the report has of others stays in it.

    Raises:
        InputError: no shard holds a clip; the report is written all the same.
    """
    digests = {name: digest for shard in shards for name, digest in shard.digests.items()}
    latest = {clip.name: clip for shard in shards for clip in shard.bad if clip.name not in digests}
    bad = [latest[name] for name in sorted(latest)]
    here = _reported(store / REPORT) | missing
    missing = {name: here[name] for name in sorted(here) if name not in digests and name not in latest}
    report = {"clips": len(digests), "bad": [clip._asdict() for clip in bad], "missing": missing}
    _write_changed(store / REPORT, json.dumps(report, indent=2) + "\n")
    if not digests:
        example = bad[0] if bad else None
        reason = f"the first: {example.file}: {example.reason}" if example else "all are on the lists of unusable ones"
        raise InputError(f"{store}: none of the clips could be prepared ({reason}); {REPORT} there lists them all")
    key = fingerprint(list(digests), list(digests.values()))
    for stale in (store / MAPPED).glob("*"):
        if stale.name != key:
            shutil.rmtree(stale, ignore_errors=True)
    _write_changed(store / METADATA, replace(metadata, fingerprint=key).to_json())
    return bad, missing


def _reported(report: Path) -> dict[str, str]:
    """Return the missing clips of an earlier report; nothing where there is none, or one that cannot be read."""
    try:
        return {str(name): str(reason) for name, reason in json.loads(report.read_text())["missing"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        _write(path, text)


def _write(path: Path, text: str) -> None:
    write_atomically(fs.LocalFileSystem(), str(path), text.encode())
