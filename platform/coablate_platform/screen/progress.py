"""What a user sees while a study runs: one live table of arms × seeds, or plain lines where there is no terminal."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.events import RunState, RunUpdate

PLAIN_LINES_A_RUN = 3


class OnScreen(ABC):
    """What is shown while it is entered: a live table where there is a terminal, else what is printed.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def _say(self, line: str) -> None:
        """Print a line where there is no live table."""
        if not self._live:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @abstractmethod
    def _render(self) -> Table: ...


class Progress(OnScreen):
    """Follows a study's runs.

    Args:
        plan: arms and seeds, the table's shape.
        epochs: each run's full budget.
        done: runs that were completed before, with their test metric.
        console: where to print.
    """

    def __init__(self, plan: StudyPlan, epochs: int, done: dict[str, float], console: Console) -> None:
        super().__init__(console)
        self._plan, self._epochs = plan, epochs
        self._cells = {run.run_id: Text("·") for run in plan.runs}
        self._cells |= {run_id: Text(f"{value:.1%} (known)", "green") for run_id, value in done.items()}
        self._epochs_left = {run.run_id: epochs for run in plan.runs if run.run_id not in done}
        self._epochs_planned = sum(self._epochs_left.values())
        self._names = {run.run_id: f"{run.arm}, seed {run.seed}" for run in plan.runs}
        self._started: float | None = None  # with the first epoch, so that starting up does not count

    def update(self, run_id: str, update: RunUpdate, stops: bool = False) -> None:
        """Show what a run reports: an epoch, its conclusion or a failure. No run of a study stops early."""
        if self._started is None:
            self._started = time.monotonic() - update.seconds
        metric, line = self._plan.metric, None
        if update.state is RunState.COMPLETED:
            self._epochs_left[run_id] = 0
            tested = f"{update.metrics[f'test/{metric}']:.1%}"
            self._cells[run_id] = Text(tested, "green")
            line = f"test {metric} {tested}"
        elif update.state.ended:
            self._epochs_left[run_id] = 0
            self._cells[run_id] = Text(update.state.value, "red")
            line = f"{update.state.value}: {update.reason}"
        else:
            self._epochs_left[run_id] = self._epochs - update.epoch
            split = next(name for name in ("validation", "train") if f"{name}/{metric}" in update.metrics)
            shown = f"{split} {update.metrics[f'{split}/{metric}']:.1%}"
            self._cells[run_id] = Text(f"{update.epoch}/{self._epochs}  {shown}")
            if update.epoch % max(self._epochs // PLAIN_LINES_A_RUN, 1) == 0:
                line = f"epoch {update.epoch}/{self._epochs}  {shown}  {update.seconds:.1f} s/epoch"
        if line:
            self._say(f"{self._names[run_id]}: {line}  [{self._pace()}]")

    def _render(self) -> Table:
        seeds = sorted({run.seed for run in self._plan.runs})
        table = Table(title=Text(f"{self._plan.title} — {self._plan.protocol}"), caption=self._pace())
        table.add_column("arm")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right", min_width=18)
        for arm in self._plan.arms:
            table.add_row(Text(arm.name), *self._row(arm.name, seeds))
        return table

    def _row(self, arm: str, seeds: Sequence[int]) -> list[Text]:
        by_seed = {run.seed: self._cells[run.run_id] for run in self._plan.runs if run.arm == arm}
        return [by_seed.get(seed, Text()) for seed in seeds]

    def _pace(self) -> str:
        left = sum(self._epochs_left.values())
        done = self._epochs_planned - left
        if self._started is None or not done:
            return "starting"
        elapsed = time.monotonic() - self._started
        if not left:
            return f"done in {clock(elapsed)}"
        return f"{done / elapsed * 60:.1f} epochs/min, {clock(elapsed)} gone, about {clock(elapsed / done * left)} left"


def clock(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
