"""Schedulers of a search: which trial trains next, and which running trial stops.

A scheduler knows neither Ray nor a clock: it is asked for runs, and told what each run reports, in any order. Every
decision is written to the trial log (the journal) before anybody acts on it. Optuna's study is rebuilt from that log at
every start, so a crash cannot leave anything else in it.

What a run reported is read from the log once, when the run is handed out or a study is resumed. From then on the
scheduler keeps what it is told.
"""

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.distributions import distribution_to_json

from coablate_platform.journal.trials import TrialLog, TrialOutcome, TrialRecord
from coablate_platform.search.optuna_study import OptunaStudy
from coablate_platform.study.config import RunConfig
from coablate_platform.study.errors import InputError, RepeatedFailureError
from coablate_platform.study.identity import canonical, canonical_changes
from coablate_platform.study.search import Search
from coablate_platform.study.suggesters import PlainValue
from coablate_platform.train.events import RunState, RunUpdate
from coablate_platform.train.failures import MAX_ALIKE, RETRIED, repeated_failure, should_run
from coablate_platform.train.task import Task

LOSS = "validation/loss"
LATE = 3
"""Last epochs of a completed trial whose mean decides between equals."""
Lineage = Sequence[str | int]
"""What identifies a run besides its configuration: the checkpoint that it starts from. Empty for a run of its own."""


@dataclass(frozen=True, kw_only=True)
class SearchSetup:
    """What every scheduler of a search needs.

    Args:
        search: the declared search.
        name: name of Optuna's study; no other search may have it.
        log: where trials are written.
        task_of: makes the run of a configuration and a lineage.
        cost: returns the cost of a configuration, by the names in ``search.costs`` (and more).
        storage: URL of the storage with a copy of Optuna's study; None: there is no copy.
        earlier: trials of other searches on the same data to learn from.
        say: shows a line to the user.
    """

    search: Search
    name: str
    log: TrialLog
    task_of: Callable[[RunConfig, Lineage], Task]
    cost: Callable[[RunConfig], Mapping[str, int]]
    storage: str | None = None
    earlier: Sequence[TrialRecord] = ()
    say: Callable[[str], None] = print


class SearchScheduler(ABC):
    """What all schedulers of a search share: trials, their runs, and how both end.

    A configuration that was tried before takes its outcome from the log and trains nothing. Two open trials of one
    configuration share one run. At the start, failed trials whose runs may be retried are opened again.

    Raises:
        InputError: there can be no such storage for Optuna's study.
    """

    def __init__(self, setup: SearchSetup) -> None:
        self._setup, self._search, self._log = setup, setup.search, setup.log
        self._metric = f"validation/{setup.search.base.training.metric}"
        self._records = {record.number: record for record in setup.log.trials()}
        self._values: dict[str, dict[int, float]] = {}  # run id -> epoch -> metric
        self._losses: dict[str, dict[int, float | None]] = {}  # run id -> epoch -> validation loss, where reported
        self._waiting: dict[str, list[int]] = {}  # run id -> the trials that wait for its reports
        self._handed_out: set[str] = set()  # run ids handed out since the start
        self._retried: set[str] = set()  # run ids of those that had failed before
        self._ends: list[RunUpdate] = []  # of the runs that ended or stopped since the start
        self._reopen()
        self._fail_what_cannot_be_suggested()
        self._untried = self._enqueued_but_untried()
        self._optuna = OptunaStudy(setup.search, setup.name, setup.log, setup.earlier, setup.storage, setup.say)
        self._open_records = [record for record in self._records.values() if record.outcome is None]

    @property
    def study(self) -> optuna.Study:
        """Optuna's study of this search."""
        return self._optuna.study

    @property
    def learnt(self) -> int:
        """How many earlier trials Optuna learnt from."""
        return self._optuna.learnt

    @property
    def records(self) -> list[TrialRecord]:
        """The trials so far, by number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def most(self) -> int:
        """How many runs can train at a time."""
        return self._search.trial_count

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to start. Runs may still train."""
        return not self._open_records and not self._left

    def config(self, record: TrialRecord) -> RunConfig | None:
        """Return a trial's configuration, or None where the space has changed and its parameters mean another one."""
        task = self._task(record)
        return None if task is None else task.config

    def next(self) -> Task | None:
        """Return a run to train, or None where none is left, or none before others have reported."""
        while self._open_records or self._left:
            record = self._open_records.pop(0) if self._open_records else self._new_trial()
            if record.outcome is None and (task := self._start(record)) is not None:
                self._handed_out.add(task.run_id)
                return task
            self._settle()
        return None

    def check(self) -> None:
        """Check that the search should go on.

        A retried run that fails again does not count: where configurations fail for good, all of them are retried in a
        row, and the search could never go on.

        Raises:
            RepeatedFailureError: the last runs failed alike.
        """
        if failure := repeated_failure(self._ends):
            raise RepeatedFailureError(
                f"search {self._search.name} has stopped: {MAX_ALIKE} runs in a row failed alike ({failure}). They are "
                "tried again when it goes on"
            )

    def report(self, run_id: str, update: RunUpdate) -> bool:
        """Take in what a run reports, and return whether it must stop."""
        numbers = self._waiting[run_id]
        if not update.state.ended:
            value = update.metrics[self._metric]
            self._values_of(run_id)[update.epoch] = value
            self._losses[run_id][update.epoch] = update.metrics.get(LOSS)
            stops = [self._stops(number, update.epoch, value) for number in numbers]
            if not all(stops):
                return False
            self._log.stop(run_id)
        if update.state not in RETRIED or run_id not in self._retried:
            self._ends.append(update)
        del self._waiting[run_id]
        for number in numbers:
            if update.state.ended:
                self._end(number, update.state, update.reason)
            else:
                self._on_stop(number, update.epoch)
        self._settle()
        return not update.state.ended

    def finish(self) -> str:
        """Bring the copy in Optuna's storage up to date, and return what prevents it; empty if nothing does."""
        return self._optuna.finish()

    @abstractmethod
    def _new_trial(self) -> TrialRecord:
        """Start the next trial, which the sampler suggests or which is enqueued."""

    @abstractmethod
    def _stops(self, number: int, epoch: int, value: float) -> bool:
        """Return whether a trial stops or pauses after a report."""

    @abstractmethod
    def _on_stop(self, number: int, epoch: int) -> None:
        """Carry out that a trial has stopped after an epoch."""

    @abstractmethod
    def _may_continue(self, stopped: bool) -> bool:
        """Return whether the run of a reopened trial may train on, ``stopped`` being whether it stopped before."""

    @abstractmethod
    def _may_reopen(self, record: TrialRecord) -> bool:
        """Return whether a failed trial may still become a better one: the search did not react to its failure."""

    @abstractmethod
    def _settle(self) -> None:
        """Do what becomes due when a trial has ended or stopped."""

    @property
    def _sampled(self) -> int:
        """How many trials were suggested or enqueued; those that continue another's weights do not count."""
        return sum("parent" not in record.origin for record in self._records.values())

    @property
    def _left(self) -> bool:
        """Whether a trial is left to start; of a grid, one of its configurations."""
        return bool(self._untried) if self._search.sampler == "grid" else self._sampled < self._search.trials

    @property
    def _next_number(self) -> int:
        return max(self._records, default=-1) + 1

    def _enqueued_but_untried(self) -> list[dict[str, PlainValue]]:
        """Return the enqueued parameters that no trial has, as the space has them now."""
        tried = []
        for record in self._records.values():
            known = self._search.fixed_trial(record.params)
            if self._search.space.can_suggest(known):
                tried.append(known.params)
        return [point for point in self._search.enqueued if point not in tried]

    def _suggest(self, origin: dict[str, int]) -> TrialRecord:
        """Write a new trial: the next enqueued parameters, else what the sampler suggests."""
        enqueued = self._untried.pop(0) if self._untried else None
        return self._write_new(enqueued, origin, self._search.sampler if enqueued is None else "")

    def _write_new(
        self, parameters: Mapping[str, PlainValue] | None, origin: dict[str, int], sampler: str
    ) -> TrialRecord:
        """Write a new trial, with these parameters where they are given.

        A trial that the model refuses has failed at once. A checkpoint that it starts from is forked before it is
        written: whoever reads the trial may start its run.
        """
        number = self._next_number
        trial = self._optuna.ask(number, parameters)
        record = TrialRecord(number=number, params={}, ranges={}, sampler=sampler, origin=origin)
        try:
            changes = self._search.space.suggest(trial)
            config = self._search.config(changes)
            cost = dict(self._setup.cost(config))
            run_id = self._setup.task_of(config, self._lineage(origin)).run_id
            said = {"changes": canonical_changes(changes), "config": canonical(config)}
            record = replace(record, **said, cost=cost, run_id=run_id)
        except InputError as error:
            record = replace(record, outcome=TrialOutcome.FAILED, reason=str(error))
        if "parent" in origin and record.run_id:
            self._log.fork(self._records[origin["parent"]].run_id, record.run_id)
        ranges = {name: distribution_to_json(distribution) for name, distribution in trial.distributions.items()}
        record = replace(record, params=dict(trial.params), ranges=ranges)
        self._write(record)
        return record

    def _lineage(self, origin: Mapping[str, int]) -> Lineage:
        """Return what identifies a trial's run besides its configuration."""
        return ()

    def _task(self, record: TrialRecord) -> Task | None:
        """Return a trial's run, or None where its parameters mean another run today, or none."""
        try:
            config = self._search.config(self._search.space.suggest(self._search.fixed_trial(record.params)))
        except InputError:
            return None
        task = self._setup.task_of(config, self._lineage(record.origin))
        return task if task.run_id == record.run_id else None

    def _start(self, record: TrialRecord) -> Task | None:
        """Return what is left to train of a trial: nothing where its run is in training, or has an outcome already."""
        number, run_id = record.number, record.run_id
        state = self._log.state(run_id)
        stops = [self._stops(number, epoch, value) for epoch, value in sorted(self._values_of(run_id).items())]
        stopped = any(stops)
        if run_id in self._waiting:
            self._waiting[run_id].append(number)
        elif state is RunState.COMPLETED or not should_run(state) or (run_id in self._handed_out and not stopped):
            self._end(number, state, "so did a trial of the same configuration")
        elif not self._may_continue(stopped):
            self._log.stop(run_id)
            self._on_stop(number, max(self._values_of(run_id)))
        elif (task := self._task(record)) is None:
            self._fail(record, "the search space has changed since this trial was suggested")
        else:
            self._waiting[run_id] = [number]
            if state in RETRIED:
                self._retried.add(run_id)
            return task
        return None

    def _values_of(self, run_id: str) -> dict[int, float]:
        """Return the metric of a run by epoch, as far as it has reported."""
        if run_id not in self._values:
            reports = self._log.epochs(run_id)
            self._values[run_id] = {report.epoch: report.metrics[self._metric] for report in reports}
            self._losses[run_id] = {report.epoch: report.metrics.get(LOSS) for report in reports}
        return self._values[run_id]

    def _end(self, number: int, state: RunState, reason: str = "") -> None:
        """Write how a trial ended, and tell Optuna."""
        record, epoch = self._records[number], self._optuna.judged(number)
        if state is RunState.COMPLETED:
            self._complete(record)
        elif state is RunState.STOPPED:
            value = self._values_of(record.run_id)[epoch]
            self._write(replace(record, outcome=TrialOutcome.PRUNED, values=(value,), epoch=epoch))
        else:
            self._fail(replace(record, epoch=epoch), f"{state.value}: {reason}")

    def _complete(self, record: TrialRecord) -> None:
        values = self._values_of(record.run_id)
        selected, ended = self._selected(values), replace(record, epoch=max(values))
        value = values[selected]
        if not math.isfinite(value):
            self._fail(ended, f"{self._metric} is {value}")
            return
        late = statistics.fmean(values[epoch] for epoch in sorted(values)[-LATE:])
        ended = replace(ended, loss=self._losses[record.run_id][selected], late=late)
        costs = (float(record.cost[name]) for name in self._search.costs)
        self._write(replace(ended, outcome=TrialOutcome.COMPLETE, values=(value, *costs)))

    def _fail(self, record: TrialRecord, reason: str) -> None:
        self._write(replace(record, outcome=TrialOutcome.FAILED, reason=reason))

    def _selected(self, values: Mapping[int, float]) -> int:
        """Return the epoch that the search's configurations select, from the metric by epoch."""
        selection = self._search.base.training.selection
        if selection == "best":
            return max(sorted(values), key=lambda epoch: values[epoch])
        return max(values) if selection == "last" else int(selection)

    def _reopen(self) -> None:
        """Open failed trials whose runs may be retried. Optuna's study is not there yet."""
        for record in self.records:
            failed = record.outcome is TrialOutcome.FAILED and record.run_id
            if (
                failed
                and should_run(self._log.state(record.run_id))
                and self._may_reopen(record)
                and self._task(record)
            ):
                self._records[record.number] = replace(record, outcome=None, epoch=0, reason="")
                self._log.write_trial(self._records[record.number])

    def _fail_what_cannot_be_suggested(self) -> None:
        """Close open trials with values that the space no longer has. Optuna's study is not there yet."""
        for record in self.records:
            try:
                self._search.space.suggest(self._search.fixed_trial(record.params))
            except InputError as error:
                if record.outcome is None:
                    self._records[record.number] = replace(record, outcome=TrialOutcome.FAILED, reason=str(error))
                    self._log.write_trial(self._records[record.number])

    def _write(self, record: TrialRecord) -> None:
        """Write a trial to the log, and only then to Optuna's study."""
        self._log.write_trial(record)
        self._records[record.number] = record
        self._optuna.tell(record)
