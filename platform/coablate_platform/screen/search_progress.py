"""Shows the progress of a search: a live table of its newest trials on a terminal, else plain lines."""

import time

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from coablate_platform.journal.trials import TrialOutcome, TrialRecord, parameters_text, trial_name
from coablate_platform.screen.progress import LiveDisplay, clock
from coablate_platform.search.scheduler import SearchScheduler
from coablate_platform.study.plan import SearchPlan
from coablate_platform.train.events import RunState, RunUpdate

SHOWN_TRIALS = 12
"""How many trials the live table shows."""


class SearchProgress(LiveDisplay):
    """The progress of a search's trials.

    Args:
        plan: the search's plan.
        scheduler: the search's scheduler, whose trials are shown.
        console: where to show it.
    """

    def __init__(self, plan: SearchPlan, scheduler: SearchScheduler, console: Console) -> None:
        super().__init__(console)
        self._plan, self._scheduler = plan, scheduler
        self._last: dict[str, tuple[str, bool]] = {}  # run id -> its last report as text, and whether it stopped there
        self._started = time.monotonic()
        self._ended_before = sum(record.outcome is not None for record in scheduler.records)

    def update(self, run_id: str, update: RunUpdate, stops: bool) -> None:
        """Show what a run reports: an epoch, its completion or its failure.

        Args:
            run_id: the run.
            update: its report.
            stops: whether the scheduler stops the run after this report, for good or as a pause in a population.
        """
        if update.state is RunState.RUNNING:
            value = update.metrics.get(f"validation/{self._plan.metric}")
            text = f"epoch {update.epoch}/{self._plan.epochs}  "
            text += update.phase if value is None else f"validation {value:.1%}"
        else:
            text = "completed" if update.state is RunState.COMPLETED else f"{update.state.value}: {update.reason}"
        failed = update.state.ended and update.state is not RunState.COMPLETED
        self._last[run_id] = text, stops
        if stops or update.state.ended:
            trial = next(record for record in self._scheduler.records if record.run_id == run_id)
            line = f"{trial_name(trial.number)}: {self._status_text(trial)}  [{self._pace_text()}]"
            self._print_line(line, always=failed)

    def _status_text(self, trial: TrialRecord) -> str:
        text, stopped = self._last.get(trial.run_id, (str(trial.outcome or "·"), False))
        if trial.outcome is TrialOutcome.COMPLETE:
            return f"completed, {self._plan.metric} {trial.values[0]:.1%}"
        if not stopped:
            return text
        if trial.outcome is None:
            return f"paused after {text}"
        return f"{'replaced' if self._plan.stopping.rule == 'pbt' else 'pruned'} after {text}"

    def _render(self) -> RenderableType:
        """Return the newest trials first: a screen that is too low cuts off the oldest."""
        table = Table()
        table.add_column("trial", justify="right")
        table.add_column("configuration", overflow="fold")
        table.add_column("", min_width=24, overflow="fold")
        for record in reversed(self._scheduler.records[-SHOWN_TRIALS:]):
            table.add_row(str(record.number), Text(parameters_text(record)), Text(self._status_text(record)))
        title = Text(f"{self._plan.title} — {self._plan.protocol}", "italic")
        return Group(title, Text(self._pace_text(), "dim"), table)

    def _pace_text(self) -> str:
        """Return how many trials have ended, the best so far, the time elapsed and an estimate of the time left."""
        ended = [record for record in self._scheduler.records if record.outcome is not None]
        values = [(record.values[0], -record.number) for record in ended if record.outcome is TrialOutcome.COMPLETE]
        best = f"best {max(values)[0]:.1%} (trial {-max(values)[1]})" if values else "none completed yet"
        if not self._last:
            return self._phase
        elapsed, done = time.monotonic() - self._started, len(ended) - self._ended_before
        planned = max(self._plan.trials, len(self._scheduler.records))  # a population grows as members are replaced
        left = elapsed / done * (planned - len(ended)) if done else None
        remaining = f", about {clock(left)} left" if left else ""
        return f"{len(ended)} of {planned} trials, {best}, {clock(elapsed)} gone{remaining}"
