"""The states and events of a run (epoch report, conclusion, failure), and the protocol of what records them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from coablate_platform.study.config import PRETRAINING


class RunState(StrEnum):
    """The state of a run."""

    WAITING = "waiting"  # planned; nothing is recorded yet
    RUNNING = "running"  # an attempt has begun and has not ended, or its process died before it could record the end
    COMPLETED = "completed"  # trained for its full budget, and tested unless it is a trial
    DIVERGED = "diverged"  # the training loss became NaN or infinite
    OUT_OF_MEMORY = "out_of_memory"  # the device or the host had too little memory
    CRASHED = "crashed"  # an exception in model, data or storage
    LOST = "lost"  # its process or node died as often as the failure policy allows
    STOPPED = "stopped"  # a search stopped it early; it can be resumed from its checkpoint

    @property
    def ended(self) -> bool:
        """Whether the last attempt of the run has ended."""
        return self not in (RunState.WAITING, RunState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """The report of one epoch.

    Args:
        epoch: number of the epoch, from 1.
        metrics: metric -> value (``train/loss``, ``validation/accuracy`` …); in a phase before the last their names
            begin with its name (``pretraining/train/loss``).
        seconds: wall time of the epoch.
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunUpdate:
    """What a lane sends to the scheduler after each step of its run.

    Args:
        state: state of the run.
        epoch: number of the epoch that was trained, from 1; 0 where the run has ended.
        seconds: wall time of that epoch.
        metrics: metric -> value of that epoch; of a tested run at its end its test metrics (``test/accuracy`` …).
        reason: why the run failed.
    """

    state: RunState
    epoch: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def phase(self) -> str:
        """The phase before the last to which the epoch belongs, as its metrics name it; empty in the last phase."""
        return PRETRAINING if any(name.startswith(f"{PRETRAINING}/") for name in self.metrics) else ""

    @classmethod
    def of_epoch(cls, report: EpochReport) -> "RunUpdate":
        """Return the update of a run that has trained an epoch and is still running."""
        return cls(state=RunState.RUNNING, epoch=report.epoch, seconds=report.seconds, metrics=report.metrics)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The predictions of the tested weights for all N test clips, in the store's order.

    Args:
        names: names of the clips.
        labels: classes of the clips, (N,).
        scores: scores of the K classes, (N, K).
    """

    names: list[str]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The result of a completed run.

    Args:
        epoch: the selected epoch, from 1.
        metrics: test metric -> value, without a prefix (``accuracy`` …); empty if the run is not tested.
        predictions: predictions for the test split; None if the run is not tested.
    """

    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    predictions: Predictions | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The end of an attempt without a conclusion.

    Args:
        state: which kind of failure.
        reason: the cause in a line.
        traceback: Python's traceback; empty where there is none.
    """

    state: RunState
    reason: str
    traceback: str = ""


class Recorder(Protocol):
    """Records the runs. Every call is idempotent: repeated, it leaves the same record."""

    def begin(self, run_id: str, attempt: int, context: dict[str, object]) -> None:
        """Record the start of an attempt.

        Args:
            run_id: identity of the run.
            attempt: number of the attempt, from 0.
            context: configuration, data fingerprint, seed, code and package versions, host and device.
        """
        ...

    def epoch(self, run_id: str, attempt: int, report: EpochReport) -> None:
        """Record an epoch."""
        ...

    def conclude(self, run_id: str, attempt: int, conclusion: Conclusion) -> None:
        """Record that the run is completed, with its result."""
        ...

    def fail(self, run_id: str, attempt: int, failure: Failure) -> None:
        """Record that an attempt failed."""
        ...

    def state(self, run_id: str) -> RunState:
        """Return the state of a run."""
        ...

    def test_metrics(self, run_id: str) -> dict[str, float]:
        """Return the test metrics of a completed run, without a prefix (``accuracy`` …)."""
        ...

    def attempts(self, run_id: str) -> int:
        """Return the number of attempts so far, which is also the number of the next attempt."""
        ...
