"""What is said about a run: its states, an epoch's report, its conclusion, its failure; and who writes it down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

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


class TrialOutcome(StrEnum):
    """How a trial of a search ended, in Optuna's words."""

    COMPLETE = "complete"  # trained to its full budget
    PRUNED = "pruned"  # given up by the stopping rule
    FAILED = "failed"  # diverged, crashed, out of memory, lost, or refused by the model


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial of a search.

    Args:
        number: from 0, in the order in which they were drawn.
        params: what was drawn, by parameter.
        ranges: what each parameter was drawn from, as Optuna's JSON.
        sampler: which one drew it; empty where it was given (the base, a point, a grid's) or goes on from another.
        changes: what was drawn, by dotted field, as canonical JSON values.
        config: the whole configuration, likewise; empty where the model refused it.
        run_id: the run that is its training; empty likewise.
        cost: ``parameters`` and ``flops`` of the configuration.
        outcome: None while it is open.
        values: the validation metric, and the costs it is traded against; at the last rung where it was given up.
        epoch: the last epoch that was judged; 0 while it is open.
        reason: why it failed.
        origin: in a population, where it comes from: the ``epoch`` after which it began, its ``slot`` among those that
            began there, and its ``parent``, the trial from whose weights it went on (no key where it was drawn).
    """

    number: int
    params: dict[str, bool | int | float | str | None]
    ranges: dict[str, str]
    sampler: str
    changes: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""
    cost: dict[str, int] = field(default_factory=dict)
    outcome: TrialOutcome | None = None
    values: tuple[float, ...] = ()
    epoch: int = 0
    reason: str = ""
    origin: dict[str, int] = field(default_factory=dict)


def trial_name(number: int) -> str:
    """Return how progress, tables and MLflow call a trial."""
    return f"trial {number}"


def drawn_text(record: TrialRecord) -> str:
    """Write what a trial drew: its factors, or the bare parameters where they make no configuration."""
    return changes_text(record.changes or record.params)


def changes_text(changes: Mapping[str, Any]) -> str:
    """Write dotted fields with their canonical values in one line: a site as its fields, numbers in few digits."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in changes.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_plain(part)}' for name, part in value.items() if part is not None)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
