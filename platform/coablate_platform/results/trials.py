"""A search's trials in the journal: ``studies/<key>/trials/<number>.arrow``, one row each.

A trial is a study's arm that was drawn instead of declared; :func:`with_trials` makes arms of them, so that everything
that follows a study (MLflow, records) follows a search.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from coablate_platform.results.journal import Journal
from coablate_platform.results.storage import arrow_table, to_arrow
from coablate_platform.run.checkpoint import Checkpoints
from coablate_platform.run.records import EpochReport, RunState, TrialOutcome, TrialRecord, trial_name
from coablate_platform.study.errors import InputError
from coablate_platform.study.identity import digest
from coablate_platform.study.plan import PlannedArm, PlannedRun, StudyPlan
from coablate_platform.study.search import SEARCH_SEED

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


@dataclass(frozen=True)
class TrialBook:
    """One search's trials and their runs. Implements :class:`coablate_platform.run.book.Book`.

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
        self._checkpoints(child).copy(self._checkpoints(parent))

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


def best(plan: StudyPlan, trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Return the best trials that came to their end, each configuration once.

    Args:
        plan: the search's.
        trials: all of them.
        most: how many to return; with costs, of the Pareto front, by the metric.
    """
    ended = [trial for trial in trials if trial.outcome is TrialOutcome.COMPLETE]
    if plan.search is not None and plan.search.costs:
        ended = [trial for trial in ended if not any(_beats(other, trial) for other in ended)]
    ranked = sorted(ended, key=lambda trial: (-trial.values[0], trial.number))
    best_of: dict[str, TrialRecord] = {}
    for trial in ranked:
        best_of.setdefault(digest(trial.config), trial)
    return list(best_of.values())[:most]


def common_epoch(trials: Sequence[TrialRecord]) -> int:
    """Return the last epoch that all trials reached which did not fail: there they can be compared; 0 without any."""
    return min((trial.epoch for trial in trials if trial.values), default=0)


def _beats(other: TrialRecord, trial: TrialRecord) -> bool:
    """Whether ``other`` is nowhere worse and somewhere better; costs count against it."""
    pairs = list(zip(_gains(other), _gains(trial), strict=True))
    return all(mine >= theirs for mine, theirs in pairs) and any(mine > theirs for mine, theirs in pairs)


def _gains(trial: TrialRecord) -> tuple[float, ...]:
    return (trial.values[0], *(-cost for cost in trial.values[1:]))


def with_trials(plan: StudyPlan, trials: Sequence[TrialRecord]) -> StudyPlan:
    """Return a search's plan with its trials as arms; those that the model refused have no run."""
    arms = tuple(
        PlannedArm(
            name=trial_name(trial.number),
            difference=trial.changes,
            config=trial.config,
            parameters=trial.cost.get("parameters", 0),
            flops=trial.cost.get("flops", 0),
        )
        for trial in trials
    )
    runs = tuple(
        PlannedRun(run_id=trial.run_id, arm=trial_name(trial.number), seed=SEARCH_SEED)
        for trial in trials
        if trial.run_id
    )
    return replace(plan, arms=arms, runs=runs, reference=trial_name(0))
