"""Where a search's trials and runs are written down, as the sweep needs it; the journal is one, memory another."""

from collections.abc import Sequence
from typing import Protocol

from coablate_platform.run.records import EpochReport, RunState, TrialRecord


class Book(Protocol):
    """Where trials and runs are written down."""

    @property
    def owner(self) -> str:
        """Name the results folder."""
        ...

    def trials(self) -> Sequence[TrialRecord]:
        """Return the search's trials by number."""
        ...

    def write_trial(self, record: TrialRecord) -> None: ...

    def state(self, run_id: str) -> RunState: ...

    def epochs(self, run_id: str) -> Sequence[EpochReport]:
        """Return what the run has reported so far."""
        ...

    def stop(self, run_id: str) -> None:
        """Write down that a search has given the run up, or lets it pause."""
        ...

    def fork(self, parent: str, child: str) -> None:
        """Let a run that has not begun go on from where another stands."""
        ...

    def reached(self, run_id: str) -> int:
        """Return the epoch that a run would go on from: its checkpoint's, which may lag behind its reports."""
        ...
