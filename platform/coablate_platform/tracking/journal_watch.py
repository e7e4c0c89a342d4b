"""Reads what a study's journal holds again and again, and each time only what has changed."""

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.journal.trials import JournalTrialLog, TrialRecord
from coablate_platform.study.plan import AnyPlan, SearchPlan
from coablate_platform.tracking.arms import tracked_study
from coablate_platform.train.events import RunState


class JournalWatch:
    """The runs of a study, or the trials and runs of a search, as of the last :meth:`refresh`.

    Args:
        journal: the journal of the results folder.
        plan: the plan of the study or the search.

    Attributes:
        tracked: the study or the search; a search grows by its new trials.
        records: run id -> record; a record is replaced only if its run has changed.
    """

    def __init__(self, journal: Journal, plan: AnyPlan) -> None:
        self._journal = journal
        self.tracked = tracked_study(plan)
        self.records: dict[str, RunRecord] = {}
        self._stamps: dict[str, object] = {run.run_id: None for run in self.tracked.runs}
        self._trials: dict[str, tuple[object, TrialRecord]] = {}  # file -> its stamp and its trial
        self._open_runs: set[str] = set()  # runs of open trials: one that is stopped may continue, in a population

    @property
    def completed(self) -> bool:
        """Whether all runs of a study are completed; never true of a search."""
        if isinstance(self.tracked.plan, SearchPlan):
            return False
        return all(self._is_completed(run_id) for run_id in self._stamps)

    def refresh(self, thorough: bool) -> None:
        """Read the runs that have changed: one listing, and another for each run that has begun and may still change.

        Args:
            thorough: read every trial, and every run that is not completed, changed or not: in object storage, two
                writes within a second may look like one.
        """
        if isinstance(self.tracked.plan, SearchPlan):
            self._add_trials(JournalTrialLog(self._journal, self.tracked.plan.key), thorough)
        begun = self._journal.begun()
        for run_id, known in self._stamps.items():
            if run_id not in begun:
                self.records.setdefault(run_id, RunRecord.waiting(run_id))
            elif not self._is_final(run_id) or (thorough and not self._is_completed(run_id)):
                stamp = self._journal.stamp(run_id)
                if thorough or stamp != known:
                    self.records[run_id] = self._journal.record(run_id)
                    self._stamps[run_id] = stamp

    def report(self, closing: bool) -> dict[str, bytes]:
        """Return the files of a search's report, name -> content; empty unless ``closing``, and for a study."""
        folder = f"studies/{self.tracked.plan.key}/report"
        wanted = closing and isinstance(self.tracked.plan, SearchPlan)
        names = self._journal.folder.stamps(folder) if wanted else {}
        contents = {name: self._journal.folder.read(f"{folder}/{name}") for name in names}
        return {name: content for name, content in contents.items() if content is not None}

    def _add_trials(self, log: JournalTrialLog, thorough: bool) -> None:
        """Read a search's new and changed trials, or (``thorough``) all."""
        stamps = log.stamps()
        known = {} if thorough else {name: stamp for name, (stamp, _) in self._trials.items()}
        changed = [name for name, stamp in stamps.items() if known.get(name) != stamp]
        self._trials |= {name: (stamps[name], log.read(name)) for name in changed}
        if changed:
            trials = [self._trials[name][1] for name in sorted(self._trials)]
            self._open_runs = {trial.run_id for trial in trials if trial.outcome is None}
            self.tracked = tracked_study(self.tracked.plan, trials)
            self._stamps = {run.run_id: self._stamps.get(run.run_id) for run in self.tracked.runs}

    def _is_final(self, run_id: str) -> bool:
        """Return whether nothing more will be written of a run. A search that retries a run opens its trial first."""
        if isinstance(self.tracked.plan, SearchPlan):
            return run_id in self.records and self.records[run_id].state.ended and run_id not in self._open_runs
        return self._is_completed(run_id)

    def _is_completed(self, run_id: str) -> bool:
        return run_id in self.records and self.records[run_id].state is RunState.COMPLETED
