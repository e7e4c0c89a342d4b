"""A search on a simulated clock: known learning curves instead of training, so that hundreds of trials take seconds.

The same scheduler decides as on a cluster. A lane takes as long for an epoch as the curve says; of reports due at one
moment, the one of the lower lane comes first, so a simulation is deterministic.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.scheduler import Draw, Sweep
from coablate_platform.study.config import RunConfig
from coablate_platform.train.events import EpochReport, RunState


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What training would report: the metric after each epoch (NaN: it diverges there), and seconds an epoch."""

    values: Sequence[float]
    seconds: float = 1.0


@dataclass(kw_only=True)
class MemoryBook:
    """A book for trials and runs that are not written to disk."""

    owner: str = "memory"
    records: dict[int, TrialRecord] = field(default_factory=dict)
    states: dict[str, RunState] = field(default_factory=dict)
    reports: dict[str, list[EpochReport]] = field(default_factory=dict)
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

    def fork(self, parent: str, child: str) -> None:
        self.begun[child] = self.reached(parent)

    def reached(self, run_id: str) -> int:
        """Return the last epoch that a run has behind it, its own or inherited."""
        return self.begun.get(run_id, 0) + len(self.epochs(run_id))


@dataclass(order=True)
class _Due:
    time: float
    lane: int
    draw: Draw = field(compare=False)
    curve: Curve = field(compare=False)


class Simulation:
    """Lanes that follow curves.

    Args:
        sweep: what decides.
        book: the sweep's own.
        curve: returns what a configuration would report.
        metric: name of the report's metric.
        lanes: runs at a time.

    Attributes:
        time: seconds on the simulated clock.
        epochs: epochs trained by all lanes.
    """

    def __init__(
        self, sweep: Sweep, book: MemoryBook, curve: Callable[[RunConfig], Curve], metric: str, lanes: int
    ) -> None:
        self._sweep, self._book, self._curve, self._metric = sweep, book, curve, metric
        self._idle = list(range(lanes))
        self._due: list[_Due] = []
        self.time, self.epochs = 0.0, 0

    def run(self, events: int | None = None) -> bool:
        """Go on for so many reports, or to the end; return whether the search has come to it."""
        while events is None or events > 0:
            self._fill()
            if not self._due:
                return True
            self._happen(heapq.heappop(self._due))
            events = None if events is None else events - 1
        return False

    def _fill(self) -> None:
        while self._idle and (draw := self._sweep.next()) is not None:
            self._book.states[draw.run_id] = RunState.RUNNING
            curve, lane = self._curve(draw.config), heapq.heappop(self._idle)
            heapq.heappush(self._due, _Due(self.time + curve.seconds, lane, draw, curve))

    def _happen(self, due: _Due) -> None:
        """Report an epoch, and after the last of them the end."""
        self.time, self.epochs = due.time, self.epochs + 1
        run_id = due.draw.run_id
        reports = self._book.reports.setdefault(run_id, [])
        epoch = self._book.reached(run_id) + 1
        value = due.curve.values[epoch - 1]
        if value != value:
            stopped = self._end(run_id, RunState.DIVERGED)
        else:
            reports.append(EpochReport(epoch=epoch, metrics={self._metric: value}, seconds=due.curve.seconds))
            said = {"state": RunState.RUNNING.value, "epoch": epoch, self._metric: value}
            stopped = self._sweep.report(run_id, said)
            if not stopped and epoch == len(due.curve.values):
                stopped = self._end(run_id, RunState.COMPLETED)
        if stopped:
            heapq.heappush(self._idle, due.lane)
        else:
            heapq.heappush(self._due, _Due(self.time + due.curve.seconds, due.lane, due.draw, due.curve))

    def _end(self, run_id: str, state: RunState) -> bool:
        self._book.states[run_id] = state
        self._sweep.report(run_id, {"state": state.value, "reason": "the loss became nan"})
        return True
