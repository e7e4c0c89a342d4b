"""Exports a study to MLflow: parent run = study, child = arm, grandchild = seed.

Only the follower's process imports this module, since it imports MLflow. What has been logged is asked once, at the
start, and kept in memory; what is then sent is the difference to the journal. An ``epoch`` metric comes last among an
epoch's metrics, so its latest value says how far a run is logged.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from coablate_platform.journal.journal import RunRecord
from coablate_platform.results.figures import study_figures
from coablate_platform.results.render import FORMATS, render
from coablate_platform.results.table import Table, tabulate
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, PlannedRun, SearchPlan, StudyPlan
from coablate_platform.tracking.arms import Tracked
from coablate_platform.train.events import RunState

EXPERIMENT = "coablate"
_METRICS_A_BATCH = 800  # MLflow takes 1000 metrics and 1000 items in all, 100 params and 100 tags among them
_PARAMS_A_BATCH = 100
_LONGEST_PARAM = 6000
_LONGEST_NAME = 250


@dataclass(kw_only=True)
class _Logged:
    """What MLflow holds of one of its runs."""

    id: str
    status: str
    epoch: int = 0
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Exporter:
    """Brings one study's runs in MLflow up to date with the journal.

    Args:
        tracked: the study or the search; a search's trials may grow from one :meth:`sync` to the next.
        uri: MLflow's tracking URI.
        artifacts: where the experiment keeps artifacts if it must be created; None leaves that to the server.

    Raises:
        InputError: the experiment was deleted in MLflow.
        MlflowException: MLflow cannot be reached or refuses.
    """

    def __init__(self, tracked: Tracked, uri: str, artifacts: str | None) -> None:
        self.tracked = tracked
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment = self._experiment(uri, artifacts)
        self.logged = self._search()
        self._concluded: object = None
        self._sent: dict[PlannedRun, RunRecord] = {}

    def sync(self, tracked: Tracked, records: dict[str, RunRecord], report: dict[str, bytes], closing: bool) -> None:
        """Send what MLflow lacks.

        Args:
            tracked: the study or the search, as it is now.
            records: run id -> record, of all the study's runs.
            report: a search's finished files, by name; empty where there are none.
            closing: nobody works on the study any more: what has not ended is marked as killed.
        """
        self.tracked = tracked
        arms = {arm.name: arm for arm in tracked.arms}
        fresh = [run for run in self.tracked.runs if closing or records[run.run_id] is not self._sent.get(run)]
        begun = [run for run in fresh if records[run.run_id].state is not RunState.WAITING]
        if not begun:
            return
        self._study(records)
        for run in begun:
            self._arm(arms[run.arm], records)
            self._run(run, arms[run.arm], records[run.run_id], closing)
            self._sent[run] = records[run.run_id]
        if isinstance(tracked.plan, StudyPlan):
            self._conclude(tracked.plan, records, closing)
        else:
            self._send_files(self.logged[None, None], "report", report)
        for arm in self.tracked.arms:
            if (arm.name, None) in self.logged:
                states = [records[run.run_id].state for run in self.tracked.runs if run.arm == arm.name]
                self._status(self.logged[arm.name, None], _group_status(states, closing))
        states = [records[run.run_id].state for run in self.tracked.runs]
        if isinstance(tracked.plan, SearchPlan) and len(tracked.arms) < tracked.plan.trials:
            status = "KILLED" if closing else "RUNNING"
        else:
            status = _group_status(states, closing, may_fail=isinstance(tracked.plan, SearchPlan))
        self._status(self.logged[None, None], status)

    def _experiment(self, uri: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return str(self.client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        if found.lifecycle_stage == LifecycleStage.DELETED:
            raise InputError(
                f"MLflow experiment {EXPERIMENT!r} at {uri} is deleted, restore it or choose another --tracking"
            )
        return str(found.experiment_id)

    def _search(self) -> dict[tuple[str | None, str | None], _Logged]:
        """Find the study's runs by their tags: (arm, seed) -> what is logged; None stands for the level above."""
        logged: dict[tuple[str | None, str | None], _Logged] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment],
                filter_string=f"tags.`coablate.key` = '{self.tracked.plan.key}'",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:
                metrics = run.data.metrics
                logged[run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")] = _Logged(
                    id=run.info.run_id,
                    status=run.info.status,
                    epoch=int(metrics.get("epoch", 0)),
                    params=set(run.data.params),
                    metrics=metrics,
                    tags=run.data.tags,
                )
            token = page.token
            if not token:
                return logged

    def _study(self, records: dict[str, RunRecord]) -> None:
        plan = self.tracked.plan
        params: dict[str, Any] = {name: getattr(plan, name) for name in ("title", "metric", "selection", "protocol")}
        params |= {"reference": self.tracked.reference} | _flatten(plan.data, "data")
        study = self._open(
            None, None, plan.key, {"mlflow.note.content": plan.title}, params, _started(records.values())
        )
        seeds = sorted({run.seed for run in self.tracked.runs})  # --seeds may grow
        self._log(study, [], {}, {"coablate.seeds": _text(seeds)})

    def _arm(self, arm: PlannedArm, records: dict[str, RunRecord]) -> None:
        varied = {name for other in self.tracked.arms for name in other.difference}  # of all arms, to compare them
        params = {
            name: value
            for name, value in _flatten(arm.config).items()
            if any(name == field or name.startswith(f"{field}.") for field in varied)
        }
        params |= {"parameters": arm.parameters, "flops": arm.flops}
        own = [records[run.run_id] for run in self.tracked.runs if run.arm == arm.name]
        tags = {"coablate.arm": arm.name, MLFLOW_PARENT_RUN_ID: self.logged[None, None].id}
        self._open(arm.name, None, arm.name, tags, params, _started(own))

    def _run(self, run: PlannedRun, arm: PlannedArm, record: RunRecord, closing: bool) -> None:
        tags = {
            "coablate.arm": run.arm,
            "coablate.seed": str(run.seed),
            "coablate.run_id": run.run_id,
            MLFLOW_PARENT_RUN_ID: self.logged[run.arm, None].id,
        }
        params = _flatten(arm.config) | {"seed": run.seed}
        name = f"{run.arm} seed {run.seed}"
        logged = self._open(run.arm, str(run.seed), name, tags, params, _started([record]))
        metrics = [
            Metric(_metric_name(key), value, _milliseconds(moment), entry.epoch)
            for entry, moment in zip(record.epochs, record.epoch_times, strict=True)
            if entry.epoch > logged.epoch
            for key, value in [*entry.metrics.items(), ("seconds", entry.seconds), ("epoch", float(entry.epoch))]
        ]
        for key, value in record.metrics.items():
            if (test := _metric_name(f"test/{key}")) not in logged.metrics:
                metrics.append(Metric(test, value, _milliseconds(record.ended), record.tested_epoch or 0))
        told = {"coablate.state": record.state.value, "coablate.attempts": str(record.attempts)}
        if record.failure or "coablate.reason" in logged.tags:
            told["coablate.reason"] = record.failure.reason[:_LONGEST_PARAM] if record.failure else ""
        self._log(logged, metrics, {}, told)
        logged.epoch = record.epochs[-1].epoch if record.epochs else 0
        self._status(logged, _run_status(record.state, closing), record.ended)

    def _conclude(self, plan: StudyPlan, records: dict[str, RunRecord], closing: bool) -> None:
        """Compute table and summaries anew when a run ended, and send what has changed; the figures come last."""
        done = closing or all(record.state.ended for record in records.values())
        ends = [(run.run_id, records[run.run_id].state, records[run.run_id].ended) for run in self.tracked.runs]
        signature = [done, *ends]
        if signature == self._concluded:
            return
        ended = [record.ended for record in records.values() if record.ended is not None]
        study, step, moment = self.logged[None, None], len(ended), _milliseconds(max(ended, default=None))
        try:
            table = tabulate(plan, records, allow_mixed=True)
        except InputError as error:
            self._log(study, [], {}, {"coablate.table": f"none: {error}"[:_LONGEST_PARAM]})
        else:
            if any(row.summary.n for row in table.rows):
                self._send_table(study, table, step, moment)
            if done:
                self._send_files(study, "figures", study_figures(table, records))
        self._concluded = signature

    def _send_table(self, study: _Logged, table: Table, step: int, moment: int) -> None:
        wanted: dict[str, float | None] = {}
        names = _metric_names([arm.name for arm in self.tracked.arms])
        for row in table.rows:
            if row.paired is not None:
                values = (row.paired.effect, row.paired.low, row.paired.high, row.p_holm)
                wanted |= {
                    f"{head}/{names[row.arm]}": value
                    for head, value in zip(("effect", "ci_low", "ci_high", "p_holm"), values, strict=True)
                }
            if (row.arm, None) in self.logged:
                metric, summary = self.tracked.plan.metric, row.summary
                own = {f"mean/{metric}": summary.mean, f"sd/{metric}": summary.sd, "n": float(summary.n)}
                self._log(self.logged[row.arm, None], _changed(self.logged[row.arm, None], own, step, moment), {}, {})
        self._send_files(study, "table", {f"table.{ending}": render(table, ending).encode() for ending in FORMATS})
        self._log(study, _changed(study, wanted, step, moment), {}, {})

    def _send_files(self, study: _Logged, name: str, files: dict[str, bytes]) -> None:
        """Put files into the study's artifact folder of this name, unless they lie there already."""
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        if not files or study.tags.get(f"coablate.{name}") == digest:
            return
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            self.client.log_artifacts(study.id, folder, name)
        self._log(study, [], {}, {f"coablate.{name}": digest})

    def _open(
        self, arm: str | None, seed: str | None, name: str, tags: dict[str, str], params: dict[str, Any], started: int
    ) -> _Logged:
        """Return the MLflow run of a place in the study, created where there is none."""
        tags = {"coablate.study": self.tracked.plan.name, "coablate.key": self.tracked.plan.key} | tags
        if (arm, seed) not in self.logged:
            run = self.client.create_run(self.experiment, start_time=started, tags=tags, run_name=name)
            self.logged[arm, seed] = _Logged(id=run.info.run_id, status=run.info.status, tags=run.data.tags)
        logged = self.logged[arm, seed]
        self._log(logged, [], params, {})
        return logged

    def _log(self, logged: _Logged, metrics: list[Metric], params: dict[str, Any], tags: dict[str, str]) -> None:
        """Send what is new, in one request as long as MLflow's limits allow it."""
        texts = {_metric_name(key): _text(value)[:_LONGEST_PARAM] for key, value in params.items()}
        new_params = [Param(key, value) for key, value in texts.items() if key not in logged.params]
        new_tags = [RunTag(key, value) for key, value in tags.items() if logged.tags.get(key) != value]
        while metrics or new_params or new_tags:
            self.client.log_batch(logged.id, metrics[:_METRICS_A_BATCH], new_params[:_PARAMS_A_BATCH], new_tags)
            logged.metrics |= {metric.key: metric.value for metric in metrics[:_METRICS_A_BATCH]}
            logged.params |= {param.key for param in new_params[:_PARAMS_A_BATCH]}
            metrics, new_params, new_tags = metrics[_METRICS_A_BATCH:], new_params[_PARAMS_A_BATCH:], []
        logged.tags |= tags

    def _status(self, logged: _Logged, status: str, ended: float | None = None) -> None:
        if logged.status == status:
            return
        if status == "RUNNING":
            self.client.update_run(logged.id, status=status)
        else:
            self.client.set_terminated(logged.id, status, _milliseconds(ended) if ended else None)
        logged.status = status


def _run_status(state: RunState, closing: bool) -> str:
    if state is RunState.COMPLETED:
        return "FINISHED"
    if state is RunState.STOPPED:
        return "KILLED"
    if state.ended:
        return "FAILED"
    return "KILLED" if closing else "RUNNING"


def _group_status(states: list[RunState], closing: bool, may_fail: bool = False) -> str:
    """Return the status of a study or an arm. That some trials of a search failed is a finding, not a failure."""
    if not all(state.ended for state in states):
        return "KILLED" if closing else "RUNNING"
    if may_fail:
        return "FINISHED"
    if set(states) <= {RunState.COMPLETED, RunState.STOPPED}:
        return "FINISHED" if RunState.COMPLETED in states else "KILLED"
    return "FAILED"


def _changed(logged: _Logged, wanted: dict[str, float | None], step: int, moment: int) -> list[Metric]:
    return [
        Metric(key, value, moment, step)
        for key, value in wanted.items()
        if value is not None and logged.metrics.get(key) != value
    ]


def _started(records: Iterable[RunRecord]) -> int:
    return _milliseconds(min((record.started for record in records if record.started is not None), default=None))


def _milliseconds(seconds: float | None) -> int:
    return int(1000 * (seconds or 0))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        flat |= _flatten(value, name) if isinstance(value, dict) and value else {name: value}
    return flat


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _metric_name(text: str) -> str:
    """Replace what MLflow refuses in names."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:_LONGEST_NAME]


def _metric_names(arms: list[str]) -> dict[str, str]:
    """Name every arm as MLflow allows it, two arms never alike."""
    names: dict[str, str] = {}
    for arm in arms:
        name = _metric_name(arm)
        names[arm] = name if name not in names.values() else f"{name}_{len(names)}"
    return names
