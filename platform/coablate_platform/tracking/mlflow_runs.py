"""The MLflow runs of one study: which exist, what they hold, and the requests that add to them.

What MLflow holds is queried once, at the start, and kept in memory. After that, only differences to it are sent.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunTag

from coablate_platform.study.errors import InputError
from coablate_platform.study.plan import AnyPlan

EXPERIMENT = "coablate"
"""Name of the MLflow experiment that holds all studies."""
LONGEST_TEXT = 6000
"""Longest value of a param or a tag, in characters, that is sent."""
_METRICS_A_REQUEST = 800  # of the 1000 items that MLflow takes in one request; at most 100 may be params, 100 tags
_PARAMS_A_REQUEST = 100
_LONGEST_NAME = 250

Level = tuple[str | None, str | None]
"""An MLflow run's (arm, seed): (None, None) is the study, (arm, None) an arm, (arm, seed) a training run."""
STUDY: Level = (None, None)


@dataclass(kw_only=True)
class LoggedRun:
    """What MLflow holds of one of its runs.

    Args:
        id: MLflow's run id.
        status: MLflow's status.
        epoch: the last epoch whose metrics are logged.
        params: names of the logged params.
        metrics: name -> last value.
        tags: name -> value.
    """

    id: str
    status: str
    epoch: int = 0
    params: set[str] = field(default_factory=set)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class MlflowRuns:
    """The MLflow runs of one study, found by their tags.

    Args:
        plan: the plan of the study or the search.
        uri: MLflow's tracking URI.
        artifacts: artifact location of the experiment if it must be created; None leaves that to the server.

    Attributes:
        logged: level -> what MLflow holds of its run.

    Raises:
        InputError: the experiment was deleted in MLflow.
        MlflowException: MLflow cannot be reached or refuses.
    """

    def __init__(self, plan: AnyPlan, uri: str, artifacts: str | None) -> None:
        self._plan = plan
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._find_experiment(uri, artifacts)
        self.logged = self._search_runs()

    def open(
        self, level: Level, name: str, tags: Mapping[str, str], params: Mapping[str, object], started: float | None
    ) -> LoggedRun:
        """Return the run of a level, created if there is none, with these params.

        Args:
            level: the study, an arm or a training run.
            name: the run's name, if it is created.
            tags: its tags, if it is created.
            params: its params, as texts or values that JSON can hold; those that it has stay as they are.
            started: its start in Unix seconds, if it is created.
        """
        if level not in self.logged:
            tags = {"coablate.study": self._plan.name, "coablate.key": self._plan.key, **tags}
            run = self._client.create_run(self._experiment, start_time=milliseconds(started), tags=tags, run_name=name)
            self.logged[level] = LoggedRun(id=run.info.run_id, status=run.info.status, tags=run.data.tags)
        self.log(self.logged[level], params=params)
        return self.logged[level]

    def log(
        self,
        run: LoggedRun,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Send metrics, and the params and tags that are new, in one request or as many as MLflow's limits require."""
        texts = {allowed_name(key): _text(value)[:LONGEST_TEXT] for key, value in (params or {}).items()}
        new_params = [Param(key, value) for key, value in texts.items() if key not in run.params]
        new_tags = [RunTag(key, value) for key, value in (tags or {}).items() if run.tags.get(key) != value]
        while metrics or new_params or new_tags:
            self._client.log_batch(run.id, metrics[:_METRICS_A_REQUEST], new_params[:_PARAMS_A_REQUEST], new_tags)
            run.metrics |= {metric.key: metric.value for metric in metrics[:_METRICS_A_REQUEST]}
            run.params |= {param.key for param in new_params[:_PARAMS_A_REQUEST]}
            run.tags |= {tag.key: tag.value for tag in new_tags}
            metrics, new_params, new_tags = metrics[_METRICS_A_REQUEST:], new_params[_PARAMS_A_REQUEST:], []

    def log_changed(self, run: LoggedRun, values: Mapping[str, float | None], step: int, time: float | None) -> None:
        """Send the metrics whose value has changed; None stands for no value. ``time`` is in Unix seconds."""
        metrics = [
            Metric(name, value, milliseconds(time), step)
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
            self._client.log_artifacts(run.id, folder, name)
        self.log(run, tags={f"coablate.{name}": digest})

    def set_status(self, run: LoggedRun, status: str, ended: float | None = None) -> None:
        """Set a run's status; ``ended`` is the time of its end in Unix seconds, None for now."""
        if run.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run.id, status=status)
        else:
            self._client.set_terminated(run.id, status, milliseconds(ended) if ended else None)
        run.status = status

    def _find_experiment(self, uri: str, artifacts: str | None) -> str:
        """Return the experiment's id; create it if there is none."""
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            raise InputError(
                f"MLflow experiment {EXPERIMENT!r} at {uri} is deleted, restore it or choose another --tracking"
            )
        return str(experiment.experiment_id)

    def _search_runs(self) -> dict[Level, LoggedRun]:
        """Return level -> what is logged, of all runs with the study's tag; of several of a level, the oldest."""
        logged: dict[Level, LoggedRun] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`coablate.key` = '{self._plan.key}'",
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            for run in page:
                metrics = run.data.metrics
                logged[run.data.tags.get("coablate.arm"), run.data.tags.get("coablate.seed")] = LoggedRun(
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


def allowed_name(text: str) -> str:
    """Return the name of a metric or a param with ``_`` in place of characters that MLflow refuses."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:_LONGEST_NAME]


def milliseconds(seconds: float | None) -> int:
    """Convert a time to MLflow's unit; None to 0."""
    return int(1000 * (seconds or 0))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
