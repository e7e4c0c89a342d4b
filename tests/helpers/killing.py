"""A trial log whose process is killed at one of its writes."""

from coablate_platform.journal.trials import TrialRecord
from coablate_platform.search.simulator import MemoryTrialLog


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
