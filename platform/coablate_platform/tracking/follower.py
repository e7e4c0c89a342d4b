"""Tracking that never touches training: a process of its own that follows the journal into MLflow.

``python -m coablate_platform.tracking.follower DIR --study KEY [--tracking URI] [--follow]``. With ``--follow`` it
works until the study is completed or its standard input ends, which happens when the driver asks for it or dies in
whatever way; then, and without ``--follow`` at once, it brings MLflow up to date once more and ends. Afterwards nothing
of the study is left RUNNING in MLflow. While MLflow is out of reach it waits and tries again.
"""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from coablate_platform.files import locked
from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.journal.trials import JournalTrialLog, TrialRecord
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan, SearchPlan
from coablate_platform.tracking.arms import Tracked, tracked
from coablate_platform.train.events import RunState

if TYPE_CHECKING:
    from coablate_platform.tracking.exporter import Exporter

GRACE = 60.0
"""Seconds for which a follower goes on trying to reach MLflow after the study has ended."""
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
_POLL = 1.0
_LONGEST_WAIT = 30.0
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the follower's own waiting is the only one
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def tracking_uri(directory: str, uri: str | None = None) -> str:
    """Return where a results folder is tracked: ``uri``, else an SQLite file in the folder.

    Raises:
        InputError: MLflow cannot track to such an address, or the folder is not local, so SQLite cannot stand in it.
    """
    if uri:
        scheme = uri.partition("://")[0].partition("+")[0]
        if "://" not in uri or scheme not in _SCHEMES:
            raise InputError(f"tracking URI {uri!r} is no address MLflow tracks to (known: {', '.join(_SCHEMES)})")
        return uri
    local = Journal(directory).folder.local
    if local is None:
        raise InputError(f"results folder {directory} is not on this machine: name an MLflow server with --tracking")
    return f"sqlite:///{local / 'mlflow.db'}"


def start_follower(directory: str, key: str, uri: str | None = None) -> "subprocess.Popen[bytes]":
    """Start the process that follows a study into MLflow; it ends with this process at the latest.

    What it has to say goes to ``studies/<key>/tracking.log`` of a local results folder.

    Args:
        directory: the results folder.
        key: the study's key; its plan is written already.
        uri: MLflow's tracking URI; None: :func:`tracking_uri`.
    """
    local = Journal(directory).folder.local
    folder = local / "studies" / key if local else Path(tempfile.mkdtemp(prefix="coablate-"))
    folder.mkdir(parents=True, exist_ok=True)
    module = "coablate_platform.tracking.follower"
    command = [sys.executable, "-m", module, directory, "--study", key, "--tracking", tracking_uri(directory, uri)]
    with (folder / "tracking.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--follow"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt at the terminal is for the driver; the follower closes its books
        )


def finish_follower(process: "subprocess.Popen[bytes]", timeout: float = GRACE + 30) -> int:
    """Ask a follower for its last catch-up and wait for it.

    Returns:
        0 where MLflow is up to date; anything else: it is not, and ``coablate track`` can make up for it.
    """
    if process.stdin is not None:
        process.stdin.close()
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def run_ui(directory: str, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000) -> NoReturn:
    """Become MLflow's server over what was tracked.

    Raises:
        InputError: ``uri`` is a server already, nothing was tracked yet, or it was tracked elsewhere.
    """
    backend = tracking_uri(directory, uri)
    if backend.startswith(("http://", "https://")):
        raise InputError(f"{backend} is a server already: open it in a browser")
    local = Journal(directory).folder.local
    if uri is None and local is not None and not (local / "mlflow.db").exists():
        elsewhere = sorted({where for plan in Journal(directory).plans() if (where := plan.command.get("tracking"))})
        if elsewhere:
            raise InputError(f"results folder {directory} is tracked elsewhere, at {', '.join(elsewhere)}")
        raise InputError(f"results folder {directory} was not tracked yet: run `coablate track {directory}` first")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    if local is not None:
        command += ["--artifacts-destination", (local / "mlartifacts").as_uri()]
    os.execve(sys.executable, command, os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"})


class _Lifeline:
    """Says when to close: standard input has ended, or the process was asked to terminate."""

    def __init__(self, follow: bool) -> None:
        self.ended = not follow
        signal.signal(signal.SIGTERM, self._terminate)

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        if self.ended:
            time.sleep(seconds)
        until = time.monotonic() + seconds
        while not self.ended and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([sys.stdin.fileno()], [], [], min(left, _POLL))
            if readable and not os.read(sys.stdin.fileno(), 4096):
                self.ended = True

    def _terminate(self, *_: object) -> None:
        self.ended = True


class _Watch:
    """Reads a study or a search from the journal; of its runs, only those that have changed since the last look."""

    def __init__(self, journal: Journal, plan: AnyPlan) -> None:
        self.journal = journal
        self.tracked = tracked(plan)
        self.stamps: dict[str, object] = {run.run_id: None for run in self.tracked.runs}
        self.records: dict[str, RunRecord] = {}
        self._trials: dict[str, tuple[object, TrialRecord]] = {}
        self._open: set[str] = set()  # runs of open trials: in a population they may pause

    def refresh(self, thorough: bool) -> None:
        """Look at every run that is not completed, at one listing a run; ``thorough`` reads it in any case."""
        if isinstance(self.tracked.plan, SearchPlan):
            self._add_trials(JournalTrialLog(self.journal, self.tracked.plan.key))
        for run_id, former in self.stamps.items():
            if not self._done(run_id) or (thorough and not self._completed(run_id)):
                stamp = self.journal.stamp(run_id)
                if thorough or stamp != former:
                    self.records[run_id] = self.journal.record(run_id)
                    self.stamps[run_id] = stamp

    def _add_trials(self, log: JournalTrialLog) -> None:
        """Take in a search's new and changed trials."""
        stamps = log.stamps()
        changed = [name for name, stamp in stamps.items() if self._trials.get(name, (None,))[0] != stamp]
        self._trials |= {name: (stamps[name], log.read(name)) for name in changed}
        if changed:
            trials = [self._trials[name][1] for name in sorted(self._trials)]
            self._open = {trial.run_id for trial in trials if trial.outcome is None}
            self.tracked = tracked(self.tracked.plan, trials)
            self.stamps = {run.run_id: self.stamps.get(run.run_id) for run in self.tracked.runs}

    def _done(self, run_id: str) -> bool:
        """Return whether nothing more will be written of a run. A search does not try a failed run again."""
        if isinstance(self.tracked.plan, SearchPlan):
            return run_id in self.records and self.records[run_id].state.ended and run_id not in self._open
        return self._completed(run_id)

    def report(self, closing: bool) -> dict[str, bytes]:
        """Return the files of a search's report, once it has ended."""
        folder = f"studies/{self.tracked.plan.key}/report"
        ended = closing and isinstance(self.tracked.plan, SearchPlan)
        names = self.journal.folder.stamps(folder) if ended else {}
        contents = {name: self.journal.folder.read(f"{folder}/{name}") for name in names}
        return {name: content for name, content in contents.items() if content is not None}

    @property
    def completed(self) -> bool:
        """Whether all runs of a study are completed."""
        return not isinstance(self.tracked.plan, SearchPlan) and all(self._completed(run_id) for run_id in self.stamps)

    def _completed(self, run_id: str) -> bool:
        return run_id in self.records and self.records[run_id].state is RunState.COMPLETED


def follow(journal: Journal, plan: AnyPlan, uri: str, lifeline: _Lifeline, grace: float) -> int:
    """Keep MLflow up to date until the study ends.

    Returns:
        0, or 1 where MLflow could not be reached within ``grace`` seconds of the end.
    """
    watch, exporter, said, delay = _Watch(journal, plan), None, "", _POLL
    deadline: float | None = None
    while True:
        closing = lifeline.ended
        try:
            watch.refresh(thorough=closing)
            closing = closing or watch.completed
            exporter = exporter or _connect(journal, watch.tracked, uri)
            exporter.sync(watch.tracked, watch.records, watch.report(closing), closing)
        except InputError:
            raise
        except Exception as error:  # MLflow's layers (HTTP, SQLAlchemy, Alembic …) each throw their own
            exporter = None  # what arrived of the last request is unknown: ask again
            if repr(error) != said:
                said = repr(error)
                print(f"{time.strftime('%F %T')} tracking waits for {uri}: {said}", file=sys.stderr, flush=True)
            if closing:
                deadline = deadline or time.monotonic() + grace
                if time.monotonic() >= deadline:
                    print(_advice(journal, plan, uri, grace), file=sys.stderr, flush=True)
                    return 1
                delay = min(delay, _POLL)
            lifeline.wait(delay)
            delay = min(2 * delay, _LONGEST_WAIT)
        else:
            if closing:
                return 0
            delay = _POLL
            lifeline.wait(_POLL)


def _connect(journal: Journal, shown: Tracked, uri: str) -> "Exporter":
    from coablate_platform.tracking.exporter import Exporter

    local = journal.folder.local
    server = uri.startswith(("http://", "https://"))
    return Exporter(shown, uri, None if server or local is None else (local / "mlartifacts").as_uri())


def _advice(journal: Journal, plan: AnyPlan, uri: str, grace: float) -> str:
    return (
        f"tracking gave up: {uri} was out of reach for {grace:.0f} s after the end. Nothing is lost; "
        f"run `coablate track {journal.folder.uri} --study {plan.key} --tracking {uri}` when it is back."
    )


@contextlib.contextmanager
def _alone(journal: Journal, plan: AnyPlan, wait: bool) -> Iterator[None]:
    """Hold the study's lock on this machine: two followers would each create what the other one lacks.

    Raises:
        InputError: another follower holds it and ``wait`` is off.
    """
    digest = hashlib.sha256(f"{journal.folder.uri} {plan.key}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"coablate-{os.getuid()}-{digest}.lock"
    taken = f"study {plan.key} is being followed by another process; nothing to catch up with"
    with locked(path, wait=wait, taken=taken):
        yield


def track(directory: str, study: str | None, uri: str | None, *, keep: bool = False, grace: float = GRACE) -> int:
    """Bring MLflow up to date with a study, once or (``keep``) for as long as it lasts.

    Args:
        directory: the results folder.
        study: its name or key; None where the folder holds just one.
        uri: MLflow's tracking URI; None: the one that the study was run with.
        keep: go on until standard input ends.
        grace: seconds to go on trying after the end.

    Returns:
        0, or 1 where MLflow could not be reached.

    Raises:
        InputError: no such study, no place to track to, or another follower is at work.
    """
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    journal = Journal(directory)
    plan = journal.plan(study)
    with _alone(journal, plan, wait=keep):
        where = tracking_uri(directory, uri or plan.command.get("tracking"))
        return follow(journal, plan, where, _Lifeline(keep), grace)


def main(
    directory: Annotated[str, typer.Argument(help="Results folder.")],
    study: Annotated[str | None, typer.Option(help="The study's name or key, where the folder holds several.")] = None,
    tracking: Annotated[str | None, typer.Option(help="MLflow tracking URI; default: the study's.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until standard input ends.")] = False,
    grace: Annotated[float, typer.Option(help="Seconds to go on trying after the end.")] = GRACE,
) -> None:
    """Follow a study's journal into MLflow."""
    try:
        code = track(directory, study, tracking, keep=follow, grace=grace)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
