"""A trial log whose process is killed at one of its writes."""

import pytest
from curves import said, simulate

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.simulator import MemoryTrialLog
from coablate_platform.study.search import Search


class KilledError(Exception):
    """The process is killed."""


def crashing(writes: int) -> type[MemoryTrialLog]:
    """A log whose process dies at one of its writes: the word is written, and nothing after it."""

    class Crashing(MemoryTrialLog):
        left = writes

        def _write(self) -> None:
            type(self).left -= 1
            if type(self).left == 0:
                raise KilledError

        def write_trial(self, record: TrialRecord) -> None:
            super().write_trial(record)
            self._write()

        def stop(self, run_id: str) -> None:
            super().stop(run_id)
            self._write()

        def discard(self, run_id: str) -> None:
            super().discard(run_id)
            self._write()

        def fork(self, parent: str, child: str) -> None:
            super().fork(parent, child)
            self._write()

    return Crashing


def check_same_course_after_a_kill(declared: Search, writes: int, lanes: int) -> None:
    """A search that is killed at one of its writes, and run again, ends as one that was not killed."""
    whole, simulator = simulate(declared, MemoryTrialLog(), lanes=lanes)
    simulator.run()
    log = crashing(writes)()
    with pytest.raises(KilledError):
        simulate(declared, log, lanes=lanes)[1].run()
    scheduler, simulator = simulate(declared, log, lanes=lanes)
    assert simulator.run()
    assert scheduler.records == whole.records
    assert said(scheduler) == said(whole)


def check_same_course_when_cut_off(declared: Search) -> None:
    """On one lane, a search that is cut off again and again ends as one that was not."""
    whole, simulator = simulate(declared, MemoryTrialLog(), lanes=1)
    simulator.run()
    log = MemoryTrialLog()
    for events in (1, 5, 30, 2, 17, None):
        scheduler, simulator = simulate(declared, log, lanes=1)
        simulator.run(events)
    assert said(scheduler) == said(whole)
