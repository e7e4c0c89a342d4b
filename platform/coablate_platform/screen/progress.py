"""Shows the progress of a study: a live table of arms × seeds on a terminal, else plain lines."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.events import RunState, RunUpdate

PLAIN_LINES_A_RUN = 3
"""About how many lines report the epochs of a run where there is no live table."""
_SEED_WIDTH = 10  # of a seed's column with its border, on two lines a cell
_ARM_WIDTH = 24  # that the column of the arms has at least
_FRAME_LINES = 8  # of the live table besides its rows


class LiveDisplay(ABC):
    """A context in which a live table is shown if the console is a terminal; else lines are printed.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._phase = "starting"

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, phase: str) -> None:
        """Show what begins, in words, until the first report."""
        self._phase = phase
        self._print_line(f"{phase[0].upper()}{phase[1:]}")

    def warn(self, line: str) -> None:
        """Print a line about something that does not stop the study."""
        self._print_line(line, always=True)

    def _print_line(self, line: str, always: bool = False) -> None:
        """Print a line; above a live table, if one is shown, only those that are ``always`` printed."""
        if always or not self._live:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @abstractmethod
    def _render(self) -> RenderableType:
        """Return the live table as it is now."""


class Progress(LiveDisplay):
    """The progress of a study's runs.

    Args:
        plan: the study's plan.
        epochs: epochs of a whole run.
        done: run id -> test metric, of the runs that were completed before.
        console: where to show it.
    """

    def __init__(self, plan: StudyPlan, epochs: int, done: dict[str, float], console: Console) -> None:
        super().__init__(console)
        self._plan, self._epochs = plan, epochs
        self._cells = {run.run_id: Text("·") for run in plan.runs}
        self._cells |= {run_id: Text(f"{value:.1%}\n(known)", "green") for run_id, value in done.items()}
        self._epochs_left = {run.run_id: epochs for run in plan.runs if run.run_id not in done}
        self._epochs_planned = sum(self._epochs_left.values())
        self._names = {run.run_id: f"{run.arm}, seed {run.seed}" for run in plan.runs}
        self._started: float | None = None  # when the first reported epoch began: the start of Ray does not count

    def update(self, run_id: str, update: RunUpdate, stops: bool = False) -> None:
        """Show what a run reports: an epoch, its completion or its failure.

        Args:
            run_id: the run.
            update: its report.
            stops: whether a scheduler stops the run; never true in a study.
        """
        if self._started is None:
            self._started = time.monotonic() - update.seconds
        if update.state.ended:
            self._epochs_left[run_id] = 0
            line: str | None = self._show_end(run_id, update)
        else:
            self._epochs_left[run_id] = self._epochs - update.epoch
            line = self._show_epoch(run_id, update)
        if line:
            failed = update.state.ended and update.state is not RunState.COMPLETED
            self._print_line(f"{self._names[run_id]}: {line}  [{self._pace_text()}]", always=failed)

    def _show_end(self, run_id: str, update: RunUpdate) -> str:
        """Fill the cell of a run that has ended, and return its line."""
        if update.state is not RunState.COMPLETED:
            self._cells[run_id] = Text(update.state.value, "red")
            return f"{update.state.value}: {update.reason}"
        tested = f"{update.metrics[f'test/{self._plan.metric}']:.1%}"
        self._cells[run_id] = Text(tested, "green")
        return f"test {self._plan.metric} {tested}"

    def _show_epoch(self, run_id: str, update: RunUpdate) -> str | None:
        """Fill the cell of a run that trains, and return its line, if this epoch gets one."""
        metric = self._plan.metric
        if update.phase:
            text = f"{update.phase} loss {update.metrics[f'{update.phase}/train/loss']:.3g}"
            below = update.phase
        else:
            split = next(name for name in ("validation", "train") if f"{name}/{metric}" in update.metrics)
            below = f"{update.metrics[f'{split}/{metric}']:.1%}"
            text = f"{split} {below}"
        self._cells[run_id] = Text(f"{update.epoch}/{self._epochs}\n{below}")
        if update.epoch % max(self._epochs // PLAIN_LINES_A_RUN, 1):
            return None
        return f"epoch {update.epoch}/{self._epochs}  {text}  {update.seconds:.1f} s/epoch"

    def _render(self) -> RenderableType:
        """Return a table for as many seeds as fit side by side, and what is left to do above it."""
        seeds = sorted({run.seed for run in self._plan.runs})
        together = max((self._console.width - _ARM_WIDTH) // _SEED_WIDTH, 1)
        groups = [seeds[first : first + together] for first in range(0, len(seeds), together)]
        title = Text(f"{self._plan.title} — {self._plan.protocol}", "italic")
        return Group(title, Text(self._pace_text(), "dim"), *(self._table(group, len(groups)) for group in groups))

    def _table(self, seeds: Sequence[int], tables: int) -> Table:
        """Return the table of some seeds; where it is too high for the screen, the arms that train come first.

        Args:
            seeds: the seeds.
            tables: how many such tables share the screen.
        """
        table = Table()
        table.add_column("arm", overflow="fold")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right", min_width=_SEED_WIDTH - 3)
        rows = {arm.name: self._row(arm.name, seeds) for arm in self._plan.arms}
        most = max((self._console.height // tables - _FRAME_LINES) // 2, 1)
        shown = sorted(rows, key=lambda arm: not self._trains(arm))[:most]
        for arm in (arm for arm in rows if arm in shown):
            table.add_row(Text(arm), *rows[arm])
        if hidden := len(rows) - len(shown):
            table.caption = f"and {hidden} more arms, {sum(self._ended(arm) for arm in rows if arm not in shown)} done"
        return table

    def _trains(self, arm: str) -> bool:
        """Return whether a run of the arm has begun and not ended."""
        left = (self._epochs_left.get(run.run_id, 0) for run in self._plan.runs if run.arm == arm)
        return any(0 < epochs < self._epochs for epochs in left)

    def _ended(self, arm: str) -> bool:
        return not any(self._epochs_left.get(run.run_id, 0) for run in self._plan.runs if run.arm == arm)

    def _row(self, arm: str, seeds: Sequence[int]) -> list[Text]:
        by_seed = {run.seed: self._cells[run.run_id] for run in self._plan.runs if run.arm == arm}
        return [by_seed.get(seed, Text()) for seed in seeds]

    def _pace_text(self) -> str:
        """Return the speed, the time elapsed and an estimate of the time left."""
        left = sum(self._epochs_left.values())
        done = self._epochs_planned - left
        if self._started is None or not done:
            return self._phase
        elapsed = time.monotonic() - self._started
        if not left:
            return f"done in {clock(elapsed)}"
        pace, remaining = done / elapsed * 60, elapsed / done * left
        return f"{pace:.1f} epochs/min, {clock(elapsed)} gone, about {clock(remaining)} left"


def clock(seconds: float) -> str:
    """Write a duration as ``hours:minutes:seconds``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
