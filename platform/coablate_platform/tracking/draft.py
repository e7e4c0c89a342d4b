"""What MLflow must hold of a study: the exporter's requests, collected in memory instead of sent.

So the exporter alone says what MLflow holds, and the check cannot disagree with it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Metric, Param, Run, RunData, RunInfo, RunTag
from mlflow.store.entities.paged_list import PagedList

from coablate_platform.journal.journal import Journal
from coablate_platform.study.plan import AnyPlan
from coablate_platform.tracking.content import RunContent
from coablate_platform.tracking.exporter import Exporter
from coablate_platform.tracking.journal_watch import JournalWatch
from coablate_platform.tracking.mlflow_runs import EXPERIMENT, MlflowRuns
from coablate_platform.tracking.refusals import Refusals


class DraftClient(MlflowClient):
    """A client of an empty experiment that sends nothing. It has those methods that the exporter uses.

    Args:
        experiment: id of the experiment, which is part of links.

    Attributes:
        runs: id -> content of the runs that were created.
        views: tags of the experiment.
    """

    def __init__(self, experiment: str) -> None:  # not the parent's, which connects
        self.experiment = experiment
        self.runs: dict[str, RunContent] = {}
        self.views: dict[str, str] = {}

    def get_experiment_by_name(self, name: str) -> Experiment:
        return self.get_experiment(self.experiment)

    def get_experiment(self, experiment_id: str) -> Experiment:
        return Experiment(experiment_id, EXPERIMENT, "", LifecycleStage.ACTIVE)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self.views[key] = value

    def search_runs(self, *_: Any, **__: Any) -> "PagedList[Run]":
        return PagedList([], None)

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Run:
        content = RunContent(id=str(len(self.runs)), status="RUNNING", tags=tags or {})
        self.runs[content.id] = content
        info = RunInfo(
            run_id=content.id,
            experiment_id=experiment_id,
            user_id="",
            status=content.status,
            start_time=start_time or 0,
            end_time=None,
            lifecycle_stage=LifecycleStage.ACTIVE,
            run_name=run_name,
        )
        return Run(info, RunData(tags=[RunTag(key, value) for key, value in content.tags.items()]))

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> None:
        run = self.runs[run_id]
        points = {key: list(known) for key, known in run.metrics.items()}
        for metric in metrics:
            points.setdefault(metric.key, []).append((metric.step, metric.value))
        self.runs[run_id] = replace(
            run,
            params={**run.params, **{param.key: param.value for param in params}},
            tags={**run.tags, **{tag.key: tag.value for tag in tags}},
            metrics=points,
        )

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        files = {f"{artifact_path}/{file.name}": file.read_bytes() for file in Path(local_dir).iterdir()}
        self.runs[run_id] = replace(self.runs[run_id], files={**self.runs[run_id].files, **files})

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        self.runs[run_id] = replace(self.runs[run_id], status=status or "FINISHED")


def draft_of(journal: Journal, plan: AnyPlan, experiment: str) -> DraftClient:
    """Return what MLflow must hold of a study or a search on which nobody works.

    Args:
        journal: the journal of the results folder.
        plan: the plan of the study or the search.
        experiment: id of the experiment.

    Raises:
        InputError: a file of the journal is damaged.
    """
    client, refusals, watch = DraftClient(experiment), Refusals("the draft"), JournalWatch(journal, plan)
    watch.refresh(thorough=True)
    runs = MlflowRuns(watch.tracked.plan, client, None, refusals)
    Exporter(watch.tracked, runs, refusals, journal).sync(watch.tracked, watch.records, watch.report(True), True)
    return client
