"""Brings studies home: copies them from a results folder in object storage into a local one, and verifies them.

A file that has the size and the time of the one in storage is there already, so an interrupted pull continues. Plans
are written last: a folder that is not whole yet holds no study. A search brings its confirmations and the searches that
it learns from.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from coablate_platform.files import locked, replacing
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import Folder, arrow_table
from coablate_platform.journal.trials import JournalTrialLog
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan, SearchPlan, StudyPlan
from coablate_platform.train.checkpoint import is_intact

_ORIGIN = ".pulled-from"  # in the local folder: the URI that it was pulled from
_AT_A_TIME = 8  # files
_ROUNDS = 5  # of files that are written meanwhile
Stamps = dict[str, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What a pull has brought.

    Args:
        studies: keys of the studies and searches.
        files: number of their files.
        size: bytes of their files.
        fetched: number of the files that were not there already.
        changing: files that were written during the last round, of a study that still runs.
    """

    studies: tuple[str, ...]
    files: int
    size: int
    fetched: int
    changing: tuple[str, ...]


def pull(source: str, target: Path, key: str | None, say: Callable[[str], None]) -> Pulled:
    """Copy the studies of a results folder into a local folder.

    Args:
        source: path or URI of the results folder.
        target: the local folder: new, empty, or pulled from the same place before and not continued since.
        key: name or key of the study; None: all of them.
        say: shows a line to the user.

    Raises:
        InputError: there is no such study, the local folder holds other results, or a file in storage is damaged.
        OSError: the storage cannot be read, or the local folder cannot be written.
    """
    journal = Journal(source)
    _check(target, journal.folder)
    target.mkdir(parents=True, exist_ok=True)
    with locked(target / ".lock", wait=False, taken=f"{target}: another process pulls into it or works on it"):
        (target / _ORIGIN).write_text(journal.folder.uri)
        return _until_whole(journal, target, key, say)


def _until_whole(journal: Journal, target: Path, key: str | None, say: Callable[[str], None]) -> Pulled:
    """Fetch what is missing, and list the storage again, until nothing is missing that was written meanwhile."""
    fetched, damaged = set[str](), Stamps()
    for _ in range(_ROUNDS):
        plans = _selected(journal, key)
        files = _files(journal, plans)
        missing = {name: stamp for name, stamp in files.items() if not _is_there(target / name, stamp)}
        if again := sorted(name for name in missing if damaged.get(name) == missing[name]):
            raise InputError(f"{journal.folder.uri}/{again[0]} is damaged in storage; what else there is was pulled")
        if not missing:
            break
        say(f"Pulling {len(missing)} of {len(files)} files, {_size(missing) / 1e6:.1f} MB")
        failed = _fetch(journal.folder, target, missing)
        damaged = {name: missing[name] for name in failed}
        fetched |= missing.keys() - failed
    return Pulled(
        studies=tuple(plan.key for plan in plans),
        files=len(files),
        size=_size(files),
        fetched=len(fetched),
        changing=tuple(sorted(missing)),
    )


def _check(target: Path, source: Folder) -> None:
    """Check that a local folder is new, or was pulled from the same place and not continued since."""
    if not target.exists() or not any(target.iterdir()):
        return
    origin = target / _ORIGIN
    if not origin.is_file() or origin.read_text() != source.uri:
        raise InputError(f"{target}: expected a new folder, or one that was pulled from {source.uri}")
    if (target / ".lock-holder").exists():
        raise InputError(f"{target}: a study was continued here since it was pulled; pull into a new folder")


def _selected(journal: Journal, key: str | None) -> list[AnyPlan]:
    """Return the plans of a study with those that belong to it; of all studies, if none is named."""
    plans = journal.plans()
    if key is None:
        if not plans:
            raise InputError(f"results folder {journal.folder.uri} holds no study")
        return plans
    chosen = {journal.plan(key).key}
    while True:
        more = {other for plan in plans if plan.key in chosen for other in _related(plan, plans)} - chosen
        if not more:
            return [plan for plan in plans if plan.key in chosen]
        chosen |= more


def _related(plan: AnyPlan, plans: list[AnyPlan]) -> set[str]:
    """Return the keys of a search's confirmations and warm searches, or of the search that a study confirms."""
    if isinstance(plan, StudyPlan):
        return {plan.confirms} if plan.confirms else set()
    confirmations = {other.key for other in plans if isinstance(other, StudyPlan) and other.confirms == plan.key}
    warm = set(plan.command.get("warm", ()))
    return confirmations | {other.key for other in plans if warm & {other.key, other.name}}


def _files(journal: Journal, plans: list[AnyPlan]) -> Stamps:
    """Return the files of studies with their stamps: plans, tables, journals and checkpoints."""
    runs = {run_id for plan in plans for run_id in _run_ids(journal, plan)}
    wanted = {"checkpoints": runs, "journal": runs, "studies": {plan.key for plan in plans}}
    return {
        f"{room}/{name}": stamp
        for room, owners in wanted.items()
        for name, stamp in journal.folder.stamps(room).items()
        if name.partition("/")[0] in owners and ".." not in name.split("/")
    }


def _run_ids(journal: Journal, plan: AnyPlan) -> Iterable[str]:
    if isinstance(plan, SearchPlan):
        return [trial.run_id for trial in JournalTrialLog(journal, plan.key).trials() if trial.run_id]
    return [run.run_id for run in plan.runs]


def _fetch(source: Folder, target: Path, files: Stamps) -> set[str]:
    """Copy files, the plans after all others, and return those that came damaged or are gone."""

    def fetch(name: str) -> bool:
        content = source.read(name)
        modified, size = files[name]
        if content is None or len(content) != size or not _is_intact(name, content):
            return False
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(target / name) as partial:
            partial.write_bytes(content)
            os.utime(partial, ns=(modified, modified))
        return True

    failed = set[str]()
    plans = [name for name in files if name.endswith("/study.json")]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for names in (sorted(files.keys() - plans), plans):
            failed |= {name for name, fetched in zip(names, pool.map(fetch, names), strict=True) if not fetched}
    return failed


def _is_there(file: Path, stamp: tuple[int, int]) -> bool:
    """Return whether a local file has the time and size of the one in storage, and is intact."""
    try:
        status = file.stat()
        return (status.st_mtime_ns, status.st_size) == stamp and _is_intact(file.name, file.read_bytes())
    except FileNotFoundError:
        return False


def _is_intact(name: str, content: bytes) -> bool:
    """Return whether the content of a file is whole, as far as its format tells."""
    if name.endswith(".arrow"):
        try:
            arrow_table(content)
        except (pa.ArrowException, OSError):
            return False
    return not name.endswith(".pt") or is_intact(content)


def _size(files: Stamps) -> int:
    return sum(size for _, size in files.values())
