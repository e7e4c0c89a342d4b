"""A search on a simulated clock: learning curves instead of training, so that hundreds of trials take seconds.

The schedulers are those of a real search. A lane takes as long for an epoch as the curve says. Of reports that are due
at one moment, that of the lower lane comes first, so a simulation is deterministic.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.study.config import RunConfig
from coablate_platform.train.events import EpochReport, RunState, RunUpdate
from coablate_platform.train.task import Task


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What training would report: the metric after each epoch (NaN: it diverges there), and seconds an epoch."""

    values: Sequence[float]
    seconds: float = 1.0


@dataclass(kw_only=True)
class MemoryTrialLog:
    """Trials and runs in memory. Implements :class:`coablate_platform.journal.trials.TrialLog`."""

    owner: str = "memory"
    records: dict[int, TrialRecord] = field(default_factory=dict)
    states: dict[str, RunState] = field(default_factory=dict)
    reports: dict[str, list[EpochReport]] = field(default_factory=dict)
    discarded: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)  # run that went on from another's weights -> after which epoch

    def trials(self) -> list[TrialRecord]:
        return [self.records[number] for number in sorted(self.records)]

    def write_trial(self, record: TrialRecord) -> None:
        self.records[record.number] = record

    def state(self, run_id: str) -> RunState:
        return self.states.get(run_id, RunState.WAITING)

    def epochs(self, run_id: str) -> list[EpochReport]:
        return self.reports.get(run_id, [])

    def stop(self, run_id: str) -> None:
        self.states[run_id] = RunState.STOPPED

    def discard(self, run_id: str) -> None:
        self.discarded.add(run_id)

    def fork(self, parent: str, child: str) -> None:
        self.begun[child] = self.reached(parent)

    def reached(self, run_id: str) -> int:
        """Return the last epoch that a run has behind it, its own or inherited."""
        return self.begun.get(run_id, 0) + len(self.epochs(run_id))


@dataclass(order=True)
class _Due:
    """A report that is due."""

    time: float
    lane: int
    task: Task = field(compare=False)
    curve: Curve = field(compare=False)


class Simulated(Protocol):
    """What a simulation needs of a scheduler."""

    def next(self) -> Task | None:
        """Return a run to train, or None where none is left, or none before others have reported."""
        ...

    def report(self, run_id: str, update: RunUpdate, /) -> bool:
        """Take in what a run reports, and return whether it must stop."""
        ...


class Simulator:
    """Lanes that follow learning curves.

    Args:
        scheduler: the search's.
        log: the scheduler's own; another search's scheduler needs none, and gets an empty one.
        curve: returns what a configuration would report.
        metric: name of the reported metric.
        lanes: how many runs train at a time.

    Attributes:
        time: seconds on the simulated clock.
        epochs: epochs trained by all lanes.
    """

    def __init__(
        self,
        scheduler: Simulated,
        log: MemoryTrialLog,
        curve: Callable[[RunConfig], Curve],
        metric: str,
        lanes: int,
    ) -> None:
        self._scheduler, self._log, self._curve, self._metric = scheduler, log, curve, metric
        self._idle = list(range(lanes))
        self._due: list[_Due] = []
        self.time, self.epochs = 0.0, 0

    def run(self, events: int | None = None) -> bool:
        """Simulate so many reports, or all, and return whether the search has ended."""
        while events is None or events > 0:
            self._fill()
            if not self._due:
                return True
            self._report(heapq.heappop(self._due))
            events = None if events is None else events - 1
        return False

    def _fill(self) -> None:
        """Hand runs to the idle lanes."""
        while self._idle and (task := self._scheduler.next()) is not None:
            self._log.states[task.run_id] = RunState.RUNNING
            curve, lane = self._curve(task.config), heapq.heappop(self._idle)
            heapq.heappush(self._due, _Due(self.time + curve.seconds, lane, task, curve))

    def _report(self, due: _Due) -> None:
        """Report an epoch, and after the last of them the end."""
        self.time, self.epochs = due.time, self.epochs + 1
        run_id = due.task.run_id
        epoch = self._log.reached(run_id) + 1
        value = due.curve.values[epoch - 1]
        if math.isnan(value):
            stopped = self._end(run_id, RunState.DIVERGED)
        else:
            report = EpochReport(epoch=epoch, metrics={self._metric: value}, seconds=due.curve.seconds)
            self._log.reports.setdefault(run_id, []).append(report)
            stopped = self._scheduler.report(run_id, RunUpdate.of_epoch(report))
            if not stopped and epoch == len(due.curve.values):
                stopped = self._end(run_id, RunState.COMPLETED)
        if stopped:
            heapq.heappush(self._idle, due.lane)
        else:
            heapq.heappush(self._due, _Due(self.time + due.curve.seconds, due.lane, due.task, due.curve))

    def _end(self, run_id: str, state: RunState) -> bool:
        self._log.states[run_id] = state
        self._scheduler.report(run_id, RunUpdate(state=state, reason="the loss became nan"))
        return True
