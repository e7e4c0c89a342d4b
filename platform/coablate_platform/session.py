"""Carries a user's command out: lock or lease of the results folder, Ray cluster, copies of source, MLflow."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console

from coablate_platform.command import Accepts, Command
from coablate_platform.data.store import Store
from coablate_platform.files import locked
from coablate_platform.folder_lease import FolderLease
from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import Folder
from coablate_platform.journal.tune_check import account_keeper
from coablate_platform.lanes.address import address_of
from coablate_platform.lanes.cluster import joined, package_folders
from coablate_platform.lanes.growth import can_grow
from coablate_platform.passwords import masked
from coablate_platform.study.errors import InputError, first_line
from coablate_platform.study.plan import AnyPlan, StudyPlan
from coablate_platform.study.search import Search
from coablate_platform.study.source import Sources
from coablate_platform.study.study import Study
from coablate_platform.tracking.keeper import FollowerKeeper
from coablate_platform.train.events import RunUpdate

if TYPE_CHECKING:
    from coablate_platform.lanes.tuner import Locations, Scheduler


@contextlib.contextmanager
def only_user(
    folder: Folder, on_loss: Callable[[str], None], say: Callable[[str], None]
) -> Iterator[FolderLease | None]:
    """Hold a results folder during the block: studies share runs, and two processes must not write the same.

    Args:
        folder: the results folder; a local one is made where there is none.
        on_loss: called with the reason if the lease of a folder in object storage is lost.
        say: shows a line to the user.

    Yields:
        The lease of a folder in object storage; None where the folder is local and has a lock.

    Raises:
        InputError: another process holds it.
        OSError: the folder cannot be written.
    """
    local = folder.local
    if local is None:
        with FolderLease(folder.uri, on_loss, say) as lease:
            yield lease
        return
    holder = local / ".lock-holder"
    user = _read(holder) or "another process"
    taken = f"results folder {local}: {user} uses it; wait until it has ended, or use another folder"
    local.mkdir(parents=True, exist_ok=True)
    with locked(local / ".lock", wait=False, taken=taken):
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield None


def source_copies(journal: Journal, key: str, digest: str) -> str:
    """Return the path or URI of the folder of a study's results with copies of the user's files by their digest."""
    return f"{journal.folder.uri}/studies/{key}/source/{digest}"


class Display(Protocol):
    """Shows how the runs of a plan go."""

    def update(self, run_id: str, update: RunUpdate, stops: bool) -> None:
        """Show a run's update, and whether it stops the run."""

    def begin(self, phase: str) -> None:
        """Show what begins, in words, until the first update."""

    def warn(self, line: str) -> None:
        """Show a line about something that does not stop the study."""


class Session:
    """A command that is being carried out. It is the only writer of its results folder.

    It holds the folder's lock, in object storage its lease, from entry to exit. It joins the Ray cluster at the first
    call of :meth:`join_cluster`, and stays connected until exit: a search and its confirmation use the same cluster. It
    waits for MLflow's followers at the exit, so that neither a confirmation nor a table waits for a server that is out
    of reach.

    Args:
        command: the user's command.
        out: path or URI of the results folder.
        console: where messages are printed.
        accepts: what the user accepts of recorded results.

    Attributes:
        address: ``host:port`` of the Ray cluster that the command uses, once it is found; None: a local one.
    """

    def __init__(self, command: Command, out: str | Path, console: Console, accepts: Accepts) -> None:
        self.command, self.out, self.console, self.accepts = command, out, console, accepts
        self.journal = Journal(str(out), self._check_lease)
        self.address: str | None = None
        self._lease: FolderLease | None = None
        self.sources = Sources.imported()
        self._cleanup = contextlib.ExitStack()
        self._joined = False
        self._followers: dict[str, FollowerKeeper] = {}  # of each study, by its key
        self._way_on = ""  # names the command that resumes what is being carried out

    def __enter__(self) -> Self:
        """Make the folder, become its only user, and keep room for a failure.

        Raises:
            InputError: the folder cannot be written, or another process holds it.
        """
        try:
            self._lease = self._cleanup.enter_context(only_user(self.journal.folder, self._end_now, self.say))
            self.journal.keep_room()
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise InputError(f"results folder {self.out}: cannot be written ({reason})") from None
        self._cleanup.callback(self._finish_followers)
        return self

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def __exit__(self, *exception: object) -> None:
        self._cleanup.close()

    def find_cluster(self) -> None:
        """Find the command's Ray cluster, before anything is written.

        Raises:
            InputError: there is none at the address.
        """
        self.address = address_of(self.command.address)

    def join_cluster(self) -> None:
        """Join the command's Ray cluster, or start a local one. Later calls do nothing.

        Raises:
            InputError: no Ray cluster answers at the address, or Ray does not start; how to continue is printed.
        """
        if not self._joined:
            self.console.print("Joining Ray" if self.address else "Starting Ray", highlight=False)
            try:
                self._cleanup.enter_context(joined(self.address, package_folders(), self._abandon))
            except InputError:
                self.say(self._way_on)
                raise
            self._joined = True

    def locations(self, plan: AnyPlan, store: Store) -> "Locations":
        """Return where the workers of a plan's runs read and write."""
        from coablate_platform.lanes.tuner import Locations  # imports Ray Tune and Train

        return Locations.below(self.journal.folder, store, self.journal, self._source_folder(plan))

    def train(
        self, plan: AnyPlan, study: Study | Search, scheduler: "Scheduler", locations: "Locations", display: Display
    ) -> None:
        """Train every run of a scheduler on the joined cluster, as :func:`~coablate_platform.lanes.tuner.run_all` does.

        A cluster that grows by itself is asked for nodes.
        """
        from coablate_platform.lanes.tuner import run_all

        run_all(
            study,
            scheduler,
            locations,
            display.update,
            display.begin,
            display.warn,
            account_keeper(self.journal, plan.key),
            mixed=self.accepts.mixed,
            grows=self.address is not None and can_grow(),
        )

    def accept_recorded(self, what: str, changed: str) -> None:
        """Check that the user accepts results of other code than the code at hand.

        Args:
            what: the study or search.
            changed: which parts of the code differ, in words; empty if none does.

        Raises:
            InputError: some differ, and the user has not accepted it.
        """
        if changed and not (self.accepts.as_recorded or self.accepts.mixed):
            raise InputError(
                f"{what} has results of other code than the code at hand: {changed}; another --out computes them anew, "
                "--as-recorded takes them as they are and says so in the caption"
            )

    def say(self, line: str) -> None:
        """Print a line as it is, without passwords."""
        self.console.print(masked(line), soft_wrap=True, highlight=False, markup=False)

    def resuming(self, plan: AnyPlan) -> str:
        """Return the command that resumes a study or a search; of a confirmation, its search."""
        key = (isinstance(plan, StudyPlan) and plan.confirms) or plan.key
        return f"coablate resume {self.out} --study {key}{self.accepts.options}"

    def _source_folder(self, plan: AnyPlan) -> str:
        """Return the folder from which a plan's workers import the user's files; empty if there are no such files."""
        return source_copies(self.journal, plan.key, self.sources.digest) if self.sources.files else ""

    @contextlib.contextmanager
    def following(self, plan: AnyPlan) -> Iterator[None]:
        """Write a plan and copies of the user's files, and run the MLflow follower during the block.

        At the block's end the follower is asked to finish; the session waits for it at its exit.

        If the block is interrupted or fails, but not where the input was wrong, the command that resumes it is printed.
        """
        for name, content in self.sources.files.items():
            self.journal.write_study_file(plan.key, f"source/{self.sources.digest}/{name}", content)
        self.journal.write_plan(plan)
        follower = FollowerKeeper(self.journal.folder.uri, plan.key, self.command.tracking, self.say)
        self._followers[plan.key] = follower
        self._way_on = f"To continue: {self.resuming(plan)}"
        try:
            yield
        except InputError:  # nothing was trained that MLflow lacks: its follower ends without being waited for
            del self._followers[plan.key]
            raise
        except (KeyboardInterrupt, Exception):
            self.say(self._way_on)
            raise
        finally:
            follower.ask_to_finish()

    def _abandon(self) -> None:
        """End this process because Ray's control process has: clean-up would wait for it."""
        self._end_now("Ray's control process has ended; what is recorded is kept")

    def _end_now(self, reason: str) -> None:
        """End this process without clean-up, which could write or wait. The followers finish."""
        if self._way_on:
            self.say(self._way_on)
        self.console.show_cursor()
        print(f"coablate: {reason}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)

    def _finish_followers(self) -> None:
        """Wait for the followers, and print how to catch up if MLflow is not up to date."""
        for key, follower in self._followers.items():
            if follower.finish() != 0:
                self.say(f"MLflow is not up to date; to update it: coablate track {self.out} --study {key}")


def _read(file: Path) -> str:
    """Return a small file's text; empty if it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
