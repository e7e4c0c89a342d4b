"""The trials of a search in the journal: ``studies/<key>/trials/<number>.arrow``, one row each."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from coablate_platform.journal.journal import RUN_ID, Journal
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
        ("loss", pa.float64()),
        ("late", pa.float64()),
        ("rung", pa.int64()),
        ("reason", pa.string()),
        *((name, pa.string()) for name in _AS_JSON),
    ]
)


class TrialOutcome(StrEnum):
    """How a trial of a search ended, in Optuna's words."""

    COMPLETE = "complete"  # trained to its full budget
    PRUNED = "pruned"  # stopped early by the stopping rule, or replaced in a population
    FAILED = "failed"  # diverged, crashed, out of memory, lost, or refused by the model


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial of a search.

    Args:
        number: the trial's number, in the order of suggestion, from 0.
        params: parameter -> suggested value; a factor may have several parameters.
        ranges: parameter -> the distribution that it was suggested from, as Optuna's JSON.
        sampler: the sampler that suggested the parameters; empty if they were given (the base, a point, a configuration
            of the grid) or perturbed from another trial's.
        changes: dotted field -> the value that follows from the parameters, as canonical JSON values; empty if the
            model refused the configuration.
        config: the whole configuration, likewise.
        run_id: identity of the trial's run; empty likewise.
        cost: ``parameters`` and ``flops`` of the configuration, and its ``latency`` in µs if that is a cost of the
            search.
        outcome: how the trial ended; None until then.
        values: of a completed trial the validation metric and the costs of the search; of a pruned one the metric after
            ``epoch``; else empty.
        epoch: the last epoch that was judged; 0 until the trial ends.
        loss: of a completed trial the validation loss of the selected epoch; None if its run did not report one.
        late: of a completed trial the mean of the validation metric over its last three epochs. Trials with the same
            metric are ordered by ``loss``, then by this.
        rung: with the rule ``asha_promotion``, the epoch up to which the trial was promoted; 0 before its first
            promotion.
        reason: why it failed.
        origin: in a population, the ``epoch`` after which the trial was created, its ``slot`` among the trials created
            there, and its ``parent``, the trial whose weights it continues (no such key in the first generation).
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
    loss: float | None = None
    late: float | None = None
    rung: int = 0
    reason: str = ""
    origin: dict[str, int] = field(default_factory=dict)


def trial_name(number: int) -> str:
    """Return the name of a trial on the screen, in tables and in MLflow."""
    return f"trial {number}"


def parameters_text(record: TrialRecord) -> str:
    """Write a trial's parameters as the fields that they change; bare, if the model refused the configuration."""
    return changes_text(record.changes or record.params)


class TrialLog(Protocol):
    """Reads and writes the trials of a search and the state of their runs."""

    @property
    def owner(self) -> str:
        """Name of the results folder."""
        ...

    def trials(self) -> Sequence[TrialRecord]:
        """Return the search's trials by number."""
        ...

    def write_trial(self, record: TrialRecord) -> None:
        """Write a trial; a later record of the same number replaces it."""
        ...

    def state(self, run_id: str) -> RunState:
        """Return the state of a run."""
        ...

    def epochs(self, run_id: str) -> Sequence[EpochReport]:
        """Return the reports of a run so far."""
        ...

    def stop(self, run_id: str) -> None:
        """Record that the search has stopped a run, for good or until it is promoted or its population is renewed."""
        ...

    def discard(self, run_id: str) -> None:
        """Delete the checkpoints of a run that will not be continued."""
        ...

    def fork(self, parent: str, child: str) -> None:
        """Copy a run's checkpoint to a run that has not begun, which then continues from it."""
        ...

    def reached(self, run_id: str) -> int:
        """Return the epoch of a run's checkpoint, from which it would continue; its reports may be ahead of that."""
        ...


@dataclass(frozen=True)
class JournalTrialLog:
    """The trials of one search in a journal. Implements :class:`TrialLog`.

    Args:
        journal: the journal of the results folder.
        key: the search's key.
        checkpoints: path or URI of the folder with a checkpoint folder per run; needed only to train.
    """

    journal: Journal
    key: str
    checkpoints: str = ""

    @property
    def owner(self) -> str:
        """Path or URI of the results folder."""
        return self.journal.folder.uri

    def trials(self) -> list[TrialRecord]:
        """Return the trials by number.

        Raises:
            InputError: a trial's file is damaged.
        """
        return [self.read(name) for name in sorted(self.stamps())]

    def write_trial(self, record: TrialRecord) -> None:
        """Write a trial's file; a later record of the same number replaces it."""
        row = asdict(record) | {"outcome": record.outcome, "values": list(record.values)}
        row |= {name: json.dumps(row[name], ensure_ascii=False) for name in _AS_JSON}
        content = to_arrow(pa.Table.from_pylist([row], schema=_SCHEMA))
        self.journal.folder.write(f"{self._folder}/{record.number:05d}.arrow", content)

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Return name of a trial's file -> a value that changes when it is written. Costs one listing."""
        stamps = self.journal.folder.stamps(self._folder)
        return {name: stamp for name, stamp in stamps.items() if re.fullmatch(r"\d+\.arrow", name)}

    def read(self, name: str) -> TrialRecord:
        """Read one of the files that :meth:`stamps` names.

        Raises:
            InputError: the file is damaged.
        """
        path = f"{self._folder}/{name}"
        try:
            table = self.journal.folder.read_as(arrow_table, path)
            row = (arrow_table(b"") if table is None else table).to_pylist()[0]
            values = row | {key: json.loads(row[key]) for key in _AS_JSON} | {"values": tuple(row["values"])}
            if row["run_id"] and not RUN_ID.fullmatch(row["run_id"]):
                raise ValueError(f"{row['run_id']!r} is no run id")
            return TrialRecord(**(values | {"outcome": row["outcome"] and TrialOutcome(row["outcome"])}))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                f"{self.owner}/{path} is damaged or of another version ({error}); delete it and resume the search"
            ) from None

    def state(self, run_id: str) -> RunState:
        return self.journal.state(run_id)

    def epochs(self, run_id: str) -> Sequence[EpochReport]:
        return self.journal.record(run_id).epochs

    def stop(self, run_id: str) -> None:
        self.journal.stop(run_id)

    def discard(self, run_id: str) -> None:
        self.journal.folder.check_write()
        self._checkpoints(run_id).clear()

    def fork(self, parent: str, child: str) -> None:
        self.journal.folder.check_write()
        self._checkpoints(child).copy_from(self._checkpoints(parent))

    def reached(self, run_id: str) -> int:
        return self._checkpoints(run_id).epoch

    @property
    def _folder(self) -> str:
        return f"studies/{self.key}/trials"

    def _checkpoints(self, run_id: str) -> Checkpoints:
        return Checkpoints(f"{self.checkpoints}/{run_id}")
