"""What is said about a run: its states, an epoch's report, its conclusion, its failure; and who writes it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class RunState(StrEnum):
    """Where a run stands. Each meaning is written here and nowhere else."""

    WAITING = "waiting"  # planned, nothing written yet
    RUNNING = "running"  # an attempt has begun and not ended (or its process died without a word)
    COMPLETED = "completed"  # trained to its full budget, tested once
    DIVERGED = "diverged"  # the loss became NaN or infinite
    OUT_OF_MEMORY = "out_of_memory"  # the device or the host refused memory
    CRASHED = "crashed"  # an exception in model, data or storage
    LOST = "lost"  # its process or node died as often as the policy allows
    STOPPED = "stopped"  # a search gave it up; whoever needs it whole goes on from its checkpoint

    @property
    def ended(self) -> bool:
        return self not in (RunState.WAITING, RunState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch: ``metrics`` by name (``train/loss``, ``validation/accuracy`` …), wall time in seconds."""

    epoch: int  # from 1
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunUpdate:
    """What a lane says of its run after each step, to whoever scheduled it.

    Args:
        state: where the run stands now.
        epoch: the epoch that was trained, from 1; 0 unless the run is still training.
        seconds: wall time of that epoch.
        metrics: of that epoch by name; of a completed run its test metrics, as ``test/accuracy``.
        reason: why the run failed.
    """

    state: RunState
    epoch: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def of_epoch(cls, report: EpochReport) -> "RunUpdate":
        """Return the update of a run that goes on after an epoch."""
        return cls(state=RunState.RUNNING, epoch=report.epoch, seconds=report.seconds, metrics=report.metrics)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What the selected weights say of every test clip, in store order."""

    names: list[str]
    labels: NDArray[np.int64]  # (N,)
    scores: NDArray[np.float32]  # (N, K)


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The end of a run: the tested epoch, its test metrics by plain name (``accuracy`` …), its predictions."""

    epoch: int
    metrics: dict[str, float]
    predictions: Predictions


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a run ended without a conclusion."""

    state: RunState
    reason: str
    traceback: str = ""


class Recorder(Protocol):
    """Writes a run down as it happens; every call may be repeated and leaves the same record.

    ``context`` of :meth:`begin` holds what identifies and explains the attempt: configuration, data fingerprint,
    seed, code and package versions, host, device.
    """

    def begin(self, run_id: str, attempt: int, context: dict[str, object]) -> None: ...

    def epoch(self, run_id: str, attempt: int, report: EpochReport) -> None: ...

    def conclude(self, run_id: str, attempt: int, conclusion: Conclusion) -> None: ...

    def fail(self, run_id: str, attempt: int, failure: Failure) -> None: ...

    def state(self, run_id: str) -> RunState: ...

    def tested(self, run_id: str) -> dict[str, float]:
        """Return a completed run's test metrics by plain name."""
        ...

    def attempts(self, run_id: str) -> int:
        """Return how many attempts there were: the number of the next."""
        ...
