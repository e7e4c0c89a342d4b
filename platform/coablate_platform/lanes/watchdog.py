"""Ends a worker that hangs, and keeps its stack.

The timer is :mod:`faulthandler`'s. Its thread is in C and needs no interpreter lock, so it also ends a worker that
hangs in a library. It writes the stacks of all Python threads to a file and ends the process. Ray Train then restarts
the lane, which resumes the run from its checkpoint, as after any other loss of a worker.
"""

import faulthandler
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

from coablate_platform.study.config import Phase
from coablate_platform.study.model import ClipShape
from coablate_platform.train.events import Failure, RunState
from coablate_platform.train.task import Batch, DataSplits

LONGER = 10
"""How many times as long as the longest step a worker may be silent, where the study sets no limit."""
LEAST_S = 600.0
"""How long a worker may be silent at least, where the study sets no limit."""
START = 10
"""How many times longer a run may take to open its data and to make its first step, which may compile."""

Event = TypeVar("Event")


def patience(setting: float | None, longest: float, starting: bool) -> float:
    """Return how many seconds a worker may be silent before it counts as hanging.

    Args:
        setting: ``resources.hang_after`` of the study.
        longest: seconds of the run's longest step so far; 0 before the first.
        starting: whether the run has not made its first step.
    """
    limit = max(LONGER * longest, LEAST_S) if setting is None else setting
    return limit * START if starting else limit


class Watchdog:
    """Watches one attempt at a run: each batch and each event of the run is a sign of life.

    While the run waits for a command, it is not watched.

    Args:
        folder: a local folder of the run; the stack of a worker that hangs is written there.
        attempt: number of the attempt.
        rank: rank of this worker.
        setting: ``resources.hang_after`` of the study.
    """

    def __init__(self, folder: Path, attempt: int, rank: int, setting: float | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"stack-{attempt}-{rank}.txt"
        self._setting, self._longest, self._batches = setting, 0.0, 0
        self._last: float | None = None

    def __enter__(self) -> Self:
        self._stream = self._file.open("w")
        self._beat()
        return self

    def __exit__(self, *exception: object) -> None:
        self._rest()
        self._stream.close()
        self._file.unlink(missing_ok=True)

    def data(self, data: DataSplits) -> DataSplits:
        """Return the clips of a run, of which each batch is a sign of life."""
        return _WatchedSplits(data, self)

    def events(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield a run's events, and watch the run while the next one is awaited."""
        while True:
            self._beat()
            try:
                event = next(events)
            except StopIteration:
                return
            finally:
                self._rest()
            yield event

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches of a run; each is a sign of life."""
        for batch in batches:
            self._batches += 1
            self._beat()
            yield batch

    def _beat(self) -> None:
        now, starting = time.monotonic(), self._batches < 2  # with the second batch the first step has been made
        if self._last is not None and self._batches > 2:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        faulthandler.dump_traceback_later(
            patience(self._setting, self._longest, starting), file=self._stream, exit=True
        )

    def _rest(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._last = None


class _WatchedSplits:
    """The clips of a run, of which each batch is a sign of life. Implements :class:`DataSplits`."""

    def __init__(self, data: DataSplits, watchdog: Watchdog) -> None:
        self._data, self._watchdog = data, watchdog

    @property
    def shape(self) -> ClipShape:
        return self._data.shape

    @property
    def sizes(self) -> dict[str, int]:
        return self._data.sizes

    @property
    def names(self) -> list[str]:
        return self._data.names

    def train(self, epoch: int, phase: Phase, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        return self._watchdog.batches(self._data.train(epoch, phase, rank, world))

    def evaluate(self, split: str, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        return self._watchdog.batches(self._data.evaluate(split, batch_size, rank, world))


def take_hangs(folder: Path) -> dict[int, Failure]:
    """Return the attempts at a run that ended because a worker hung, with the stacks, and delete the files.

    Args:
        folder: a local folder of the run.
    """
    stacks: dict[int, list[str]] = {}
    for file in sorted(folder.glob("stack-*-*.txt")):
        _, attempt, rank = file.stem.split("-")
        if text := file.read_text(errors="replace"):  # it is empty where the worker died of something else
            stacks.setdefault(int(attempt), []).append(f"worker {rank}: {text}")
        file.unlink()
    return {attempt: _hang("\n".join(texts)) for attempt, texts in stacks.items()}


def _hang(stacks: str) -> Failure:
    limit = re.search(r"Timeout \((\S+?)(?:\.\d+)?\)", stacks)
    seconds = f" for {limit[1]}" if limit else ""
    return Failure(state=RunState.LOST, reason=f"its worker made no step{seconds} and was ended", traceback=stacks)
