"""Follows a study's journal into MLflow, in a process of its own that training never waits for.

``python -m coablate_platform.tracking.follower DIR --study KEY [--tracking URI] [--follow]``

The URI may stand in the environment variable ``COABLATE_TRACKING`` instead, which keeps its password from others.

Without ``--follow`` it brings MLflow up to date once. With ``--follow`` it does so repeatedly until the study is
completed, its standard input ends, or it gets SIGTERM; then it does so a last time.

The driver holds the other end of its standard input, which ends when the driver closes it or dies for any reason. At
the end nothing of the study is left RUNNING in MLflow. While MLflow cannot be reached, the follower waits and retries.
"""

import contextlib
import hashlib
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from coablate_platform.files import locked
from coablate_platform.journal.journal import Journal
from coablate_platform.passwords import TRACKING, completed, masked
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan
from coablate_platform.tracking.arms import TrackedStudy
from coablate_platform.tracking.journal_watch import JournalWatch
from coablate_platform.tracking.refusals import Refusals, is_refusal, reason_of, say
from coablate_platform.tracking.relocate import ARTIFACTS, DATABASE, relocate_artifacts
from coablate_platform.tracking.view import VIEW_TAG, link, view_key

if TYPE_CHECKING:
    from coablate_platform.tracking.exporter import Exporter

GRACE = 60.0
"""Seconds for which a follower retries to reach MLflow after the study has ended."""
_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
_POLL = 1.0  # seconds between two looks at the journal
_REMOTE_POLL = 5.0  # the same, where each costs requests to object storage
_LONGEST_WAIT = 30.0  # seconds between two attempts to reach MLflow
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the follower itself waits and retries
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

_MLFLOW_SERVER = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # processes for jobs that nothing here uses
}


def prepare_mlflow() -> None:
    """Set what MLflow reads from the environment, unless the user has set it. Called before MLflow is imported."""
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)


def tracking_uri(directory: str, uri: str | None = None) -> str:
    """Return the tracking URI of a results folder: ``uri``, else an SQLite file in the folder.

    Of a folder that is not on a local disk, the file is in this machine's state folder.

    Raises:
        InputError: MLflow cannot track to ``uri``, or there can be no state folder.
    """
    if uri:
        scheme = uri.partition("://")[0].partition("+")[0]
        if "://" not in uri or scheme not in _SCHEMES:
            raise InputError(
                f"tracking URI {masked(uri)!r} is no address that MLflow can track to; "
                f"expected SCHEME://… with one of these schemes: {', '.join(_SCHEMES)}"
            )
        return uri
    return f"sqlite:///{Journal(directory).folder.state / DATABASE}"


def run_ui(directory: str, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000) -> NoReturn:
    """Replace this process by an MLflow server that shows what was tracked of a results folder.

    The folder's own database is first written from the journal where it is absent, and brought up to date where the
    folder is not on a local disk: another machine may have worked on it.

    Args:
        directory: the results folder.
        uri: the database that was tracked to; None means the folder's own, see :func:`tracking_uri`.
        host: address to listen on.
        port: port to listen on.

    Raises:
        InputError: ``uri`` is a server already, the folder holds no study, or it was tracked elsewhere.
    """
    backend = tracking_uri(directory, uri)
    if backend.startswith(("http://", "https://")):
        raise InputError(f"{masked(backend)} is a server already: open it in a browser")
    folder = Journal(directory).folder
    if uri is None and (folder.local is None or not (folder.state / DATABASE).exists()):
        _catch_up(directory)
    relocate_artifacts(folder.state)
    for line in _links(directory, backend, f"http://{host}:{port}/"):
        print(line, flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    command += ["--artifacts-destination", (folder.state / ARTIFACTS).as_uri()]
    settings = _MLFLOW_SERVER | {"MLFLOW_BACKEND_STORE_URI": backend}  # it may hold a password
    os.execve(sys.executable, command, os.environ | settings)


def _catch_up(directory: str) -> None:
    """Bring the folder's own database up to date with every study that is tracked to it."""
    plans = Journal(directory).plans()
    own = [plan for plan in plans if not plan.command.get("tracking")]
    if not plans:
        raise InputError(f"results folder {directory} holds no study")
    if not own:
        elsewhere = sorted({plan.command["tracking"] for plan in plans})
        raise InputError(f"results folder {directory} is tracked elsewhere, at {', '.join(elsewhere)}")
    for plan in own:
        print(f"Writing what the journal holds of {plan.key} into MLflow", flush=True)
        try:
            track(directory, plan.key, None, grace=0)
        except InputError as error:  # its follower is at work, for example
            print(error, flush=True)


def _links(directory: str, backend: str, server: str) -> Iterator[str]:
    """Yield a line with the address of its arms for each study that the database holds."""
    os.environ.update(_MLFLOW)
    from coablate_platform.tracking.mlflow_runs import experiment_tags  # MLflow: only where it is needed

    experiment, tags = experiment_tags(backend)
    for plan in Journal(directory).plans():
        if VIEW_TAG + view_key(plan.key) in tags:
            yield f"{plan.key}: {server}{link(experiment, view_key(plan.key))}"


class _EndSignal:
    """Tells when to bring MLflow up to date a last time: standard input has ended, or the process got SIGTERM.

    Args:
        follow: wait for that; off, it is given from the start.
    """

    def __init__(self, follow: bool) -> None:
        self.given = not follow
        signal.signal(signal.SIGTERM, self._on_terminate)

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, but return when the signal is given meanwhile."""
        if self.given:
            time.sleep(seconds)
        until = time.monotonic() + seconds
        while not self.given and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([sys.stdin.fileno()], [], [], min(left, _POLL))
            if readable and not os.read(sys.stdin.fileno(), 4096):
                self.given = True

    def _on_terminate(self, *_: object) -> None:
        self.given = True


def follow(journal: Journal, plan: AnyPlan, uri: str, end: _EndSignal, grace: float) -> int:
    """Keep MLflow up to date until the study ends.

    Args:
        journal: the journal of the results folder.
        plan: the plan of the study or the search.
        uri: MLflow's tracking URI.
        end: tells when the study has ended.
        grace: seconds for which to retry to reach MLflow after that.

    Returns:
        0, or 1 if MLflow could not be reached within ``grace`` or refused something.
    """
    watch, exporter, last_error, delay = JournalWatch(journal, plan), None, "", _POLL
    refusals, poll = Refusals(uri), _POLL if journal.folder.local else _REMOTE_POLL
    deadline: float | None = None
    while True:
        closing = end.given
        try:
            watch.refresh(thorough=closing)
            closing = closing or watch.completed
            exporter = exporter or _connect(journal, watch.tracked, uri, refusals)
            exporter.sync(watch.tracked, watch.records, watch.report(closing), closing)
        except InputError:
            raise
        except Exception as error:  # MLflow's layers (HTTP, SQLAlchemy, Alembic …) raise exceptions of their own
            exporter = None  # unknown how much of the last request arrived: query MLflow again
            if repr(error) != last_error:
                last_error = repr(error)
                say(f"tracking waits for {uri}: {reason_of(error)}")
            if closing:
                deadline = deadline or time.monotonic() + (0 if is_refusal(error) else grace)
                if time.monotonic() >= deadline:
                    say(_advice(journal, plan, uri, error))
                    return 1
                delay = min(delay, _POLL)
            end.wait(delay)
            delay = min(2 * delay, _LONGEST_WAIT)
        else:
            if closing:
                return int(refusals.any)
            delay = _POLL
            end.wait(poll)


def catch_up(journal: Journal, plan: AnyPlan, uri: str) -> int:
    """Bring MLflow up to date with a study on which nobody works, as :func:`follow` does at the study's end."""
    return follow(journal, plan, uri, _EndSignal(follow=False), GRACE)


def _connect(journal: Journal, tracked: TrackedStudy, uri: str, refusals: Refusals) -> "Exporter":
    from mlflow import MlflowClient  # only in the follower's process

    from coablate_platform.tracking.exporter import Exporter
    from coablate_platform.tracking.mlflow_runs import MlflowRuns

    state = journal.folder.state
    server = uri.startswith(("http://", "https://"))
    relocate_artifacts(state)
    artifacts = None if server else (state / ARTIFACTS).as_uri()
    runs = MlflowRuns(tracked.plan, MlflowClient(tracking_uri=uri), artifacts, refusals)
    return Exporter(tracked, runs, refusals, journal)


def _advice(journal: Journal, plan: AnyPlan, uri: str, error: Exception) -> str:
    why = "refuses" if is_refusal(error) else "is out of reach"
    again = f"`coablate track {journal.folder.uri} --study {plan.key} --tracking {uri}`"
    return f"MLflow at {uri} {why}: {reason_of(error)}. Nothing is lost; later run {again}"


@contextlib.contextmanager
def only_follower(journal: Journal, plan: AnyPlan, wait: bool) -> Iterator[None]:
    """Hold the study's lock on this machine. Without it, two followers would create the same MLflow runs twice.

    Raises:
        InputError: another follower holds it and ``wait`` is off.
    """
    digest = hashlib.sha256(f"{journal.folder.uri} {plan.key}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"coablate-{os.getuid()}-{digest}.lock"
    taken = f"study {plan.key} is being tracked by another process, which brings MLflow up to date"
    with locked(path, wait=wait, taken=taken):
        yield


def track(directory: str, study: str | None, uri: str | None, *, keep: bool = False, grace: float = GRACE) -> int:
    """Bring MLflow up to date with a study, once or (``keep``) until the study ends.

    Args:
        directory: the results folder.
        study: name or key of the study; None means the only one in the folder.
        uri: MLflow's tracking URI; None means the one that the study was run with.
        keep: continue until the study is completed or standard input ends.
        grace: seconds for which to retry to reach MLflow after that.

    Returns:
        0, or 1 if MLflow could not be reached or refused something.

    Raises:
        InputError: there is no such study, MLflow cannot track to the URI, or another follower is at work.
    """
    prepare_mlflow()
    journal = Journal(directory)
    plan = journal.plan(study)
    with only_follower(journal, plan, wait=keep):
        kept = plan.command.get("tracking")
        where = uri or completed(kept, None)
        if kept and not where:
            raise InputError(
                f"study {plan.key} was tracked to {kept}; set {TRACKING} to this address with its password"
            )
        where = tracking_uri(directory, where)
        return follow(journal, plan, where, _EndSignal(keep), grace)


def main(
    directory: Annotated[str, typer.Argument(help="Results folder.")],
    study: Annotated[str | None, typer.Option(help="The study's name or key, where the folder holds several.")] = None,
    tracking: Annotated[
        str | None, typer.Option(help="MLflow tracking URI; default: the study's.", envvar=TRACKING)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Continue until standard input ends.")] = False,
    grace: Annotated[float, typer.Option(help="Seconds for which to retry after the end.")] = GRACE,
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
