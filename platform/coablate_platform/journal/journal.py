"""The journal of a results folder: what happened to every run and trial, in Arrow files.

``journal/<run>/<attempt>/{begin,epochs,predictions,conclusion,failure,stopped}.arrow``, ``studies/<key>/study.json``
and, for a search, ``studies/<key>/trials/<number>.arrow``.

Tables, figures, reports and MLflow are computed from these files. Each is written atomically, and writing it again does
not change its meaning. A crash between two writes therefore leaves a readable journal, and readers need no lock.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coablate_platform.journal.attempts import AttemptFiles
from coablate_platform.journal.storage import Folder, unchecked
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.plan import AnyPlan, SearchPlan, StudyPlan, plan_from_json
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Predictions, RunState

RUN_ID = re.compile("[0-9a-f]{64}")
"""What a run id looks like. Files of others may hold other texts, and run ids are names of folders."""
_ROOM = ".room"  # a file that is deleted where the disk is full
_ROOM_BYTES = 2**20
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything that the journal holds about a run, except its predictions (see :meth:`Journal.predictions`).

    An attempt's *context* is what was recorded when it began: configuration, seed, data fingerprint, code and package
    versions, host and device.

    Args:
        run_id: the run's identity.
        state: the run's state.
        attempts: number of attempts, including those that failed before they began.
        epochs: the reports of the run's history, by epoch; if a resumed attempt repeats an epoch, its report counts.
        epoch_times: when each of ``epochs`` was written, in Unix seconds.
        context: context of the attempt that concluded the run, else of the last attempt.
        trained: contexts of the attempts that trained ``epochs``.
        started: when the first attempt began, in Unix seconds; None if none has begun.
        ended: when the run completed, failed or was stopped, in Unix seconds; None if it has not ended.
        tested_epoch: the epoch whose weights were tested; None unless completed.
        metrics: test metrics by plain name (``accuracy`` …); empty unless completed.
        failure: why the last attempt failed; None unless ``state`` is a failure.
    """

    run_id: str
    state: RunState
    attempts: int
    epochs: tuple[EpochReport, ...]
    epoch_times: tuple[float, ...]
    context: dict[str, Any]
    trained: tuple[dict[str, Any], ...]
    started: float | None
    ended: float | None
    tested_epoch: int | None
    metrics: dict[str, float]
    failure: Failure | None

    @classmethod
    def waiting(cls, run_id: str) -> "RunRecord":
        """Return the record of a run that has not begun."""
        return cls(
            run_id=run_id,
            state=RunState.WAITING,
            attempts=0,
            epochs=(),
            epoch_times=(),
            context={},
            trained=(),
            started=None,
            ended=None,
            tested_epoch=None,
            metrics={},
            failure=None,
        )


def _plan_of(name: str, content: bytes) -> AnyPlan:
    """Read a plan, and refuse one that names other folders, into which files would be written."""
    plan = plan_from_json(content.decode())
    if plan.key != name.partition("/")[0]:
        raise ValueError(f"its key is {plan.key!r}")
    if wrong := [run.run_id for run in getattr(plan, "runs", ()) if not RUN_ID.fullmatch(run.run_id)]:
        raise ValueError(f"{wrong[0]!r} is no run id")
    return plan


class Journal:
    """Reads and writes the journal. Implements :class:`~coablate_platform.train.events.Recorder`.

    Picklable. Any number of processes may read; only one may write an attempt's files at a time.

    Args:
        uri: the results folder: a local path or any URI that ``pyarrow.fs`` opens.
        check_write: called before each write in this process; an error prevents it.
    """

    def __init__(self, uri: str, check_write: Callable[[], None] = unchecked) -> None:
        self.folder = Folder(uri, check_write)
        self._files = AttemptFiles(self.folder)

    def begin(self, run_id: str, attempt: int, context: dict[str, object]) -> None:
        """Record that an attempt begins. If that is recorded already, nothing changes."""
        if self._files.rows(run_id, attempt, "begin") is None:
            text = json.dumps(context, sort_keys=True, ensure_ascii=False)
            self._files.write(run_id, attempt, "begin", [{"time": time.time(), "context": text}])

    def epoch(self, run_id: str, attempt: int, report: EpochReport) -> None:
        """Record an epoch's report. It replaces an earlier report of the same epoch and keeps that one's time."""
        rows = {row["epoch"]: row for row in self._files.rows(run_id, attempt, "epochs") or []}
        rows[report.epoch] = {
            "epoch": report.epoch,
            "time": rows.get(report.epoch, {}).get("time", time.time()),
            "seconds": report.seconds,
            "metrics": list(report.metrics.items()),
        }
        self._files.write(run_id, attempt, "epochs", [rows[number] for number in sorted(rows)])

    def conclude(self, run_id: str, attempt: int, conclusion: Conclusion) -> None:
        """Record a run's conclusion. If one is recorded already, nothing changes.

        The predictions are written first, so a tested run with a conclusion always has them.
        """
        if self._files.rows(run_id, attempt, "conclusion") is not None:
            return  # a run reads the test data once: a second result must not replace the first
        if conclusion.predictions is not None:
            self._files.write_predictions(run_id, attempt, conclusion.predictions)
        row = {"epoch": conclusion.epoch, "time": time.time(), "metrics": list(conclusion.metrics.items())}
        self._files.write(run_id, attempt, "conclusion", [row])

    def fail(self, run_id: str, attempt: int, failure: Failure) -> None:
        """Record that an attempt failed. If that is recorded already, nothing changes.

        On a full disk the record takes the room that :meth:`keep_room` has kept.

        Raises:
            OSError: the record cannot be written.
        """
        if self._files.rows(run_id, attempt, "failure") is not None:
            return
        row = {"state": failure.state.value, "reason": failure.reason, "traceback": failure.traceback}
        rows = [row | {"time": time.time()}]
        try:
            self._files.write(run_id, attempt, "failure", rows)
        except OSError as error:
            if not self.folder.delete(_ROOM):
                raise
            log.warning("%s: %s; a failure is recorded in the room that was kept for it", self.folder.uri, error)
            self._files.write(run_id, attempt, "failure", rows)

    def keep_room(self) -> None:
        """Keep room on the disk for the record of a failure, which may be that the disk is full.

        Object storage needs none.

        Raises:
            OSError: there is no such room.
        """
        if self.folder.local:
            self.folder.write(_ROOM, bytes(_ROOM_BYTES))

    def stop(self, run_id: str) -> None:
        """Record that a search has stopped a run, unless the run has ended already."""
        if not self.state(run_id).ended:
            attempt = max(self._files.names(run_id), default=0)
            self._files.write(run_id, attempt, "stopped", [{"time": time.time()}])

    def state(self, run_id: str) -> RunState:
        """Return a run's state: completed if any attempt has a conclusion, else the state of the last attempt."""
        names = self._files.names(run_id)
        concluded = any("conclusion" in files for files in names.values())
        last = max(names, default=0)
        failure = {} if concluded else self._files.row(run_id, last, "failure")
        return _state(concluded=concluded, failure=failure, last=names.get(last))

    def attempts(self, run_id: str) -> int:
        """Return the number of a run's attempts, including those that failed before they began."""
        return max(self._files.names(run_id), default=-1) + 1

    def test_metrics(self, run_id: str) -> dict[str, float]:
        """Return a run's test metrics by plain name; empty unless it is completed."""
        return self.record(run_id).metrics

    def begun(self) -> set[str]:
        """Return the ids of all runs of which something is recorded. Costs one listing, however many they are."""
        return self.folder.folders("journal")

    def stamp(self, run_id: str) -> dict[str, tuple[int, int]]:
        """Return a value that changes whenever a file of the run is written. Costs one listing of its folder."""
        return self.folder.stamps(f"journal/{run_id}")

    def record(self, run_id: str) -> RunRecord:
        """Read everything about a run except its predictions."""
        names = self._files.names(run_id)
        concluding = _concluding(names)
        last = max(names, default=0) if concluding is None else concluding
        history = self._history(run_id, [attempt for attempt in sorted(names) if attempt <= last])
        conclusion = {} if concluding is None else self._files.row(run_id, last, "conclusion")
        stopped = self._files.row(run_id, last, "stopped") if concluding is None else {}
        failure = self._files.row(run_id, last, "failure") if concluding is None else {}
        begun = (attempt for attempt in sorted(names) if "begin" in names[attempt])
        return RunRecord(
            run_id=run_id,
            state=_state(concluded=concluding is not None, failure=failure, last=names.get(last)),
            attempts=max(names, default=-1) + 1,
            epochs=tuple(
                EpochReport(epoch=row["epoch"], metrics=dict(row["metrics"]), seconds=row["seconds"]) for row in history
            ),
            epoch_times=tuple(row["time"] for row in history),
            context=self._context(run_id, last),
            trained=tuple(self._context(run_id, attempt) for attempt in sorted({row["attempt"] for row in history})),
            started=next((self._files.row(run_id, attempt, "begin")["time"] for attempt in begun), None),
            ended=(conclusion or failure or stopped).get("time"),
            tested_epoch=conclusion.get("epoch"),
            metrics=dict(conclusion.get("metrics", [])),
            failure=_failure(failure),
        )

    def records(self, plan: StudyPlan) -> dict[str, RunRecord]:
        """Read the records of all runs of a study: run id -> record."""
        begun = self.begun()
        ids = (run.run_id for run in plan.runs)
        return {run_id: self.record(run_id) if run_id in begun else RunRecord.waiting(run_id) for run_id in ids}

    def predictions(self, run_id: str) -> Predictions:
        """Read the scores that a completed run gave to every test clip.

        Raises:
            InputError: the run is not completed or was not tested, or its file is damaged.
        """
        concluding = _concluding(self._files.names(run_id))
        predictions = None if concluding is None else self._files.predictions(run_id, concluding)
        if predictions is None:
            reason = "it is not completed" if concluding is None else "trials of a search are not tested"
            raise InputError(f"run {run_id[:12]} in {self.folder.uri} has no predictions: {reason}")
        return predictions

    def write_plan(self, plan: AnyPlan) -> None:
        """Write ``studies/<key>/study.json``."""
        self.write_study_file(plan.key, "study.json", plan.to_json().encode())

    def write_study_file(self, key: str, name: str, content: bytes) -> None:
        """Write a file in a study's folder atomically."""
        self.folder.write(f"studies/{key}/{name}", content)

    def plans(self) -> list[AnyPlan]:
        """Read the plans of all studies and searches in the folder, sorted by key.

        Raises:
            InputError: a plan is damaged or of another version.
        """
        names = sorted(name for name in self.folder.stamps("studies") if name.split("/")[1:] == ["study.json"])
        return [plan for name in names if (plan := self._read_plan(name)) is not None]

    def plan(self, name: str | None = None) -> AnyPlan:
        """Find the plan of a study or a search.

        Args:
            name: its key or its name; None means the only one in the folder, apart from confirmations of searches.

        Raises:
            InputError: there is no such plan, or more than one.
        """
        plans = self.plans()
        if not plans:
            raise InputError(f"results folder {self.folder.uri} holds no study")
        if name is None:
            matching = [plan for plan in plans if not _is_confirmation(plan)]
        else:
            matching = [plan for plan in plans if name in (plan.key, plan.name)]
        if not matching:
            known = {text for plan in plans for text in (plan.key, plan.name)}
            raise InputError(
                f"results folder {self.folder.uri} holds no study {name!r}{did_you_mean(str(name), known)}"
            )
        if len(matching) > 1:
            keys = ", ".join(plan.key for plan in matching)
            raise InputError(f"results folder {self.folder.uri} holds several such studies, name one of: {keys}")
        return matching[0]

    def concluding_plan(self, name: str | None = None) -> StudyPlan:
        """Find, as :meth:`plan` does, the study whose table is the result; for a search, its newest confirmation.

        Raises:
            InputError: there is no such plan, more than one, or a search that is not confirmed yet.
        """
        plan = self.plan(name)
        if isinstance(plan, StudyPlan):
            return plan
        stamps = self.folder.stamps("studies")
        confirmations = [other for other in self.plans() if isinstance(other, StudyPlan) and other.confirms == plan.key]
        if not confirmations:
            raise InputError(
                f"search {plan.key} has no table until its best trials are confirmed; "
                "list its trials so far with: coablate best, or continue it with: coablate resume"
            )
        return max(confirmations, key=lambda other: stamps[f"{other.key}/study.json"])

    def search_plan(self, name: str | None = None) -> SearchPlan:
        """Find the plan of a search, as :meth:`plan` does.

        Raises:
            InputError: there is no such plan, more than one, or it is the plan of a study.
        """
        plan = self.plan(name)
        if not isinstance(plan, SearchPlan):
            raise InputError(f"study {plan.key} is not a search; show its result with: coablate table")
        return plan

    def _read_plan(self, name: str) -> AnyPlan | None:
        try:
            return self.folder.read_as(lambda content: _plan_of(name, content), f"studies/{name}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.folder.uri}/studies/{name} is damaged or of another version ({error}); "
                "delete it and run the study again, which does not repeat completed runs"
            ) from None

    def _history(self, run_id: str, attempts: list[int]) -> list[dict[str, Any]]:
        """Return a row per epoch, each from the last of these attempts that trained it, with that ``attempt``."""
        history: dict[int, dict[str, Any]] = {}
        for attempt in attempts:
            rows = self._files.rows(run_id, attempt, "epochs") or []
            history |= {row["epoch"]: row | {"attempt": attempt} for row in rows}
        return [history[epoch] for epoch in sorted(history)]

    def _context(self, run_id: str, attempt: int) -> dict[str, Any]:
        context: dict[str, Any] = json.loads(self._files.row(run_id, attempt, "begin").get("context", "{}"))
        return context


def _concluding(names: dict[int, set[str]]) -> int | None:
    """Return the first attempt that has a conclusion, or None; ``names`` are the files of each attempt."""
    return min((attempt for attempt, files in names.items() if "conclusion" in files), default=None)


def _state(*, concluded: bool, failure: dict[str, Any], last: set[str] | None) -> RunState:
    """Return a run's state.

    Args:
        concluded: whether an attempt has a conclusion.
        failure: the row of the last attempt's failure; empty if it has not failed.
        last: the names of the last attempt's files; None without any attempt.
    """
    if concluded:
        return RunState.COMPLETED
    if failure:
        return RunState(failure["state"])
    if last is None:
        return RunState.WAITING
    return RunState.STOPPED if "stopped" in last else RunState.RUNNING


def _failure(row: dict[str, Any]) -> Failure | None:
    if not row:
        return None
    return Failure(state=RunState(row["state"]), reason=row["reason"], traceback=row["traceback"])


def _is_confirmation(plan: AnyPlan) -> bool:
    return isinstance(plan, StudyPlan) and plan.confirms is not None
