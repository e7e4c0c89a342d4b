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
from optuna.study import StudyDirection
from optuna.trial import TrialState

from coablate_platform.run.book import Book
from coablate_platform.run.optuna_storage import put
from coablate_platform.run.policy import to_run
from coablate_platform.run.population import Member, Population
from coablate_platform.run.records import EpochReport, RunState, TrialOutcome, TrialRecord
from coablate_platform.run.samplers import KEEPS_COUNT, pruner_of, quiet, sampler_of
from coablate_platform.study.config import RunConfig
from coablate_platform.study.domains import Known, Plain
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.search import Search

Lineage = Sequence[str | int]
_STATES = {TrialOutcome.PRUNED: TrialState.PRUNED, TrialOutcome.FAILED: TrialState.FAIL}


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

    Attributes:
        study: Optuna's.
        learnt: how many of the earlier trials counted.

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
        self._given = search.given
        self._name = name
        self._population = Population(search) if search.stopping.rule == "pbt" else None
        self._turned = 0  # the last epoch after which the population was renewed
        self._values: dict[int, dict[int, float]] = {}  # member -> what it reported, as far as it was looked at
        self._arrived: dict[int, int] = {}  # member -> the last turn that it has come to
        self._records = {record.number: record for record in book.trials()}
        self._trials: dict[int, optuna.Trial] = {}
        self._seen: dict[int, int] = {}  # trial -> the last epoch that the stopping rule has judged
        self._stops: dict[int, bool] = {}  # trial -> what it said of that epoch
        self._waiting: dict[str, list[int]] = {}
        self._handed: set[str] = set()  # run ids given out since the start: none is again, but for members that pause
        self.learnt = 0
        self.study = self._rebuilt(name, storage, earlier)
        self._again = [record for record in self._records.values() if record.outcome is None]
        self._paused: list[TrialRecord] = []
        if self._population is not None:
            for record in self._again:
                self._arrived[record.number] = self._population.turn_before(book.reached(record.run_id))
        self._turn()

    @property
    def records(self) -> list[TrialRecord]:
        """The trials so far, by number."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to draw; runs may still be at work."""
        if self._again or self._drawn < self._search.size:
            return False
        ended = all(record.outcome is not None for record in self._records.values())
        return self._population is None or ended or self._turned == self._population.last_turn

    def config(self, record: TrialRecord) -> RunConfig | None:
        """Return a trial's configuration; None where the space has changed so that it draws another one, or none."""
        try:
            config = self._search.config(self._search.space.draw(self._known(record)))
        except InputError:
            return None
        return config if self._identify(config, self._lineage(record.origin)) == record.run_id else None

    def next(self) -> Draw | None:
        """Return a trial to work on, or None where none is left, or none before others have reported.

        A configuration that was tried before takes its outcome from the book and costs nothing; one that is being
        tried shares its outcome.
        """
        while self._again or self._drawn < self._search.size:
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
        number = self._next_number
        self.study.sampler = sampler_of(self._search, number)
        tried = [record.params for record in self._records.values()]
        given = next((point for point in self._given if point not in tried), None)
        origin = {} if self._population is None else {"epoch": 0, "slot": self._drawn}
        return self._write_begun(number, self._ask(given), origin, self._search.sampler if given is None else "")

    def _bear(self, parent: TrialRecord, epoch: int, slot: int) -> None:
        """Begin a trial that goes on from where ``parent`` stands, and write it down."""
        assert self._population is not None
        varied = self._population.vary(parent.params, epoch, slot)
        try:
            self._search.space.draw(varied)
            drawn: Mapping[str, Plain] = varied.asked
        except InputError:  # values that do not go together; its parent's do
            drawn = parent.params
        origin = {"epoch": epoch, "slot": slot, "parent": parent.number}
        record = self._write_begun(self._next_number, self._ask(drawn), origin, sampler="")
        if record.outcome is None:
            self._again.append(record)

    @property
    def _next_number(self) -> int:
        return max(self._records, default=-1) + 1

    def _write_begun(self, number: int, trial: optuna.Trial, origin: dict[str, int], sampler: str) -> TrialRecord:
        found: dict[str, Any] = {}
        try:
            changes = self._search.space.draw(trial)
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
        self._trials[number] = trial
        self._write(record)
        return record

    def _lineage(self, origin: Mapping[str, int]) -> Lineage:
        """Return what tells a population's run from others of its configuration; nothing outside a population."""
        if not origin:
            return ()
        parent = self._records.get(origin.get("parent", -1))
        return (self._name, parent.run_id if parent else "", origin["epoch"], origin["slot"])

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
        trial = self._trials[number]
        if epoch > self._seen.get(number, 0):
            trial.report(value, epoch)
            self._seen[number] = epoch
            at_end = epoch >= self._search.base.training.epochs  # then there is nothing left to save
            pauses = self._population is not None and self._population.pauses(epoch)
            self._stops[number] = pauses or (trial.should_prune() and not at_end)
        return self._stops[number]

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
            epoch = self._seen[number]
            value = next(report.metrics[self._metric] for report in reports if report.epoch == epoch)
            self._write(replace(record, outcome=TrialOutcome.PRUNED, values=(value,), epoch=epoch))
        else:
            epoch = self._seen.get(number, 0)
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
        self._tell(self.study, self._trials[record.number], record)

    @staticmethod
    def _tell(study: optuna.Study, trial: optuna.Trial, record: TrialRecord) -> None:
        if record.outcome is None:
            trial.set_user_attr("run_id", record.run_id)
        elif record.outcome is TrialOutcome.COMPLETE:
            study.tell(trial, list(record.values))
        else:
            study.tell(trial, state=_STATES[record.outcome])

    def _ask(self, given: Mapping[str, Plain] | None) -> optuna.Trial:
        """Return a new trial, which will suggest what is given, else what the sampler says."""
        if given is not None:
            self.study.enqueue_trial(dict(given))
        return self.study.ask()

    def _known(self, record: TrialRecord) -> Known:
        """Return a trial's parameters; of factors that were added since, it has the base's."""
        return Known(record.params, otherwise=self._search.unvaried)

    def _rebuilt(self, name: str, storage: str | None, earlier: Sequence[TrialRecord]) -> optuna.Study:
        """Return Optuna's study as the book tells it."""
        quiet()
        directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in self._search.costs)]
        pruner = pruner_of(self._search)
        memory = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(storage=memory, study_name=name, directions=directions, pruner=pruner)
        for other in earlier:
            self._learn(other)
        if self._population is not None and (lost := set(range(self._next_number)) - self._records.keys()):
            raise InputError(f"trial {min(lost)} of the population is gone from the journal: it cannot go on without")
        for number in range(max(self._records, default=-1) + 1):
            if number in self._records:
                self._replay(self._records[number])
            else:  # its file was lost: the others keep their numbers
                self.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
        if storage is None:
            return self.study
        study = put(name, memory, storage, self._book.owner, pruner)
        for trial in study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                self._trials[trial.number - self.learnt] = optuna.Trial(study, trial._trial_id)
        return study

    def _learn(self, record: TrialRecord) -> None:
        """Tell Optuna of another search's trial, if this one could have drawn it."""
        known = self._known(record)
        try:
            changes = self._search.space.draw(known)
            config = self._search.config(changes)
        except InputError:
            return
        same = record.outcome is TrialOutcome.COMPLETE and record.config == canonical(config) and not record.origin
        if not same or len(record.values) != len(self.study.directions):
            return
        self.study.sampler = optuna.samplers.RandomSampler()
        trial = self._ask(known.asked)
        self._search.space.draw(trial)
        trial.set_user_attr("run_id", record.run_id)
        self.study.tell(trial, list(record.values))
        self.learnt += 1

    def _replay(self, record: TrialRecord) -> None:
        """Let a trial of the book happen again: draw, reports, end."""
        by_number = self._search.sampler in KEEPS_COUNT
        self.study.sampler = sampler_of(self._search, record.number) if by_number else optuna.samplers.RandomSampler()
        known = self._known(record)
        try:
            self._search.space.draw(known)
        except InputError as error:  # the space has lost a value since: the trial keeps its place, and teaches nothing
            self.study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
            if record.outcome is None:
                self._records[record.number] = replace(record, outcome=TrialOutcome.FAILED, reason=str(error))
                self._book.write_trial(self._records[record.number])
            return
        trial = self._ask(known.asked)
        self._search.space.draw(trial)
        self._trials[record.number] = trial
        if record.sampler == self._search.sampler and by_number:
            trial.relative_params  # noqa: B018  # where the sampler notes that it has drawn
        self._tell(self.study, trial, replace(record, outcome=None))
        for report in self._book.epochs(record.run_id) if record.run_id else ():
            if record.outcome is None or report.epoch <= record.epoch:
                self._judge(record.number, report.epoch, report.metrics[self._metric])
        if record.outcome is not None:
            self._tell(self.study, trial, record)
