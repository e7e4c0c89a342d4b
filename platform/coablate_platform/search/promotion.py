"""Successive halving by promotion: a trial pauses at each rung, and the best of a rung train on.

A trial that is not among the best of its rung when it gets there is not given up: others that come after it may make
room for it. Its checkpoint is kept until then.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2. Our reading: of a
rung with fewer trials than η the best one is promoted too, so that every search completes a trial; and a trial that
is among the best when it reaches a rung trains on at once.
"""

from collections.abc import Iterator
from dataclasses import replace

from coablate_platform.journal.trials import TrialOutcome, TrialRecord
from coablate_platform.search.early_stopping import EarlyStoppingScheduler
from coablate_platform.search.rungs import halving_epochs
from coablate_platform.search.scheduler import SearchSetup
from coablate_platform.train.events import RunState


class PromotionScheduler(EarlyStoppingScheduler):
    """Pauses trials at the rungs of successive halving, and promotes the best ones to the next rung.

    Each promotion is written to the trial before its run trains on (``TrialRecord.rung``). So a search that was killed
    continues those trials, and knows which are paused.

    | a trial | its state |
    |---|---|
    | trains | in ``_waiting`` |
    | has reached its rung and is not among the best there | in ``_paused`` |
    | is promoted, or has not begun | in ``_open_records`` |
    | completed, failed or was given up | its record has an outcome |

    Raises:
        InputError: there can be no such storage for Optuna's study.
    """

    def __init__(self, setup: SearchSetup) -> None:
        super().__init__(setup)
        self._budget = setup.search.base.epochs
        self._rungs = halving_epochs(setup.search.stopping, self._budget)
        self._paused = {record.number for record in self._open_records if self._value_at_rung(record) is not None}
        self._open_records = [record for record in self._open_records if record.number not in self._paused]
        for number in self._paused:
            self._optuna.mark_paused(number, True)
        self._settle()

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to start, and none will be promoted any more. Runs may still train.

        While any run trains, the paused trials wait for it: it may fail and leave its place to one of them.
        """
        arriving = any(self._rung(number) < self._budget for numbers in self._waiting.values() for number in numbers)
        return super().exhausted and not arriving and not (self._paused and self._waiting)

    def _stops(self, number: int, epoch: int, value: float) -> bool:
        self._optuna.judge(number, epoch, value)
        while (rung := self._rung(number)) < self._budget and epoch >= rung:
            if number not in self._best(rung):
                return True
            self._promote(number)
        return False

    def _on_stop(self, number: int, epoch: int) -> None:
        self._paused.add(number)
        self._optuna.mark_paused(number, True)
        self._handed_out.discard(self._records[number].run_id)  # it is handed out again when it is promoted

    def _settle(self) -> None:
        """Promote the paused trials that are among the best of their rung now, and give up those without a chance."""
        for rung in reversed(self._rungs[:-1]):
            for number in self._best(rung):
                if number in self._paused and self._rung(number) == rung:
                    self._paused.remove(number)
                    self._optuna.mark_paused(number, False)
                    self._promote(number)
                    self._open_records.append(self._records[number])
        kept = 0 if self.exhausted else self._search.stopping.paused
        for number in self._by_place()[kept:] if len(self._paused) > kept else ():
            self._paused.remove(number)
            self._log.discard(self._records[number].run_id)
            self._end(number, RunState.STOPPED)

    def _rung(self, number: int) -> int:
        """Return the rung, in epochs, up to which a trial may train."""
        return self._records[number].rung or self._rungs[0]

    def _promote(self, number: int) -> None:
        following = next(rung for rung in self._rungs if rung > self._rung(number))
        self._write(replace(self._records[number], rung=following))

    def _best(self, rung: int) -> list[int]:
        """Return the trials that a rung promotes: one in η, and at least one."""
        ranked = self._ranked(rung)
        return ranked[: max(len(ranked) // self._search.stopping.reduction, 1)]

    def _ranked(self, rung: int) -> list[int]:
        """Return the trials that have reached a rung, the best first; failed ones do not count."""
        return [number for _, number in sorted((-value, number) for number, value in self._reached(rung))]

    def _reached(self, rung: int) -> Iterator[tuple[int, float]]:
        for record in self._records.values():
            if record.run_id and record.outcome is not TrialOutcome.FAILED:
                value = self._values_of(record.run_id).get(rung)
                if value is not None:
                    yield record.number, value

    def _value_at_rung(self, record: TrialRecord) -> float | None:
        """Return a trial's value at the rung up to which it may train; None before it gets there, or at the last."""
        rung = self._rung(record.number)
        return self._values_of(record.run_id).get(rung) if rung < self._budget else None

    def _by_place(self) -> list[int]:
        """Return the paused trials by their place in their rung, as a share of the rung's trials; the best first."""
        places: list[tuple[float, int]] = []
        for rung in self._rungs[:-1]:
            ranked = self._ranked(rung)
            here = {number for number in self._paused if self._rung(number) == rung}
            places += [(place / len(ranked), number) for place, number in enumerate(ranked) if number in here]
        return [number for _, number in sorted(places)]
