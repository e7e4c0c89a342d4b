"""Compares what MLflow holds of a study with what the exporter sends of its journal, and mends what differs."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run

from coablate_platform.journal.difference import Difference, Remedy
from coablate_platform.journal.journal import Journal
from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan, SearchPlan
from coablate_platform.tracking.content import FOLDERS, PLACE, RunContent, differences
from coablate_platform.tracking.draft import DraftClient, draft_of
from coablate_platform.tracking.exporter import NOTE
from coablate_platform.tracking.follower import catch_up, only_follower
from coablate_platform.tracking.mlflow_runs import EXPERIMENT, runs_of
from coablate_platform.tracking.refusals import reason_of
from coablate_platform.tracking.relocate import ARTIFACTS, DATABASE

_SQLITE = "sqlite:///"


class MlflowCheck:
    """Compares a study or search in MLflow with the journal. Implements
    :class:`~coablate_platform.journal.difference.Check`.

    A run is mended by the exporter where it can add what is missing. What MLflow lets nobody change (a param, a point
    of a curve) is mended by deleting the run, which MLflow can restore, and exporting it again.

    Args:
        journal: the journal of the results folder.
        plan: the plan of the study or the search; nobody works on it.
        uri: MLflow's tracking URI.
    """

    place = PLACE

    def __init__(self, journal: Journal, plan: AnyPlan, uri: str) -> None:
        self._journal, self._plan, self._uri = journal, plan, uri
        self._draft: DraftClient | None = None

    def find(self) -> Sequence[Difference]:
        with only_follower(self._journal, self._plan, wait=False), self._reported():
            return list(self._find())

    def mend(self, found: Sequence[Difference]) -> None:
        with only_follower(self._journal, self._plan, wait=False), self._reported():
            if targets := {difference.target: difference.remedy for difference in found if difference.target}:
                client = MlflowClient(tracking_uri=self._uri)
                for run_id, remedy in targets.items():
                    if remedy in (Remedy.DELETE, Remedy.RENEW):
                        client.delete_run(run_id)
                    elif remedy is Remedy.WRITE:
                        _forget_files(client, run_id)
            catch_up(self._journal, self._plan, self._uri)

    def _find(self) -> Iterator[Difference]:
        client, experiment = self._experiment()
        draft = self._draft_for("" if experiment is None else experiment.experiment_id)
        expected = [self._without_note(run) for run in draft.runs.values()]
        if client is None or experiment is None:
            yield from differences(expected, [])
            return
        folders = {path.partition("/")[0] for run in expected for path in run.files}
        runs = runs_of(self._plan, client, experiment.experiment_id)
        yield from differences(expected, [_content(client, run, folders) for run in runs])
        for name, value in draft.views.items():
            if experiment.tags.get(name) != value:
                yield self._of_experiment(f"tag {name} is another or missing", "that of the study's view")
        here = self._artifacts()
        if here and experiment.artifact_location != here:
            yield self._of_experiment(f"its artifacts lie in {experiment.artifact_location}", here)

    def _draft_for(self, experiment: str) -> DraftClient:
        """Return what an experiment must hold; computed once, since nobody writes to the journal meanwhile."""
        if self._draft is None or self._draft.experiment != experiment:
            self._draft = draft_of(self._journal, self._plan, experiment)
        return self._draft

    def _experiment(self) -> tuple[MlflowClient | None, Experiment | None]:
        """Return a client and the experiment; nothing of a database that is not there, which a client would make."""
        if self._uri.startswith(_SQLITE) and not Path(self._uri.removeprefix(_SQLITE)).exists():
            return None, None
        client = MlflowClient(tracking_uri=self._uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        active = experiment is not None and experiment.lifecycle_stage == LifecycleStage.ACTIVE
        return client, experiment if active else None

    def _artifacts(self) -> str:
        """Return where the folder's own database must have its artifacts; empty for another database."""
        local = self._journal.folder.local
        own = local is not None and self._uri == f"{_SQLITE}{local / DATABASE}"
        return (local / ARTIFACTS).as_uri() if local is not None and own else ""

    def _without_note(self, run: RunContent) -> RunContent:
        """Leave out a search's description, which users may write; that of a study is its table."""
        if not isinstance(self._plan, SearchPlan):
            return run
        return replace(run, tags={name: value for name, value in run.tags.items() if name != NOTE})

    def _of_experiment(self, found: str, expected: str) -> Difference:
        what = f"experiment {EXPERIMENT}"
        return Difference(place=PLACE, what=what, found=found, expected=expected, remedy=Remedy.SEND)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn what MLflow's layers raise, each exceptions of its own, into one line."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"MLflow at {self._uri} cannot be compared: {reason_of(error)}") from None


def _content(client: MlflowClient, run: Run, folders: set[str]) -> RunContent:
    """Read an MLflow run: its whole metrics if it is a training run, its files if it is the study's."""
    run_id, tags = run.info.run_id, run.data.tags
    metrics = {name: [(0, value)] for name, value in run.data.metrics.items()}
    if "coablate.seed" in tags:
        metrics = {
            name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)] for name in metrics
        }
    files = {} if "coablate.arm" in tags else _files(client, run_id, folders)
    return RunContent(
        id=run_id, status=run.info.status, params=run.data.params, tags=tags, metrics=metrics, files=files
    )


def _files(client: MlflowClient, run_id: str, folders: set[str]) -> dict[str, bytes]:
    """Download a run's artifacts in some folders: path -> content."""
    with tempfile.TemporaryDirectory() as target:
        paths = [file.path for folder in folders for file in client.list_artifacts(run_id, folder)]
        return {path: Path(client.download_artifacts(run_id, path, target)).read_bytes() for path in paths}


def _forget_files(client: MlflowClient, run_id: str) -> None:
    """Let the exporter send a run's files again."""
    for name in {f"coablate.{folder}" for folder in FOLDERS} & client.get_run(run_id).data.tags.keys():
        client.delete_tag(run_id, name)
