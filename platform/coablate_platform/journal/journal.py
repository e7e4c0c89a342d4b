"""The journal: what happened, in Arrow files below one results folder. Everything else follows from it.

``journal/<run>/<attempt>/{begin,epochs,predictions,conclusion,failure,stopped}.arrow``, ``studies/<key>/study.json``
and, of a search, ``studies/<key>/trials/<number>.arrow``.
Every file is written atomically and says the same when it is written twice, so a crash between any two writes leaves
a readable journal, and readers need no lock.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from coablate_platform.journal.storage import Folder, arrow_table, to_arrow
from coablate_platform.study.errors import InputError, did_you_mean
from coablate_platform.study.plan import AnyPlan, SearchPlan, StudyPlan, plan_from_json
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Predictions, RunState

_METRICS = pa.map_(pa.string(), pa.float64())
_BEGIN = pa.schema([("time", pa.float64()), ("context", pa.string())])
_EPOCHS = pa.schema([("epoch", pa.int64()), ("time", pa.float64()), ("seconds", pa.float64()), ("metrics", _METRICS)])
_CONCLUSION = pa.schema([("epoch", pa.int64()), ("time", pa.float64()), ("metrics", _METRICS)])
_STOPPED = pa.schema([("time", pa.float64())])
_FAILURE = pa.schema([(name, pa.string()) for name in ("state", "reason", "traceback")] + [("time", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that the journal knows of a run, but for its predictions (see :meth:`Journal.predictions`).

    Args:
        run_id: the run's identity.
        state: where it stands.
        attempts: how many there were, those among them that failed before they had begun.
        epochs: the effective history by epoch; where a resumed attempt repeats an epoch, the later one counts.
        epoch_times: when each of ``epochs`` was written, in Unix seconds.
        context: what the concluding, else the last attempt was begun with.
        trained: what the attempts were begun with whose epochs count.
        started: when the first attempt began, in Unix seconds; None while waiting.
        ended: when it was concluded or failed for good, in Unix seconds; None before.
        tested_epoch: the epoch whose weights were tested; None unless completed.
        metrics: test metrics by plain name; empty unless completed.
        failure: why the last attempt failed; None unless the state says so.
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


class Journal:
    """Reads and writes one results folder. Implements :class:`~coablate_platform.train.events.Recorder`.

    Picklable, and safe with many readers; of one attempt's files there is one writer at a time.

    Args:
        uri: the results folder: a local path or any URI that ``pyarrow.fs`` opens.
    """

    def __init__(self, uri: str) -> None:
        self.folder = Folder(uri)

    def begin(self, run_id: str, attempt: int, context: dict[str, object]) -> None:
        """Open an attempt. Repeated, it keeps what was first written, so that the start stays the start."""
        if self._rows(run_id, attempt, "begin") is None:
            text = json.dumps(context, sort_keys=True, ensure_ascii=False)
            self._write(run_id, attempt, "begin", _BEGIN, [{"time": time.time(), "context": text}])

    def epoch(self, run_id: str, attempt: int, report: EpochReport) -> None:
        """Add an epoch's report; the same epoch again replaces it."""
        rows = {row["epoch"]: row for row in self._rows(run_id, attempt, "epochs") or []}
        rows[report.epoch] = {
            "epoch": report.epoch,
            "time": rows.get(report.epoch, {}).get("time", time.time()),
            "seconds": report.seconds,
            "metrics": list(report.metrics.items()),
        }
        self._write(run_id, attempt, "epochs", _EPOCHS, [rows[number] for number in sorted(rows)])

    def conclude(self, run_id: str, attempt: int, conclusion: Conclusion) -> None:
        """Close a run. The conclusion is written after the predictions: where it stands, everything is there."""
        if self._rows(run_id, attempt, "conclusion") is not None:
            return  # test data is read once a run: the first word stands
        self._write_predictions(run_id, attempt, conclusion.predictions)
        row = {"epoch": conclusion.epoch, "time": time.time(), "metrics": list(conclusion.metrics.items())}
        self._write(run_id, attempt, "conclusion", _CONCLUSION, [row])

    def fail(self, run_id: str, attempt: int, failure: Failure) -> None:
        """Close an attempt that came to no conclusion. Repeated, it keeps what was first written."""
        if self._rows(run_id, attempt, "failure") is None:
            row = {
                "state": failure.state.value,
                "reason": failure.reason,
                "traceback": failure.traceback,
                "time": time.time(),
            }
            self._write(run_id, attempt, "failure", _FAILURE, [row])

    def stop(self, run_id: str) -> None:
        """Write down that a search has given the run up, unless it has ended otherwise."""
        if not self.state(run_id).ended:
            self._write(run_id, max(self._files(run_id), default=0), "stopped", _STOPPED, [{"time": time.time()}])

    def state(self, run_id: str) -> RunState:
        """Return where a run stands: a conclusion decides, else the last attempt."""
        files = self._files(run_id)
        concluded = any("conclusion" in names for names in files.values())
        last = max(files, default=0)
        failed = {} if concluded else self._row(run_id, last, "failure")
        return _state(concluded=concluded, failed=failed, last=files.get(last))

    def attempts(self, run_id: str) -> int:
        """Return how many attempts there were, those among them that failed before they had begun."""
        return max(self._files(run_id), default=-1) + 1

    def test_metrics(self, run_id: str) -> dict[str, float]:
        """Return a completed run's test metrics by plain name; nothing of another."""
        return self.record(run_id).metrics

    def stamp(self, run_id: str) -> dict[str, tuple[int, int]]:
        """Return a value that changes when anything of the run is written, for one listing of its folder."""
        return self.folder.stamps(f"journal/{run_id}")

    def record(self, run_id: str) -> RunRecord:
        """Read all that is known of a run, but for its predictions."""
        files = self._files(run_id)
        concluded = sorted(attempt for attempt, names in files.items() if "conclusion" in names)
        last = concluded[0] if concluded else max(files, default=0)
        history: dict[int, dict[str, Any]] = {}
        for attempt in sorted(attempt for attempt in files if attempt <= last):
            rows = self._rows(run_id, attempt, "epochs") or []
            history |= {row["epoch"]: row | {"attempt": attempt} for row in rows}
        conclusion = self._row(run_id, last, "conclusion") if concluded else {}
        stopped = {} if concluded else self._row(run_id, last, "stopped")
        failed = {} if concluded else self._row(run_id, last, "failure")
        rows = [history[epoch] for epoch in sorted(history)]
        return RunRecord(
            run_id=run_id,
            state=_state(concluded=bool(concluded), failed=failed, last=files.get(last)),
            attempts=max(files, default=-1) + 1,
            epochs=tuple(
                EpochReport(epoch=row["epoch"], metrics=dict(row["metrics"]), seconds=row["seconds"]) for row in rows
            ),
            epoch_times=tuple(row["time"] for row in rows),
            context=self._context(run_id, last),
            trained=tuple(self._context(run_id, attempt) for attempt in sorted({row["attempt"] for row in rows})),
            started=next((self._row(run_id, n, "begin")["time"] for n in sorted(files) if "begin" in files[n]), None),
            ended=(conclusion or failed or stopped).get("time"),
            tested_epoch=conclusion.get("epoch"),
            metrics=dict(conclusion.get("metrics", [])),
            failure=Failure(state=RunState(failed["state"]), reason=failed["reason"], traceback=failed["traceback"])
            if failed
            else None,
        )

    def records(self, plan: StudyPlan) -> dict[str, RunRecord]:
        """Read the records of all the study's runs, by run id."""
        return {run.run_id: self.record(run.run_id) for run in plan.runs}

    def predictions(self, run_id: str) -> Predictions:
        """Read what a completed run said of every test clip.

        Raises:
            InputError: the run is not completed.
        """
        concluded = sorted(attempt for attempt, names in self._files(run_id).items() if "conclusion" in names)
        content = self.folder.read(_path(run_id, concluded[0], "predictions")) if concluded else None
        if content is None:
            raise InputError(f"run {run_id[:12]} in {self.folder.uri} has no predictions: it is not completed")
        table = self._table(run_id, concluded[0], "predictions", content)
        scores = table["scores"].combine_chunks()
        flat = scores.flatten().to_numpy(zero_copy_only=False)
        return Predictions(
            names=table["name"].to_pylist(),
            labels=table["label"].to_numpy(),
            scores=flat.reshape(len(scores), scores.type.list_size),
        )

    def write_plan(self, plan: AnyPlan) -> None:
        """Write ``studies/<key>/study.json``."""
        self.write_study_file(plan.key, "study.json", plan.to_json().encode())

    def write_study_file(self, key: str, name: str, content: bytes) -> None:
        """Write a file into a study's folder, atomically."""
        self.folder.write(f"studies/{key}/{name}", content)

    def plans(self) -> list[AnyPlan]:
        """Return every study in the folder, by key."""
        names = sorted(name for name in self.folder.stamps("studies") if name.endswith("/study.json"))
        contents = {name: self.folder.read(f"studies/{name}") for name in names}
        return [self._plan(name, content) for name, content in contents.items() if content is not None]

    def plan(self, name: str | None = None) -> AnyPlan:
        """Find a study by its key or its name; None where the folder holds just one, a search's confirmation aside.

        Raises:
            InputError: no such study, or more than one.
        """
        plans = self.plans()
        if not plans:
            raise InputError(f"results folder {self.folder.uri} holds no study")
        asked = [plan for plan in plans if _confirmed(plan) is None] if name is None else plans
        found = [plan for plan in asked if name is None or name in (plan.key, plan.name)]
        if not found:
            known = {choice for plan in plans for choice in (plan.key, plan.name)}
            raise InputError(
                f"results folder {self.folder.uri} holds no study {name!r}{did_you_mean(str(name), known)}"
            )
        if len(found) > 1:
            keys = ", ".join(plan.key for plan in found)
            raise InputError(f"results folder {self.folder.uri} holds more than one such study, name one of: {keys}")
        return found[0]

    def conclusion(self, name: str | None = None) -> StudyPlan:
        """Find the study whose table concludes what was asked for: itself, or the newest confirmation of a search.

        Raises:
            InputError: no such study, more than one, or a search that is not confirmed yet.
        """
        plan = self.plan(name)
        if isinstance(plan, StudyPlan):
            return plan
        stamps = self.folder.stamps("studies")
        confirmations = [other for other in self.plans() if isinstance(other, StudyPlan) and other.confirms == plan.key]
        if not confirmations:
            raise InputError(
                f"search {plan.key} is not confirmed yet, and its trials are no conclusion; "
                "see what it found so far with: coablate best, or go on with: coablate resume"
            )
        return max(confirmations, key=lambda other: stamps[f"{other.key}/study.json"])

    def search_plan(self, name: str | None = None) -> SearchPlan:
        """Find a search by its key or its name.

        Raises:
            InputError: no such search, or more than one; a study that is no search.
        """
        plan = self.plan(name)
        if not isinstance(plan, SearchPlan):
            raise InputError(f"study {plan.key} is not a search; its result is its table (coablate table)")
        return plan

    def _plan(self, name: str, content: bytes) -> AnyPlan:
        try:
            return plan_from_json(content.decode())
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.folder.uri}/studies/{name} is damaged or of another version ({error}); "
                "delete it and run the study again, completed runs are not repeated"
            ) from None

    def _files(self, run_id: str) -> dict[int, set[str]]:
        """Return attempt -> the stems of its files."""
        attempts: dict[int, set[str]] = {}
        for path in self.folder.stamps(f"journal/{run_id}"):
            attempt, _, name = path.partition("/")
            attempts.setdefault(int(attempt), set()).add(name.removesuffix(".arrow"))
        return attempts

    def _rows(self, run_id: str, attempt: int, name: str) -> list[dict[str, Any]] | None:
        content = self.folder.read(_path(run_id, attempt, name))
        return None if content is None else list(self._table(run_id, attempt, name, content).to_pylist())

    def _table(self, run_id: str, attempt: int, name: str, content: bytes) -> Any:
        try:
            return arrow_table(content)
        except (pa.ArrowException, OSError) as error:
            path = f"{self.folder.uri}/{_path(run_id, attempt, name)}"
            raise InputError(f"{path} is damaged ({error}); delete the run's folder and run the study again") from None

    def _context(self, run_id: str, attempt: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._row(run_id, attempt, "begin").get("context", "{}"))
        return found

    def _row(self, run_id: str, attempt: int, name: str) -> dict[str, Any]:
        return next(iter(self._rows(run_id, attempt, name) or []), {})

    def _write(self, run_id: str, attempt: int, name: str, schema: Any, rows: list[dict[str, Any]]) -> None:
        self._write_table(run_id, attempt, name, pa.Table.from_pylist(rows, schema=schema))

    def _write_predictions(self, run_id: str, attempt: int, predictions: Predictions) -> None:
        scores = np.ascontiguousarray(predictions.scores, dtype=np.float32)
        columns = {
            "name": pa.array(predictions.names, pa.string()),
            "label": pa.array(predictions.labels, pa.int64()),
            "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), scores.shape[1]),
        }
        self._write_table(run_id, attempt, "predictions", pa.table(columns))

    def _write_table(self, run_id: str, attempt: int, name: str, table: Any) -> None:
        self.folder.write(_path(run_id, attempt, name), to_arrow(table))


def _path(run_id: str, attempt: int, name: str) -> str:
    return f"journal/{run_id}/{attempt:03d}/{name}.arrow"


def _state(*, concluded: bool, failed: dict[str, Any], last: set[str] | None) -> RunState:
    """Say where a run stands; ``last`` names the files of its last attempt."""
    if concluded:
        return RunState.COMPLETED
    if failed:
        return RunState(failed["state"])
    if last is None:
        return RunState.WAITING
    return RunState.STOPPED if "stopped" in last else RunState.RUNNING


def _confirmed(plan: AnyPlan) -> str | None:
    """Return the key of the search that a plan confirms."""
    return plan.confirms if isinstance(plan, StudyPlan) else None
