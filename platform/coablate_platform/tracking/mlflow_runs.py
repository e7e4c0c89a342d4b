"""The MLflow runs of one study: which exist, what they hold, and the requests that add to them.

What MLflow holds is queried once, at the start, and kept in memory. After that, only differences to it are sent.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from coablate_platform.study.plan import AnyPlan
from coablate_platform.tracking.names import LONGEST_NAME, allowed_text, metric_name
from coablate_platform.tracking.refusals import Refusals, is_refusal
from coablate_platform.tracking.view import VIEW_TAG, link

EXPERIMENT = "coablate"
"""Name of the MLflow experiment that holds all studies."""
_METRICS_A_REQUEST = 800  # of the 1000 items that MLflow takes in one request; at most 100 may be params, 100 tags
_PARAMS_A_REQUEST = 100

Level = tuple[str | None, str | None]
"""An MLflow run's (arm, seed): (None, None) is the study, (arm, None) an arm, (arm, seed) a training run."""
STUDY: Level = (None, None)


@dataclass(kw_only=True)
class LoggedRun:
    """What MLflow holds of one of its runs.

    Args:
        id: MLflow's run id.
        name: the run's name.
        status: MLflow's status.
        epoch: the last epoch whose metrics are logged.
        params: names of the logged params.
        metrics: name -> last value.
        tags: name -> value.
    """

    id: str
    name: str
    status: str
    epoch: int = 0
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class RunDeletedError(Exception):
    """A run was deleted in MLflow since it was found. It comes back when MLflow is queried again."""


class MlflowRuns:
    """The MLflow runs of one study, found by their tags.

    Args:
        plan: the plan of the study or the search.
        client: MLflow's client.
        artifacts: artifact location of the experiment if it must be created; None leaves that to the server.
        refusals: is told what MLflow refuses; the rest is sent all the same.

    Attributes:
        logged: level -> what is logged.

    Raises:
        MlflowException: MLflow cannot be reached, or refuses to show or create the experiment.
    """

    def __init__(self, plan: AnyPlan, client: MlflowClient, artifacts: str | None, refusals: Refusals) -> None:
        self._plan, self._client, self._refusals = plan, client, refusals
        self._experiment = self._find_experiment(artifacts)
        self._experiment_tags = dict(self._client.get_experiment(self._experiment).tags)
        self.logged = self._search_runs()

    def open(
        self, level: Level, name: str, tags: Mapping[str, str], params: Mapping[str, object], started: float | None
    ) -> LoggedRun:
        """Return the run of a level, created if there is none, with these tags and params.

        Args:
            level: the study, an arm or a training run.
            name: the run's name, if it is created.
            tags: its tags.
            params: its params, as texts or values that JSON can hold; those that it has stay as they are.
            started: its start in Unix seconds, if it is created.

        Raises:
            MlflowException: MLflow refuses to create it.
        """
        tags = {"coablate.study": self._plan.name, "coablate.key": self._plan.key, **tags}
        if level not in self.logged:
            tags = {key: allowed_text(value) for key, value in tags.items()}
            name = allowed_text(name, LONGEST_NAME)
            run = self._client.create_run(self._experiment, start_time=milliseconds(started), tags=tags, run_name=name)
            self.logged[level] = LoggedRun(id=run.info.run_id, name=name, status=run.info.status, tags=run.data.tags)
        self.log(self.logged[level], params=params, tags=tags)
        return self.logged[level]

    def link(self, view: str) -> str:
        """Return the address of a shared view, relative to MLflow's."""
        return link(self._experiment, view)

    def share_view(self, key: str, state: str) -> None:
        """Keep a view of the experiment, so that a link can name it, and let MLflow open the experiment on runs."""
        tags = {"mlflow.experimentKind": "custom_model_development", VIEW_TAG + key: state}
        for name, value in tags.items():
            if self._experiment_tags.get(name) != value:
                self._experiment_tags[name] = value
                try:
                    self._client.set_experiment_tag(self._experiment, name, value)
                except MlflowException as error:  # of a server that lets not everybody change experiments
                    if not is_refusal(error):
                        del self._experiment_tags[name]
                        raise
                    self._refusals.add(f"tag {name!r} of the experiment", error)

    def log(
        self,
        run: LoggedRun,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send metrics, and the params and tags that are new, in one request or as many as MLflow's limits require."""
        texts = {metric_name(key): allowed_text(_text(value)) for key, value in (params or {}).items()}
        new_params = [Param(key, value) for key, value in texts.items() if key not in run.params]
        texts = {key: allowed_text(value) for key, value in (tags or {}).items()}
        new_tags = [RunTag(key, value) for key, value in texts.items() if run.tags.get(key) != value]
        while metrics or new_params or new_tags:
            self._send(run, [*metrics[:_METRICS_A_REQUEST], *new_params[:_PARAMS_A_REQUEST], *new_tags])
            run.metrics |= {metric.key: metric.value for metric in metrics[:_METRICS_A_REQUEST]}
            run.params |= {param.key for param in new_params[:_PARAMS_A_REQUEST]}
            run.tags |= {tag.key: tag.value for tag in new_tags}
            metrics, new_params, new_tags = metrics[_METRICS_A_REQUEST:], new_params[_PARAMS_A_REQUEST:], []

    def log_changed(self, run: LoggedRun, values: Mapping[str, float | None]) -> None:
        """Send the metrics whose value has changed; None stands for no value.

        They have one step only, as MLflow then draws bars. Of several values of a step, it takes the latest.
        """
        now = milliseconds(time.time())
        metrics = [
            Metric(name, value, now, 0)
            for name, value in values.items()
            if value is not None and run.metrics.get(name) != value
        ]
        self.log(run, metrics=metrics)

    def send_files(self, run: LoggedRun, name: str, files: Mapping[str, bytes]) -> None:
        """Send files to the run's artifact folder of this name, unless the same ones were sent before."""
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        if not files or run.tags.get(f"coablate.{name}") == digest:
            return
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            sent = self._request(run, f"its {name}", lambda: self._client.log_artifacts(run.id, folder, name))
        if sent:
            self.log(run, tags={f"coablate.{name}": digest})

    def set_status(self, run: LoggedRun, status: str, ended: float | None = None) -> None:
        """Set a run's status; ``ended`` is the time of its end in Unix seconds, None for now."""
        if run.status == status:
            return
        if status == "RUNNING":
            self._request(run, f"status {status}", lambda: self._client.update_run(run.id, status=status))
        else:
            end = milliseconds(ended) if ended else None
            self._request(run, f"status {status}", lambda: self._client.set_terminated(run.id, status, end))
        run.status = status

    def _send(self, run: LoggedRun, items: Sequence[Metric | Param | RunTag]) -> None:
        """Send metrics, params and tags in one request; if it is refused, its halves, down to what MLflow refuses."""
        metrics = [item for item in items if isinstance(item, Metric)]
        params = [item for item in items if isinstance(item, Param)]
        tags = [item for item in items if isinstance(item, RunTag)]
        if len(items) == 1:
            what = f"{type(items[0]).__name__.lower()} {items[0].key!r}"
            self._request(run, what, lambda: self._client.log_batch(run.id, metrics, params, tags))
            return
        try:
            self._client.log_batch(run.id, metrics, params, tags)
        except MlflowException as error:
            self._check_refusal(run, error)
            self._send(run, items[: len(items) // 2])
            self._send(run, items[len(items) // 2 :])

    def _request(self, run: LoggedRun, what: str, request: Callable[[], object]) -> bool:
        """Make a request, and say so if MLflow refuses it.

        Returns:
            Whether MLflow took it.

        Raises:
            RunDeletedError: the run was deleted.
            Exception: MLflow cannot be reached.
        """
        try:
            request()
        except Exception as error:  # of files: whatever the artifact store raises
            self._check_refusal(run, error)
            self._refusals.add(f"{what} of run {run.name!r}", error)
            return False
        return True

    def _check_refusal(self, run: LoggedRun, error: Exception) -> None:
        """Raise the error again if it is an outage, and another one if its cause is that the run was deleted."""
        if not is_refusal(error):
            raise error
        try:
            active = self._client.get_run(run.id).info.lifecycle_stage == LifecycleStage.ACTIVE
        except MlflowException as unknown:
            if not is_refusal(unknown):
                raise
            active = False
        if not active:
            raise RunDeletedError(f"run {run.name!r} was deleted in MLflow") from error

    def _find_experiment(self, artifacts: str | None) -> str:
        """Return the experiment's id; create it if there is none, and restore it if it was deleted."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            try:
                return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
            except MlflowException:  # another study's follower may have created it meanwhile
                experiment = self._client.get_experiment_by_name(EXPERIMENT)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _search_runs(self) -> dict[Level, LoggedRun]:
        """Return level -> what is logged, of all runs with the study's tag; of several of a level, the oldest."""
        return {
            level_of(run): LoggedRun(
                id=run.info.run_id,
                name=run.info.run_name,
                status=run.info.status,
                epoch=int(run.data.metrics.get("epoch", 0)),
                params=set(run.data.params),
                metrics=run.data.metrics,
                tags=run.data.tags,
            )
            for run in runs_of(self._plan, self._client, self._experiment)
        }


def level_of(run: Run) -> Level:
    """Return which (arm, seed) an MLflow run stands for, by its tags."""
    return run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")


def runs_of(plan: AnyPlan, client: MlflowClient, experiment: str) -> Iterator[Run]:
    """Yield all runs of an experiment that have the study's tag, the newest first.

    MLflow's filters have no escape for a name with quotes, so they get the key's digest only.
    """
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            filter_string=f"tags.`coablate.key` LIKE '%-{plan.key.rpartition('-')[2]}'",
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        yield from (run for run in page if run.data.tags["coablate.key"] == plan.key)
        token = page.token
        if not token:
            return


def experiment_tags(uri: str) -> tuple[str, dict[str, str]]:
    """Return the id of the experiment in a database and its tags; empty where there is none yet."""
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(EXPERIMENT)
    return ("", {}) if experiment is None else (str(experiment.experiment_id), dict(experiment.tags))


def milliseconds(seconds: float | None) -> int:
    """Convert a time to MLflow's unit; None to 0."""
    return int(1000 * (seconds or 0))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
