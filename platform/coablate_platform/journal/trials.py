"""A search's trials in the journal: ``studies/<key>/trials/<number>.arrow``, one row each.

A trial is a study's arm that was drawn instead of declared; :func:`with_trials` makes arms of them, so that everything
that follows a study (MLflow, records) follows a search.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from coablate_platform.journal.journal import Journal
from coablate_platform.journal.storage import arrow_table, to_arrow
from coablate_platform.study.errors import InputError
from coablate_platform.study.overrides import changes_text
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import EpochReport, RunState

_AS_JSON = ("params", "ranges", "changes", "config", "cost", "origin")
_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("sampler", pa.string()),
        ("run_id", pa.string()),
        ("outcome", pa.string()),
        ("values", pa.list_(pa.float64())),
        ("epoch", pa.int64()),
        ("reason", pa.string()),
        *((name, pa.string()) for name in _AS_JSON),
    ]
)


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


class TrialLog(Protocol):
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


@dataclass(frozen=True)
class JournalTrialLog:
    """One search's trials and their runs. Implements :class:`TrialLog`.

    Args:
        journal: of the results folder.
        key: the search's.
        checkpoints: where its runs' lie, a folder each; only a search that works needs them.
    """

    journal: Journal
    key: str
    checkpoints: str = ""

    @property
    def owner(self) -> str:
        """The results folder."""
        return self.journal.folder.uri

    def trials(self) -> list[TrialRecord]:
        """Return the trials by number."""
        return [self.read(name) for name in sorted(self.stamps())]

    def write_trial(self, record: TrialRecord) -> None:
        """Write a trial down, or anew when it has ended."""
        row = asdict(record) | {"outcome": record.outcome, "values": list(record.values)}
        row |= {name: json.dumps(row[name], ensure_ascii=False) for name in _AS_JSON}
        content = to_arrow(pa.Table.from_pylist([row], schema=_SCHEMA))
        self.journal.folder.write(f"{self._folder}/{record.number:05d}.arrow", content)

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return for each trial's file a value that changes when it is written, for one listing."""
        return self.journal.folder.stamps(self._folder)

    def state(self, run_id: str) -> RunState:
        return self.journal.state(run_id)

    def epochs(self, run_id: str) -> Sequence[EpochReport]:
        return self.journal.record(run_id).epochs

    def stop(self, run_id: str) -> None:
        self.journal.stop(run_id)

    def fork(self, parent: str, child: str) -> None:
        self._checkpoints(child).copy_from(self._checkpoints(parent))

    def reached(self, run_id: str) -> int:
        return self._checkpoints(run_id).epoch

    def _checkpoints(self, run_id: str) -> Checkpoints:
        return Checkpoints(f"{self.checkpoints}/{run_id}")

    @property
    def _folder(self) -> str:
        return f"studies/{self.key}/trials"

    def read(self, name: str) -> TrialRecord:
        """Read one of the files that :meth:`stamps` names.

        Raises:
            InputError: it is damaged.
        """
        path = f"{self._folder}/{name}"
        try:
            row = arrow_table(self.journal.folder.read(path) or b"").to_pylist()[0]
            values = row | {key: json.loads(row[key]) for key in _AS_JSON} | {"values": tuple(row["values"])}
            return TrialRecord(**(values | {"outcome": row["outcome"] and TrialOutcome(row["outcome"])}))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            where = f"{self.journal.folder.uri}/{path}"
            raise InputError(f"{where} is damaged or of another version ({error}); delete it and go on") from None
