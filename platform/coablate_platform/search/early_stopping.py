"""Early stopping: each trial trains by itself, and a stopping rule of Optuna's ends the hopeless ones."""

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.scheduler import SearchScheduler
from coablate_platform.train.events import RunState


class EarlyStoppingScheduler(SearchScheduler):
    """Runs each trial to its end, or until the stopping rule (ASHA, HyperBand, median or none) gives it up."""

    def _new_trial(self) -> TrialRecord:
        return self._suggest(origin={})

    def _stops(self, number: int, epoch: int, value: float) -> bool:
        if self._search.costs:
            return False  # with several objectives no trial is simply worse
        hopeless, judged = self._optuna.judge(number, epoch, value)
        return hopeless and judged < self._search.base.epochs  # after the last epoch nothing can be saved

    def _on_stop(self, number: int, epoch: int) -> None:
        self._end(number, RunState.STOPPED)

    def _may_continue(self, stopped: bool) -> bool:
        return not stopped

    def _may_reopen(self, record: TrialRecord) -> bool:
        return True

    def _settle(self) -> None:
        """Do nothing: no trial waits for another."""
