"""A search's course: what to try next, when a trial is given up, and what came of each.

It knows neither Ray nor a clock: it is asked for draws and told what runs report, in whatever order they do. What it
decides is written into a book (the journal) before anybody acts on it; Optuna's study follows from the book and is
rebuilt from it at every start, so that neither a crash nor another search can put anything else into it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.distributions import distribution_to_json

from coablate_platform.journal.trials import Book, TrialOutcome, TrialRecord
from coablate_platform.search.optuna_study import Adviser
from coablate_platform.search.population import Member, Population
from coablate_platform.study.config import RunConfig
from coablate_platform.study.domains import Plain
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.search import Search
from coablate_platform.train.events import EpochReport, RunState
from coablate_platform.train.failures import to_run

Lineage = Sequence[str | int]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A trial to work on: its number, the run that is its training, and that run's configuration."""

    number: int
    run_id: str
    config: RunConfig


class Sweep:
    """One search from its first trial to its last.

    Args:
        search: what is declared.
        name: of Optuna's study; no other search may have it.
        book: where trials are written down.
        identify: returns the run id of a configuration, and of the lineage that a population's run has besides.
        cost: returns what a configuration costs, by the names in ``search.costs`` (and more).
        storage: URL of Optuna's storage; None keeps it in memory.
        earlier: trials of other searches on the same data, to learn from; those count that came to their end and whose
            configuration this search could draw.

    Raises:
        InputError: the storage cannot be opened.
    """

    def __init__(
        self,
        search: Search,
        name: str,
        book: Book,
        identify: Callable[[RunConfig, Lineage], str],
        cost: Callable[[RunConfig], Mapping[str, int]],
        storage: str | None = None,
        earlier: Sequence[TrialRecord] = (),
    ) -> None:
        self._search = search
        self._book = book
        self._identify = identify
        self._cost = cost
        self._metric = f"validation/{search.base.training.metric}"
        self._name = name
        self._population = Population(search) if search.stopping.rule == "pbt" else None
        self._turned = 0  # the last epoch after which the population was renewed
        self._values: dict[int, dict[int, float]] = {}  # member -> what it reported, as far as it was looked at
        self._arrived: dict[int, int] = {}  # member -> the last turn that it has come to
        self._records = {record.number: record for record in book.trials()}
        self._waiting: dict[str, list[int]] = {}
        self._handed: set[str] = set()  # run ids given out since the start: none is again, but for members that pause
        self._fail_what_is_gone()
        self._untried = self._given_but_not_tried()
        self._adviser = Adviser(search, name, book, earlier, storage)
        self._again = [record for record in self._records.values() if record.outcome is None]
        self._paused: list[TrialRecord] = []
        if self._population is not None:
            for record in self._again:
                self._arrived[record.number] = self._population.turn_before(book.reached(record.run_id))
        self._turn()

    @property
    def study(self) -> optuna.Study:
        """Optuna's study of this search."""
        return self._adviser.study

    @property
    def learnt(self) -> int:
        """How many of the earlier trials counted."""
        return self._adviser.learnt

    @property
    def records(self) -> list[TrialRecord]:
        """The trials so far, by number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to draw; runs may still be at work."""
        if self._again or self._left:
            return False
        ended = all(record.outcome is not None for record in self._records.values())
        return self._population is None or ended or self._turned == self._population.last_turn

    def config(self, record: TrialRecord) -> RunConfig | None:
        """Return a trial's configuration; None where the space has changed so that it draws another one, or none."""
        try:
            config = self._search.config(self._search.space.suggest(self._search.fixed_trial(record.params)))
        except InputError:
            return None
        return config if self._identify(config, self._lineage(record.origin)) == record.run_id else None

    def next(self) -> Draw | None:
        """Return a trial to work on, or None where none is left, or none before others have reported.

        A configuration that was tried before takes its outcome from the book and costs nothing; one that is being
        tried shares its outcome.
        """
        while self._again or self._left:
            record = self._again.pop(0) if self._again else self._begin()
            if record.outcome is None and (draw := self._open(record)) is not None:
                self._handed.add(record.run_id)
                return draw
            self._turn()  # what ended without being run may have been what the others waited for
        return None

    def report(self, run_id: str, result: Mapping[str, Any]) -> bool:
        """Take in what a run says, and return whether it is to be stopped.

        Args:
            run_id: the run.
            result: its ``state`` and, while it is running, ``epoch`` and its metrics; ``reason`` where it failed.
        """
        state, numbers = RunState(result["state"]), self._waiting[run_id]
        if state.ended:
            for number in numbers:
                self._end(number, state, str(result.get("reason", "")))
        else:
            stops = [self._judge(number, int(result["epoch"]), float(result[self._metric])) for number in numbers]
            if not all(stops):
                return False
            self._book.stop(run_id)
            for number in numbers:
                if self._population is None:
                    self._end(number, RunState.STOPPED)
                else:
                    self._arrived[number] = int(result["epoch"])
                    self._paused.append(self._records[number])
        del self._waiting[run_id]
        self._turn()
        return not state.ended

    @property
    def _drawn(self) -> int:
        """How many trials there are, but for those that went on from others."""
        return sum("parent" not in record.origin for record in self._records.values())

    def _begin(self) -> TrialRecord:
        """Draw a new trial and write it down."""
        number, given = self._next_number, self._untried.pop(0) if self._untried else None
        origin = {} if self._population is None else {"epoch": 0, "slot": self._drawn}
        return self._write_begun(number, given, origin, self._search.sampler if given is None else "")

    @property
    def _left(self) -> bool:
        """Whether a trial is left to draw: of a grid, one of its configurations."""
        return bool(self._untried) if self._search.sampler == "grid" else self._drawn < self._search.trials

    def _given_but_not_tried(self) -> list[dict[str, Plain]]:
        """Return what is given and no trial has drawn, as the space has them now, with what was added since."""
        tried = []
        for record in self._records.values():
            known = self._search.fixed_trial(record.params)
            if self._search.space.can_decode(known):
                tried.append(known.asked)
        return [point for point in self._search.enqueued if point not in tried]

    def _bear(self, parent: TrialRecord, epoch: int, slot: int) -> None:
        """Begin a trial that goes on from where ``parent`` stands, and write it down."""
        assert self._population is not None
        varied = self._population.vary(parent.params, epoch, slot)
        try:
            self._search.space.suggest(varied)
            drawn: Mapping[str, Plain] = varied.asked
        except InputError:  # values that do not go together; its parent's do
            drawn = parent.params
        origin = {"epoch": epoch, "slot": slot, "parent": parent.number}
        record = self._write_begun(self._next_number, drawn, origin, sampler="")
        if record.outcome is None:
            self._again.append(record)

    @property
    def _next_number(self) -> int:
        return max(self._records, default=-1) + 1

    def _write_begun(
        self, number: int, given: Mapping[str, Plain] | None, origin: dict[str, int], sampler: str
    ) -> TrialRecord:
        trial, found = self._adviser.ask(number, given), dict[str, Any]()
        try:
            changes = self._search.space.suggest(trial)
            config = self._search.config(changes)
            found = {"changes": canonical(changes), "config": canonical(config), "cost": dict(self._cost(config))}
            found["run_id"] = self._identify(config, self._lineage(origin))
        except InputError as error:  # the space allows what the model refuses
            found = {"outcome": TrialOutcome.FAILED, "reason": str(error)}
        if "parent" in origin and "run_id" in found:  # before the record: who reads that may begin the run
            self._book.fork(self._records[origin["parent"]].run_id, found["run_id"])
        ranges = {name: distribution_to_json(drawn) for name, drawn in trial.distributions.items()}
        record = TrialRecord(
            number=number, params=dict(trial.params), ranges=ranges, sampler=sampler, origin=origin, **found
        )
        self._write(record)
        return record

    def _lineage(self, origin: Mapping[str, int]) -> Lineage:
        """Return what tells a population's run from others of its configuration; nothing outside a population."""
        if not origin:
            return ()
        parent = self._records.get(origin.get("parent", -1))
        return (self._name, parent.run_id if parent else "", origin["epoch"], origin["slot"])

    def _fail_what_is_gone(self) -> None:
        """Close open trials whose values the space has lost since.

        Raises:
            InputError: a population's member has no file any more.
        """
        for record in self.records:
            try:
                self._search.space.suggest(self._search.fixed_trial(record.params))
            except InputError as error:
                if record.outcome is None:
                    self._records[record.number] = replace(record, outcome=TrialOutcome.FAILED, reason=str(error))
                    self._book.write_trial(self._records[record.number])
        if self._population is not None and (lost := set(range(self._next_number)) - self._records.keys()):
            raise InputError(f"trial {min(lost)} of the population is gone from the journal: it cannot go on without")

    def _turn(self) -> None:
        """Renew the population wherever all its members have come to a turn, and let those go on that stay."""
        if self._population is None:
            return
        for turn in self._population.turns([self._member(record) for record in self.records]):
            there = {(record.origin["epoch"], record.origin["slot"]) for record in self.records}
            for slot, parent in enumerate(turn.parents):
                if (turn.epoch, slot) not in there:
                    self._bear(self._records[parent], turn.epoch, slot)
            for number in turn.replaced:
                if self._records[number].outcome is None:
                    self._end(number, RunState.STOPPED)
            self._turned = turn.epoch
        left = [r for r in self._again + self._paused if self._records[r.number].outcome is None]
        self._paused = [record for record in left if self._arrived.get(record.number, 0) > self._turned]
        self._again = [record for record in left if record not in self._paused]

    def _member(self, record: TrialRecord) -> Member:
        """Return a trial as a member that has come as far as its checkpoint, which its reports may be ahead of."""
        ended = record.outcome is not None
        until = record.epoch if ended else self._arrived.get(record.number, 0)
        values = self._values.setdefault(record.number, {})
        if until and until not in values and record.run_id:
            values |= {report.epoch: report.metrics[self._metric] for report in self._book.epochs(record.run_id)}
        own = {epoch: value for epoch, value in values.items() if epoch <= until}
        return Member(number=record.number, born=record.origin["epoch"], values=own, ended=ended)

    def _open(self, record: TrialRecord) -> Draw | None:
        """Return what is left to do of a trial: nothing where its run is at work, or has an outcome already."""
        number, run_id = record.number, record.run_id
        state = self._book.state(run_id)
        stops = [
            self._judge(number, report.epoch, report.metrics[self._metric]) for report in self._book.epochs(run_id)
        ]
        if run_id in self._waiting:
            self._waiting[run_id].append(number)
        elif state is RunState.COMPLETED or not to_run(state) or (run_id in self._handed and not any(stops)):
            self._end(number, state, "so did a trial of the same configuration")
        elif any(stops) and self._population is None:
            self._book.stop(run_id)
            self._end(number, RunState.STOPPED)
        elif (config := self.config(record)) is None:
            self._write(replace(record, outcome=TrialOutcome.FAILED, reason="the space has changed since it was drawn"))
        else:
            self._waiting[run_id] = [number]
            return Draw(number=number, run_id=run_id, config=config)
        return None

    def _judge(self, number: int, epoch: int, value: float) -> bool:
        """Show the stopping rule a report, unless it has seen it, and return whether the trial is to be given up."""
        if self._search.costs:
            return False  # between several objectives there is no worse half
        hopeless, judged = self._adviser.judge(number, epoch, value)
        at_end = judged >= self._search.base.training.epochs  # then there is nothing left to save
        return (self._population is not None and self._population.pauses(judged)) or (hopeless and not at_end)

    def _end(self, number: int, state: RunState, reason: str = "") -> None:
        """Write down how a trial ended, and let Optuna know."""
        record = self._records[number]
        reports = self._book.epochs(record.run_id)
        if state is RunState.COMPLETED:
            outcome, value = TrialOutcome.COMPLETE, self._selected(reports)
            values = (value, *(float(record.cost[name]) for name in self._search.costs))
            if not math.isfinite(value):
                reason = f"{self._metric} is {value}"
                self._write(replace(record, outcome=TrialOutcome.FAILED, epoch=reports[-1].epoch, reason=reason))
                return
            self._write(replace(record, outcome=outcome, values=values, epoch=reports[-1].epoch))
        elif state is RunState.STOPPED:
            epoch = self._adviser.judged(number)
            value = next(report.metrics[self._metric] for report in reports if report.epoch == epoch)
            self._write(replace(record, outcome=TrialOutcome.PRUNED, values=(value,), epoch=epoch))
        else:
            epoch = self._adviser.judged(number)
            self._write(replace(record, outcome=TrialOutcome.FAILED, epoch=epoch, reason=f"{state.value}: {reason}"))

    def _selected(self, reports: Sequence[EpochReport]) -> float:
        """Return the metric at the epoch that the search's configurations select."""
        selection = self._search.base.training.selection
        values = {report.epoch: report.metrics[self._metric] for report in reports}
        if selection == "best":
            return max(values.values())
        return values[max(values) if selection == "last" else int(selection)]

    def _write(self, record: TrialRecord) -> None:
        """Write a trial down in the book, and only then in Optuna's study."""
        self._book.write_trial(record)
        self._records[record.number] = record
        self._adviser.tell(record)
