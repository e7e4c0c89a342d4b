"""What a user asked for, and the work on it: alone on its folder, followed by MLflow, resumable."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from coablate_platform.files import locked
from coablate_platform.journal.journal import Journal
from coablate_platform.study.errors import InputError, LaneLostError
from coablate_platform.study.plan import StudyPlan
from coablate_platform.tracking.follower import finish_follower, start_follower


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the user asked for; kept with the study, so that ``resume`` can ask for the same.

    Args:
        study: a shipped name, ``package.module`` or a path to a ``.py`` file.
        data: the prepared store.
        protocol: which rows train and test; None: the study's, else the store's default.
        seeds: number of seeds (of a search: of its confirmation); None: the study's.
        overrides: ``field=value`` texts.
        address: ``host:port`` of a running Ray cluster; None starts a local one.
        tracking: MLflow tracking URI; None: the embedded one in the results folder.
        gpus: what a worker holds of them, a number or ``fit``; None: as the study says.
        trials: how many a search draws; None: as it declares.
        sampler: who draws them; None: as it declares.
        grace: epochs before a trial may be given up; None: as it declares.
        storage: URL of Optuna's storage; None: an SQLite file in the results folder.
        warm: earlier searches in the results folder to learn from, by name or key.
    """

    study: str
    data: str
    protocol: str | None = None
    seeds: int | None = None
    overrides: tuple[str, ...] = ()
    address: str | None = None
    tracking: str | None = None
    gpus: str | None = None
    trials: int | None = None
    sampler: str | None = None
    grace: int | None = None
    storage: str | None = None
    warm: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Session:
    """Work on a command.

    Args:
        command: what is asked for.
        out: the results folder.
        console: who is told.
        mixed: whether a table may hold runs of several versions.
    """

    command: Command
    out: Path
    console: Console
    mixed: bool = False

    @property
    def journal(self) -> Journal:
        """The journal of the results folder."""
        return Journal(str(self.out.resolve()))

    @contextlib.contextmanager
    def on(self, plan: StudyPlan, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Work on a study alone in its folder, with MLflow following.

        Args:
            plan: the study's.
            check: what may still refuse it, called before anything is written.

        Raises:
            InputError: the folder cannot be written, or another process works in it.
        """
        with _only_one(self.out):
            check()
            self.journal.write_plan(plan)
            follower = start_follower(str(self.out.resolve()), plan.key, self.command.tracking)
            try:
                yield
            except (KeyboardInterrupt, LaneLostError):
                again = f"coablate resume {self.out} --study {plan.concludes or plan.key}{' --mixed' * self.mixed}"
                self.console.print(f"Go on with: {again}", soft_wrap=True, highlight=False)
                raise
            finally:
                if finish_follower(follower):
                    late = f"coablate track {self.out} --study {plan.key}"
                    self.console.print(f"MLflow is not up to date; catch up with: {late}", soft_wrap=True)


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two processes never write the same runs: studies share them."""
    taken = f"results folder {out}: another process is at work in it; wait for it, or use another"
    lock = contextlib.ExitStack()
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.enter_context(locked(out / ".lock", wait=False, taken=taken))
    except OSError as error:
        raise InputError(f"results folder {out}: cannot be written ({error.strerror})") from None
    with lock:
        yield
