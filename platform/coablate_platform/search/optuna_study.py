"""Optuna's study of a search: it suggests parameters, and its pruner says which trials are hopeless.

The study is in memory, and rebuilt from the trial log at every start: neither a crash nor another search can leave
anything else in it. Optuna's storage has a copy of it.
"""

from collections.abc import Callable, Mapping, Sequence

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from coablate_platform.journal.trials import TrialLog, TrialOutcome, TrialRecord
from coablate_platform.search.optuna_storage import EARLIER, StudyCopy
from coablate_platform.search.rungs import PAUSED, suggest_at_rung
from coablate_platform.search.samplers import keeps_count, pruner_of, quiet, sampler_of
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import canonical
from coablate_platform.study.search import Search
from coablate_platform.study.suggesters import PlainValue

_STATES = {TrialOutcome.PRUNED: TrialState.PRUNED, TrialOutcome.FAILED: TrialState.FAIL}


class OptunaStudy:
    """Optuna's study of one search.

    Args:
        search: the declared search.
        name: name of Optuna's study; no other search may have it.
        log: the search's trials so far.
        earlier: trials of other searches to learn from.
        storage: URL of Optuna's storage; None: there is no copy.
        say: shows a line to the user.

    Attributes:
        study: Optuna's study.
        learnt: how many earlier trials were added to it: the completed ones whose configuration this search could
            suggest.

    Raises:
        InputError: there can be no such storage, or it holds another folder's study of this name.
    """

    def __init__(
        self,
        search: Search,
        name: str,
        log: TrialLog,
        earlier: Sequence[TrialRecord],
        storage: str | None,
        say: Callable[[str], None],
    ) -> None:
        quiet()
        self._search = search
        self._metric = f"validation/{search.base.training.metric}"
        self._trials: dict[int, optuna.Trial] = {}
        self._judged: dict[int, int] = {}  # trial -> the last epoch that the pruner judged
        self._hopeless: dict[int, bool] = {}  # trial -> its judgement of that epoch
        self._copy: StudyCopy | None = None
        self.learnt = 0
        directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in search.costs)]
        memory, pruner = optuna.storages.InMemoryStorage(), pruner_of(search)
        self.study = optuna.create_study(storage=memory, study_name=name, directions=directions, pruner=pruner)
        for other in earlier:
            self._learn(other)
        self._replay_all(log)
        if storage is not None:
            self._copy = StudyCopy(self.study, memory, storage, log.owner, say)

    def ask(self, number: int, parameters: Mapping[str, PlainValue] | None) -> optuna.Trial:
        """Return a new trial that suggests these parameters where they are given, else those of the sampler."""
        sampler = sampler_of(self._search, number)
        if parameters is None and self._search.learns_at_rungs:
            parameters = suggest_at_rung(self._search, self.study, number, sampler)
        self._trials[number] = self._new(parameters, sampler)
        return self._trials[number]

    def tell(self, record: TrialRecord) -> None:
        """Tell Optuna that a trial has begun, or how it ended."""
        trial = self._trials[record.number]
        if record.outcome is None:
            trial.set_user_attr("run_id", record.run_id)
        elif record.outcome is TrialOutcome.COMPLETE:
            self.study.tell(trial, list(record.values))
        else:
            self.study.tell(trial, state=_STATES[record.outcome])
        self._copy_trial(trial)

    def judge(self, number: int, epoch: int, value: float) -> tuple[bool, int]:
        """Report an epoch to the pruner, unless it has seen this epoch or a later one.

        Returns:
            Whether the pruner would stop the trial, and the epoch of that judgement.
        """
        if epoch > self.judged(number):
            trial = self._trials[number]
            trial.report(value, epoch)
            self._judged[number] = epoch
            self._hopeless[number] = trial.should_prune()
            self._copy_trial(trial)
        return self._hopeless[number], self._judged[number]

    def mark_paused(self, number: int, paused: bool) -> None:
        """Note whether a trial is paused: samplers then do not take it for one in training."""
        self._trials[number].set_user_attr(PAUSED, paused)
        self._copy_trial(self._trials[number])

    def judged(self, number: int) -> int:
        """Return the last epoch of a trial that the pruner judged; 0 before the first."""
        return self._judged.get(number, 0)

    def finish(self) -> str:
        """Bring the copy up to date, and return what prevents it; an empty text if nothing does."""
        return self._copy.catch_up() if self._copy is not None else ""

    def _copy_trial(self, trial: optuna.Trial) -> None:
        if self._copy is not None:
            self._copy.update(trial.number)

    def _new(self, parameters: Mapping[str, PlainValue] | None, sampler: optuna.samplers.BaseSampler) -> optuna.Trial:
        self.study.sampler = sampler
        if parameters is not None:
            self.study.enqueue_trial(dict(parameters))
        return self.study.ask()

    def _learn(self, record: TrialRecord) -> None:
        """Add another search's trial to the study, if this search could have suggested it."""
        known = self._search.fixed_trial(record.params)
        try:
            config = self._search.config(self._search.space.suggest(known))
        except InputError:
            return
        same = record.outcome is TrialOutcome.COMPLETE and record.config == canonical(config) and not record.origin
        if not same or len(record.values) != len(self.study.directions):
            return
        trial = self._new(known.params, optuna.samplers.RandomSampler())
        self._search.space.suggest(trial)
        trial.set_user_attr("run_id", record.run_id)
        trial.set_user_attr(EARLIER, True)
        self.study.tell(trial, list(record.values))
        self.learnt += 1

    def _replay_all(self, log: TrialLog) -> None:
        records = {record.number: record for record in log.trials()}
        for number in range(max(records, default=-1) + 1):
            known = self._search.fixed_trial(records[number].params) if number in records else None
            if known is not None and self._search.space.can_suggest(known):
                self._replay(records[number], known.params, log)
            else:
                self._lose(number)

    def _lose(self, number: int) -> None:
        """Add a failed trial in place of one whose file is gone or whose parameters no longer fit the space."""
        trial = self._new(None, sampler_of(self._search, number))
        if self._search.sampler == "qmc":
            trial.relative_params  # noqa: B018  # advances the sampler's sequence
        self.study.tell(trial, state=TrialState.FAIL)

    def _replay(self, record: TrialRecord, parameters: Mapping[str, PlainValue], log: TrialLog) -> None:
        """Replay a trial of the log: its parameters, its reports, its end."""
        by_number = keeps_count(self._search)
        sampler = sampler_of(self._search, record.number) if by_number else optuna.samplers.RandomSampler()
        trial = self._trials[record.number] = self._new(parameters, sampler)
        self._search.space.suggest(trial)
        if record.sampler == self._search.sampler and by_number:
            trial.relative_params  # noqa: B018  # here the sampler notes that it has suggested
        trial.set_user_attr("run_id", record.run_id)
        for report in log.epochs(record.run_id) if record.run_id and not self._search.costs else ():
            if record.outcome is None or report.epoch <= record.epoch:
                self.judge(record.number, report.epoch, report.metrics[self._metric])
        if record.outcome is not None:
            self.tell(record)
