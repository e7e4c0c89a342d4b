"""What a user asked for, and the work on it: alone in its folder, on one cluster, followed by MLflow."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from coablate_platform.files import locked
from coablate_platform.journal.journal import Journal
from coablate_platform.lanes.cluster import joined, package_folders
from coablate_platform.study.errors import InputError, LaneLostError
from coablate_platform.study.extensions import file_of, moved_reference
from coablate_platform.study.plan import AnyPlan, StudyPlan
from coablate_platform.study.source import Sources
from coablate_platform.tracking.follower import finish_follower, start_follower


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the user asked for; kept with the study, so that ``resume`` can ask for the same.

    Args:
        study: a shipped or registered name, ``package.module`` or an absolute path to a ``.py`` file.
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
        source: digest of the user's own files that were imported for it; empty where there were none.
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
    source: str = ""

    @property
    def files(self) -> list[Path]:
        """The user's own files that the options name."""
        named = [self.study, self.protocol, self.sampler, *(text.partition("=")[2] for text in self.overrides)]
        return [file for text in named if text is not None and (file := file_of(text)) is not None]

    def with_files_in(self, folder: Path) -> "Command":
        """Return the command with the copies in a folder in place of the user's own files."""

        def moved(text: str) -> str:
            return moved_reference(text, folder, study=file_of(text) == file_of(self.study))

        values = [text.partition("=") for text in self.overrides]
        return replace(
            self,
            study=moved(self.study),
            protocol=self.protocol and moved(self.protocol),
            sampler=self.sampler and moved(self.sampler),
            overrides=tuple(f"{field}{equals}{moved(value)}" for field, equals, value in values),
        )

    def to_repeat(self) -> dict[str, Any]:
        """Return the options that ``resume`` repeats, with what is imported of the user's files now."""
        return asdict(replace(self, source=Sources.imported().digest))


def kept_source(out: Path, key: str, digest: str) -> Path:
    """Return the folder in which a study's results keep the user's own files of that digest."""
    return out.resolve() / "studies" / key / "source" / digest


class Session:
    """Work on a command, alone in its results folder.

    Entered, it holds the folder's lock; the Ray cluster is joined when it is first needed. Both are kept until the end,
    so between a search and its confirmation too.

    Args:
        command: what is asked for.
        out: the results folder.
        console: where the user is told.
        mixed: whether a table may hold runs of several versions.
    """

    def __init__(self, command: Command, out: Path, console: Console, mixed: bool = False) -> None:
        self.command, self.out, self.console, self.mixed = command, out, console, mixed
        self.journal = Journal(str(out.resolve()))
        self.sources = Sources.imported()
        self._ends = contextlib.ExitStack()
        self._joined = False

    def __enter__(self) -> Self:
        """Take the folder's lock, so that two processes never write the same runs: studies share them.

        Raises:
            InputError: the folder cannot be written, or another process works in it.
        """
        taken = f"results folder {self.out}: another process is at work in it; wait for it, or use another"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self._ends.enter_context(locked(self.out / ".lock", wait=False, taken=taken))
        except OSError as error:
            raise InputError(f"results folder {self.out}: cannot be written ({error.strerror})") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._ends.close()

    def join_cluster(self) -> None:
        """Join the command's Ray cluster, or start a local one, unless that has been done.

        Raises:
            InputError: no Ray answers at the address.
        """
        if not self._joined:
            self._ends.enter_context(joined(self.command.address, package_folders()))
            self._joined = True

    def source_folder(self, plan: AnyPlan) -> str:
        """Return where the user's own files are kept for a plan's workers; empty where there are none."""
        return str(kept_source(self.out, plan.key, self.sources.digest)) if self.sources.files else ""

    @contextlib.contextmanager
    def following(self, plan: AnyPlan) -> Iterator[None]:
        """Write a plan and the user's own files, and let MLflow follow the work. An interruption says how to go on."""
        for name, content in self.sources.files.items():
            self.journal.write_study_file(plan.key, f"source/{self.sources.digest}/{name}", content)
        self.journal.write_plan(plan)
        follower = start_follower(self.journal.folder.uri, plan.key, self.command.tracking)
        try:
            yield
        except (KeyboardInterrupt, LaneLostError):
            key = (isinstance(plan, StudyPlan) and plan.confirms) or plan.key
            again = f"coablate resume {self.out} --study {key}{' --mixed' * self.mixed}"
            self.console.print(f"Go on with: {again}", soft_wrap=True, highlight=False)
            raise
        finally:
            if finish_follower(follower):
                late = f"coablate track {self.out} --study {plan.key}"
                self.console.print(f"MLflow is not up to date; catch up with: {late}", soft_wrap=True)
