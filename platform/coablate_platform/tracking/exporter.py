"""Exports a study to MLflow, as nested runs: parent = study, child = arm, grandchild = training run of a seed.

Only the follower's process imports this module, since it imports MLflow. The metric ``epoch`` is sent last of an
epoch's metrics, so its latest value says up to which epoch a run is logged.
"""

import json
from collections.abc import Iterable, Mapping

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from coablate_platform.journal.journal import Journal, RunRecord
from coablate_platform.results.cells import verdict_text
from coablate_platform.results.figures import study_figures
from coablate_platform.results.render import render, table_files
from coablate_platform.results.statistics import Estimate
from coablate_platform.results.table import Row, Table, build_table
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import PlannedArm, PlannedRun, SearchPlan, StudyPlan
from coablate_platform.tracking.arms import TrackedStudy
from coablate_platform.tracking.mlflow_runs import STUDY, MlflowRuns, milliseconds
from coablate_platform.tracking.names import metric_name
from coablate_platform.tracking.refusals import Refusals, is_refusal
from coablate_platform.tracking.view import LEVEL, description, view_of
from coablate_platform.train.events import RunState

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
VERDICT = "verdict"
Records = dict[str, RunRecord]
"""Run id -> record."""


class Exporter:
    """Brings a study's runs in MLflow up to date with the journal.

    Args:
        tracked: the study or the search; a search's trials may grow from one :meth:`sync` to the next.
        runs: its runs in MLflow.
        refusals: is told what MLflow refuses.
        journal: the journal, from which predictions are read.
    """

    def __init__(self, tracked: TrackedStudy, runs: MlflowRuns, refusals: Refusals, journal: Journal) -> None:
        self._tracked, self._runs, self._refusals, self._journal = tracked, runs, refusals, journal
        self._table_inputs: object = None  # what the table was last computed from
        self._sent: dict[PlannedRun, RunRecord] = {}

    def sync(self, tracked: TrackedStudy, records: Records, report: Mapping[str, bytes], closing: bool) -> None:
        """Send what MLflow lacks.

        Args:
            tracked: the study or the search, as it is now.
            records: the records of all its runs; that of a run that has not changed is the same object as before.
            report: a search's report as file name -> content; empty if there is none yet.
            closing: whether nobody works on the study any more; runs that have not ended are then marked as killed.

        Raises:
            RunDeletedError: a run was deleted in MLflow meanwhile.
            Exception: MLflow cannot be reached, or refuses the study's own run.
        """
        self._tracked = tracked
        arms = {arm.name: arm for arm in tracked.arms}
        changed = [run for run in tracked.runs if closing or records[run.run_id] is not self._sent.get(run)]
        begun = [run for run in changed if records[run.run_id].state is not RunState.WAITING]
        if not begun:
            return
        self._sync_study(records)
        for run in begun:
            try:
                self._sync_arm(arms[run.arm], records)
                self._sync_run(run, arms[run.arm], records[run.run_id], closing)
            except MlflowException as error:  # an arm or a run that MLflow does not let be created
                if not is_refusal(error):
                    raise
                self._refusals.add(f"run {run.arm!r} seed {run.seed}", error)
            self._sent[run] = records[run.run_id]
        if isinstance(tracked.plan, StudyPlan):
            self._sync_table(tracked.plan, records, closing)
        else:
            self._runs.send_files(self._runs.logged[STUDY], "report", report)
        self._sync_statuses(records, closing)

    def _sync_study(self, records: Records) -> None:
        plan = self._tracked.plan
        params: dict[str, object] = {name: getattr(plan, name) for name in ("title", "metric", "selection", "protocol")}
        params |= {"reference": self._tracked.reference} | _flatten(plan.data, "data")
        view = view_of(self._tracked)
        self._runs.share_view(view.key, view.state)
        tags = {LEVEL: "study"}
        if STUDY not in self._runs.logged:
            tags[NOTE] = description(self._runs.link(view.key), plan.title)
        study = self._runs.open(STUDY, plan.key, tags, params, _first_start(records.values()))
        seeds = sorted({run.seed for run in self._tracked.runs})  # more with a later --seeds, so a tag and no param
        self._runs.log(study, tags={"coablate.seeds": json.dumps(seeds)})

    def _sync_arm(self, arm: PlannedArm, records: Records) -> None:
        """Open an arm's run, with the fields that differ between any arms as params, so that MLflow compares them."""
        varied = {name for other in self._tracked.arms for name in other.difference}
        params = {
            name: value
            for name, value in _flatten(arm.config).items()
            if any(name == field or name.startswith(f"{field}.") for field in varied)
        }
        params |= {"parameters": arm.parameters, "flops": arm.flops}
        of_arm = [records[run.run_id] for run in self._tracked.runs if run.arm == arm.name]
        level = "trial" if isinstance(self._tracked.plan, SearchPlan) else "arm"
        tags = {LEVEL: level, "coablate.arm": arm.name, MLFLOW_PARENT_RUN_ID: self._runs.logged[STUDY].id}
        self._runs.open((arm.name, None), arm.name, tags, params, _first_start(of_arm))

    def _sync_run(self, run: PlannedRun, arm: PlannedArm, record: RunRecord, closing: bool) -> None:
        tags = {
            LEVEL: "run",
            "coablate.arm": run.arm,
            "coablate.seed": str(run.seed),
            "coablate.run_id": run.run_id,
            MLFLOW_PARENT_RUN_ID: self._runs.logged[run.arm, None].id,
        }
        params = _flatten(arm.config) | {"seed": run.seed}
        name = f"{run.arm} seed {run.seed}"
        logged = self._runs.open((run.arm, str(run.seed)), name, tags, params, record.started)
        metrics = [
            Metric(metric_name(key), value, milliseconds(time), report.epoch)
            for report, time in zip(record.epochs, record.epoch_times, strict=True)
            if report.epoch > logged.epoch
            for key, value in [*report.metrics.items(), ("seconds", report.seconds), ("epoch", float(report.epoch))]
        ]
        for key, value in record.metrics.items():
            if (test := metric_name("test", key)) not in logged.metrics:
                metrics.append(Metric(test, value, milliseconds(record.ended), record.tested_epoch or 0))
        state = {"coablate.state": record.state.value, "coablate.attempts": str(record.attempts)}
        if record.failure or "coablate.reason" in logged.tags:
            state["coablate.reason"] = record.failure.reason if record.failure else ""
        self._runs.log(logged, metrics=metrics, tags=state)
        logged.epoch = record.epochs[-1].epoch if record.epochs else 0
        self._runs.set_status(logged, _run_status(record.state, closing), record.ended)

    def _sync_table(self, plan: StudyPlan, records: Records, closing: bool) -> None:
        """Compute the table again if a run has ended, and send what has changed; at the end also the figures."""
        done = closing or all(record.state.ended for record in records.values())
        ends = [(run.run_id, records[run.run_id].state, records[run.run_id].ended) for run in self._tracked.runs]
        if self._table_inputs == (done, ends):
            return
        study = self._runs.logged[STUDY]
        try:
            table = build_table(plan, self._journal, True, records)
        except InputError as error:
            self._runs.log(study, tags={"coablate.table": f"none: {error}"})
        else:
            if any(row.summary.n for row in table.rows):
                self._send_table(table)
            if done:
                self._runs.send_files(study, "figures", study_figures(table, records, self._journal.predictions))
        self._table_inputs = (done, ends)

    def _send_table(self, table: Table) -> None:
        """Send a table as files and in the study's description, its rows as metrics of the arms, and its contrasts."""
        study = self._runs.logged[STUDY]
        for row in table.rows:
            if (arm := self._runs.logged.get((row.arm, None))) is not None:
                self._runs.log_changed(arm, _arm_metrics(table.plan.metric, row))
                self._runs.log(arm, tags={VERDICT: verdict_text(row.estimate) if row.estimate else "reference"})
        contrasts: dict[str, float | None] = {}
        for contrast in table.contrasts:
            for name, value in _test_metrics(contrast.estimate).items():
                contrasts[metric_name(name, contrast.name)] = value
        self._runs.log_changed(study, contrasts)
        self._runs.send_files(study, "table", table_files(table))
        link = self._runs.link(view_of(self._tracked).key)
        self._runs.log(study, tags={NOTE: description(link, render(table, "md"))})

    def _sync_statuses(self, records: Records, closing: bool) -> None:
        """Set the status of the arms and of the study from the states of their runs."""
        plan, logged = self._tracked.plan, self._runs.logged
        for arm in self._tracked.arms:
            if (arm.name, None) in logged:
                states = [records[run.run_id].state for run in self._tracked.runs if run.arm == arm.name]
                self._runs.set_status(logged[arm.name, None], _group_status(states, closing))
        states = [records[run.run_id].state for run in self._tracked.runs]
        if isinstance(plan, SearchPlan) and len(self._tracked.arms) < plan.trials:
            status = "KILLED" if closing else "RUNNING"
        else:
            status = _group_status(states, closing, may_fail=isinstance(plan, SearchPlan))
        self._runs.set_status(logged[STUDY], status)


def _arm_metrics(metric: str, row: Row) -> dict[str, float | None]:
    """Return an arm's metrics: its mean first in the alphabet, so that MLflow's comparison begins with it."""
    mean = {metric_name(metric): row.common.mean, metric_name(f"{metric}_sd"): row.common.sd, "n": float(row.summary.n)}
    return mean | (_test_metrics(row.estimate) if row.estimate else {})


def _test_metrics(estimate: Estimate) -> dict[str, float | None]:
    return {
        "effect": estimate.effect,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "p_holm": estimate.p_holm,
        "pairs": float(estimate.n),
    }


def _run_status(state: RunState, closing: bool) -> str:
    if state is RunState.COMPLETED:
        return "FINISHED"
    if state is RunState.STOPPED:
        return "KILLED"
    if state.ended:
        return "FAILED"
    return "KILLED" if closing else "RUNNING"


def _group_status(states: list[RunState], closing: bool, may_fail: bool = False) -> str:
    """Return the status of an arm, a study or a search from the states of its runs.

    Args:
        states: the runs' states.
        closing: whether nobody works on them any more.
        may_fail: whether failed runs leave it finished: in a search, a failed trial is a result.
    """
    if not all(state.ended for state in states):
        return "KILLED" if closing else "RUNNING"
    if may_fail:
        return "FINISHED"
    if set(states) <= {RunState.COMPLETED, RunState.STOPPED}:
        return "FINISHED" if RunState.COMPLETED in states else "KILLED"
    return "FAILED"


def _first_start(records: Iterable[RunRecord]) -> float | None:
    return min((record.started for record in records if record.started is not None), default=None)


def _flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested dictionaries as one, with dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        flat |= _flatten(value, name) if isinstance(value, dict) and value else {name: value}
    return flat
