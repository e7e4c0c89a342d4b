"""Runs a study's open runs: Tune drives thin trials, lanes of Ray Train workers do the work."""

import _thread
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.cloudpickle
import ray.train
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from coablate_platform.run.cluster import Cluster
from coablate_platform.run.dispatcher import NAME, Dispatcher
from coablate_platform.run.lane import LaneConfig, serve
from coablate_platform.run.loop import Task
from coablate_platform.run.policy import MAX_LOSSES
from coablate_platform.run.records import Recorder, RunState
from coablate_platform.run.trial import Trial
from coablate_platform.study.load import LONE_FILE
from coablate_platform.study.study import Study

LANE_END_S = 30.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One open run: its task, and the arm it belongs to."""

    task: Task
    arm: str


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie: the prepared store, checkpoints (one folder a run), and the recorder of runs."""

    store: str
    checkpoints: str
    recorder: Recorder


def run_all(
    study: Study,
    work: Sequence[Work],
    places: Places,
    cluster: Cluster,
    on_result: Callable[[str, dict[str, Any]], None],
) -> None:
    """Run every open run to its end, in the order given, as many at a time as lanes fit.

    Args:
        study: resources and workers come from it.
        work: open runs, seed block by seed block.
        places: store, checkpoints, recorder.
        cluster: what was joined.
        on_result: called in this process with a run id and each of its results.

    Raises:
        KeyboardInterrupt: the user stopped the study; what was recorded stays.
    """
    lanes = min(cluster.lanes(study), len(work))
    scratch = tempfile.mkdtemp(prefix="coablate-")
    _carry_lone_files(work)
    orders = {item.task.run_id: ray.cloudpickle.dumps(item.task) for item in work}
    dispatcher = ray.remote(num_cpus=0)(Dispatcher).options(name=NAME).remote(orders)
    over = threading.Event()

    def keep(lane: int) -> None:
        _keep_lane(lane, lambda: _fit_lane(lane, study, places, cluster, dispatcher, scratch), over)

    threads = [threading.Thread(target=keep, args=(lane,), daemon=True) for lane in range(lanes)]
    try:
        for thread in threads:
            thread.start()
        if _tune(work, lanes, scratch, on_result) < len(work):
            raise KeyboardInterrupt  # Tune takes the signal itself and returns early
        for thread in threads:
            thread.join(LANE_END_S)
    finally:
        over.set()
        ray.kill(dispatcher)
        shutil.rmtree(scratch, ignore_errors=True)


def _carry_lone_files(work: Sequence[Work]) -> None:
    """Let models that a study's own ``.py`` file defines travel by value; no other process could import them."""
    for name in {type(item.task.config.model).__module__ for item in work}:
        if name.startswith(LONE_FILE):
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])


def _keep_lane(lane: int, fit: Callable[[], None], over: threading.Event) -> None:
    """Run a lane to its end. Train restarts workers; a lane that is lost as a whole is started again, some times."""
    for _ in range(MAX_LOSSES):
        try:
            return fit()
        except Exception:
            if over.is_set():  # Ray is being stopped under it
                return None
            log.exception("lane %d was lost", lane)
    _thread.interrupt_main()  # it cannot be started: stop the study rather than wait for it
    return None


def _fit_lane(lane: int, study: Study, places: Places, cluster: Cluster, dispatcher: Any, scratch: str) -> None:
    resources = cluster.worker_resources(study.resources)
    config = LaneConfig(
        lane=lane,
        dispatcher=dispatcher,
        recorder=places.recorder,
        checkpoints=places.checkpoints,
        store=places.store,
        threads=max(int(study.resources.cpus), 1),
    )
    TorchTrainer(
        serve,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=study.base.training.workers, use_gpu="GPU" in resources, resources_per_worker=resources
        ),
        run_config=RunConfig(
            storage_path=scratch, name=f"lane-{lane}", failure_config=ray.train.FailureConfig(max_failures=-1)
        ),
    ).fit()


class _Listener(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Hands each result on. Tune pickles its callbacks for a restore that is never made, hence the empty state."""

    def __init__(self, on_result: Callable[[str, dict[str, Any]], None]) -> None:
        self._on_result = on_result
        self.ended: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        run_id = trial.config["cell"]["run_id"]
        if RunState(result["state"]).ended:
            self.ended.add(run_id)
        self._on_result(run_id, result)


def _tune(work: Sequence[Work], lanes: int, scratch: str, on_result: Callable[[str, dict[str, Any]], None]) -> int:
    """Let Tune walk through the cells; return how many came to an end."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}  # the journal and Progress do
    cells = [{"run_id": item.task.run_id, "arm": item.arm, "seed": item.task.seed[1]} for item in work]
    listener = _Listener(on_result)
    tune.Tuner(
        tune.with_resources(Trial, {"CPU": 0.001}),
        param_space={"cell": tune.grid_search(cells)},
        tune_config=tune.TuneConfig(max_concurrent_trials=lanes, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            name="tune",
            verbose=0,
            callbacks=[listener],
            failure_config=tune.FailureConfig(max_failures=-1),
        ),
    ).fit()
    return len(listener.ended)
