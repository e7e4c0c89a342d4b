"""What a user sees while a search runs."""

import time

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coablate_platform.journal.trials import TrialOutcome, TrialRecord, drawn_text, trial_name
from coablate_platform.screen.progress import OnScreen, clock
from coablate_platform.search.scheduler import SearchScheduler
from coablate_platform.study.plan import SearchPlan
from coablate_platform.train.events import RunState, RunUpdate

SHOWN_TRIALS = 12


class SearchProgress(OnScreen):
    """Follows a search's trials: the best and the newest of them, or plain lines where there is no terminal.

    Args:
        plan: the search's.
        scheduler: its records are shown.
        console: where to print.
    """

    def __init__(self, plan: SearchPlan, scheduler: SearchScheduler, console: Console) -> None:
        super().__init__(console)
        self._plan, self._scheduler = plan, scheduler
        self._last: dict[str, tuple[str, bool]] = {}  # run id -> its last update in words, and whether it stopped there
        self._started = time.monotonic()
        self._before = sum(record.outcome is not None for record in scheduler.records)

    def update(self, run_id: str, update: RunUpdate, stops: bool) -> None:
        """Show what a run reports, and whether it stops there."""
        if update.state is RunState.RUNNING:
            value = update.metrics[f"validation/{self._plan.metric}"]
            said = f"epoch {update.epoch}/{self._plan.epochs}  validation {value:.1%}"
        else:
            said = "completed" if update.state is RunState.COMPLETED else f"{update.state.value}: {update.reason}"
        self._last[run_id] = said, stops
        if stops or update.state.ended:
            trial = next(record for record in self._scheduler.records if record.run_id == run_id)
            self._say(f"{trial_name(trial.number)}: {self._standing(trial)}  [{self._pace()}]")

    def _standing(self, trial: TrialRecord) -> str:
        said, stopped = self._last.get(trial.run_id, (str(trial.outcome or "·"), False))
        if not stopped:
            return said
        ended = "replaced" if self._plan.stopping.rule == "pbt" else "given up"
        return f"{'pauses' if trial.outcome is None else ended} after {said}"

    def _render(self) -> Table:
        table = Table(title=Text(f"{self._plan.title} — {self._plan.protocol}"), caption=self._pace())
        table.add_column("trial", justify="right")
        table.add_column("draws")
        table.add_column("", min_width=34)
        for record in self._scheduler.records[-SHOWN_TRIALS:]:
            table.add_row(str(record.number), Text(drawn_text(record)), Text(self._standing(record)))
        return table

    def _pace(self) -> str:
        ended = [record for record in self._scheduler.records if record.outcome is not None]
        values = [(record.values[0], -record.number) for record in ended if record.outcome is TrialOutcome.COMPLETE]
        best = f"best {max(values)[0]:.1%} (trial {-max(values)[1]})" if values else "none completed yet"
        elapsed, done = time.monotonic() - self._started, len(ended) - self._before
        planned = max(self._plan.trials, len(self._scheduler.records))  # in a population some are replaced
        left = elapsed / done * (planned - len(ended)) if done else None
        rest = f", about {clock(left)} left" if left else ""
        return f"{len(ended)} of {planned} trials, {best}, {clock(elapsed)} gone{rest}"
