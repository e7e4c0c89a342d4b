"""Compares the copy of a search in Optuna's storage with the journal, and makes it anew where it differs.

What the copy must hold follows from the journal alone, so neither the search's code nor its data are needed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import json_to_distribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from coablate_platform.journal.difference import Difference, Remedy
from coablate_platform.journal.trials import JournalTrialLog, TrialOutcome, TrialRecord, trial_name
from coablate_platform.search.optuna_storage import EARLIER, ERRORS, OWNER, StudyCopy, in_words, open_storage
from coablate_platform.search.samplers import quiet
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import SearchPlan

PLACE = "Optuna"
RUN_ID = "run_id"
_STATES = {
    None: TrialState.RUNNING,
    TrialOutcome.COMPLETE: TrialState.COMPLETE,
    TrialOutcome.PRUNED: TrialState.PRUNED,
    TrialOutcome.FAILED: TrialState.FAIL,
}
_SQLITE = "sqlite:///"


class OptunaCheck:
    """Compares a search's study in Optuna's storage with the journal. Implements
    :class:`~coablate_platform.journal.difference.Check`.

    Compared are the state, parameters, values, reports and run of each trial. Notes of the samplers are not: the
    journal does not have them. Trials of earlier searches (``--warm``) stand before the search's own. That none of them
    is missing is not checked: which of them a search learns from depends on its code.

    Args:
        plan: the plan of the search.
        log: the search's trials.
        earlier: the trials of the searches that this one learnt from.
        url: URL of the storage.
        say: shows a line to the user.
    """

    place = PLACE

    def __init__(
        self,
        plan: SearchPlan,
        log: JournalTrialLog,
        earlier: Iterable[TrialRecord],
        url: str,
        say: Callable[[str], None],
    ) -> None:
        quiet()
        self._plan, self._log, self._url, self._say = plan, log, url, say
        self._earlier = {record.run_id: record for record in earlier}

    def find(self) -> Sequence[Difference]:
        held, expected = self._held(), self._expected()
        if held is None:
            return [_difference("the study", "is not there", f"{len(expected)} trials")] if expected else []
        owner = held.user_attrs.get(OWNER)
        found = []
        if owner != self._log.owner:
            found.append(_difference("the study", f"belongs to {owner}", self._log.owner))
        before, own = _parts(held)
        for trial in before:
            if not self._is_earlier(trial):
                found.append(_difference(f"earlier trial {trial.number}", "is there", "no such trial"))
        for number, trial in enumerate(expected):
            found += [_difference(trial_name(number), *words) for words in _unlike(trial, own.get(number))]
        for number in sorted(own.keys() - set(range(len(expected)))):
            found.append(_difference(trial_name(number), "is there", "no such trial"))
        return found

    def mend(self, found: Sequence[Difference]) -> None:
        """Make the study anew: trials that do not differ as they are, the others from the journal."""
        held = self._held()
        before, own = ([], {}) if held is None else _parts(held)
        memory = InMemoryStorage()
        directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in self._plan.costs)]
        study = optuna.create_study(storage=memory, study_name=self._plan.key, directions=directions)
        study.add_trials(trial for trial in before if self._is_earlier(trial))
        for number, trial in enumerate(self._expected()):
            kept = own.get(number)
            study.add_trial(kept if kept is not None and not _unlike(trial, kept) else trial)
        StudyCopy(study, memory, self._url, self._log.owner, self._say)

    def _held(self) -> optuna.Study | None:
        """Return the study in the storage, or None; a file that is not there is not made."""
        if self._url.startswith(_SQLITE) and not Path(self._url.removeprefix(_SQLITE)).exists():
            return None
        try:
            storage = open_storage(self._url)
            if self._plan.key not in optuna.get_all_study_names(storage):
                return None
            return optuna.load_study(study_name=self._plan.key, storage=storage)
        except ERRORS as error:
            raise InputError(f"Optuna storage {self._url} cannot be compared: {in_words(error)}") from None

    def _is_earlier(self, trial: FrozenTrial) -> bool:
        """Return whether a trial is one of an earlier search."""
        record = self._earlier.get(trial.user_attrs.get(RUN_ID, ""))
        return record is not None and trial.values == list(record.values)

    def _expected(self) -> list[FrozenTrial]:
        """Return the search's trials as Optuna must have them; a failed one in place of each whose file is gone."""
        records = {record.number: record for record in self._log.trials()}
        lost = create_trial(state=TrialState.FAIL)
        numbers = range(max(records, default=-1) + 1)
        return [self._trial(records[number]) if number in records else lost for number in numbers]

    def _trial(self, record: TrialRecord) -> FrozenTrial:
        """Return a trial of the journal as Optuna has it."""
        return create_trial(
            state=_STATES[record.outcome],
            values=list(record.values) or None,
            params=dict(record.params),
            distributions={name: json_to_distribution(text) for name, text in record.ranges.items()},
            intermediate_values=self._reports(record),
            user_attrs={RUN_ID: record.run_id},
        )

    def _reports(self, record: TrialRecord) -> dict[int, float]:
        """Return what the pruner was told: nothing in a search with costs, else each epoch up to the last judged."""
        if self._plan.costs or not record.run_id:
            return {}
        metric = f"validation/{self._plan.metric}"
        return {
            report.epoch: report.metrics[metric]
            for report in self._log.epochs(record.run_id)
            if record.outcome is None or report.epoch <= record.epoch
        }


def _parts(study: optuna.Study) -> tuple[list[FrozenTrial], dict[int, FrozenTrial]]:
    """Return the trials of earlier searches, and the search's own by their number in the journal."""
    trials = study.get_trials(deepcopy=False)
    before = [trial for trial in trials if EARLIER in trial.user_attrs]
    return before, {trial.number - len(before): trial for trial in trials if EARLIER not in trial.user_attrs}


def _unlike(expected: FrozenTrial, held: FrozenTrial | None) -> list[tuple[str, str]]:
    """Return what is there and what is expected of a trial, for each part that differs.

    A failed trial without parameters and run stands for one whose parameters the space no longer has.
    """
    if held is None:
        return [("is missing", "a trial")]
    if held.state is TrialState.FAIL and not held.params and not held.user_attrs.get(RUN_ID):
        return []
    parts = _parts_of(expected).items()
    there = _parts_of(held)
    return [(f"{name} {there[name]}", str(value)) for name, value in parts if there[name] != value]


def _parts_of(trial: FrozenTrial) -> Mapping[str, object]:
    return {
        "state": trial.state.name,
        "parameters": trial.params,
        "values": trial.values,
        "reports": dict(sorted(trial.intermediate_values.items())),
        "run": trial.user_attrs.get(RUN_ID) or "none",
    }


def _difference(what: str, found: str, expected: str) -> Difference:
    return Difference(place=PLACE, what=what, found=found, expected=expected, remedy=Remedy.WRITE)
