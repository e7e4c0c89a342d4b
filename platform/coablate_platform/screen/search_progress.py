"""What a user sees while a search runs."""

import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coablate_platform.journal.trials import TrialOutcome, TrialRecord, drawn_text, trial_name
from coablate_platform.screen.progress import OnScreen, clock
from coablate_platform.search.scheduler import Sweep
from coablate_platform.study.plan import StudyPlan
from coablate_platform.train.events import RunState

SHOWN_TRIALS = 12


class SearchProgress(OnScreen):
    """Follows a search's trials: the best and the newest of them, or plain lines where there is no terminal.

    Args:
        plan: the search's.
        sweep: what decides; its records are shown.
        console: where to print.
    """

    def __init__(self, plan: StudyPlan, sweep: Sweep, console: Console) -> None:
        assert plan.search is not None
        super().__init__(console)
        self._plan, self._search, self._sweep = plan, plan.search, sweep
        self._last: dict[str, tuple[str, bool]] = {}  # run id -> what was said of it last, and if it was stopped there
        self._started, self._before = time.monotonic(), sum(record.outcome is not None for record in sweep.records)

    def update(self, run_id: str, result: dict[str, Any], stopped: bool) -> None:
        """Take in one result of a run, and whether it was given up after it."""
        state, metric, epochs = RunState(result["state"]), self._plan.metric, self._search.epochs
        if state is RunState.RUNNING:
            said = f"epoch {int(result['epoch'])}/{epochs}  validation {result[f'validation/{metric}']:.1%}"
        else:
            said = "completed" if state is RunState.COMPLETED else f"{state.value}: {result['reason']}"
        self._last[run_id] = said, stopped
        if stopped or state.ended:
            trial = next(record for record in self._sweep.records if record.run_id == run_id)
            self._say(f"{trial_name(trial.number)}: {self._standing(trial)}  [{self._pace()}]")

    def _standing(self, trial: TrialRecord) -> str:
        said, stopped = self._last.get(trial.run_id, (str(trial.outcome or "·"), False))
        if not stopped:
            return said
        ended = "replaced" if self._search.stopping["rule"] == "pbt" else "given up"
        return f"{'pauses' if trial.outcome is None else ended} after {said}"

    def _render(self) -> Table:
        table = Table(title=Text(f"{self._plan.title} — {self._plan.protocol}"), caption=self._pace())
        table.add_column("trial", justify="right")
        table.add_column("draws")
        table.add_column("", min_width=34)
        for record in self._sweep.records[-SHOWN_TRIALS:]:
            table.add_row(str(record.number), Text(drawn_text(record)), Text(self._standing(record)))
        return table

    def _pace(self) -> str:
        ended = [record for record in self._sweep.records if record.outcome is not None]
        values = [(record.values[0], -record.number) for record in ended if record.outcome is TrialOutcome.COMPLETE]
        best = f"best {max(values)[0]:.1%} (trial {-max(values)[1]})" if values else "none completed yet"
        elapsed, done = time.monotonic() - self._started, len(ended) - self._before
        planned = max(self._search.trials, len(self._sweep.records))  # in a population some are replaced
        left = elapsed / done * (planned - len(ended)) if done else None
        rest = f", about {clock(left)} left" if left else ""
        return f"{len(ended)} of {planned} trials, {best}, {clock(elapsed)} gone{rest}"
