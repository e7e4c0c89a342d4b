"""Runs a study's open runs: Tune drives thin trials, lanes of Ray Train workers do the work."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.cloudpickle
from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator

from coablate_platform.run.cluster import Cluster
from coablate_platform.run.dispatcher import NAME, Dispatcher
from coablate_platform.run.keeper import Keeper, RayLanes, this_node
from coablate_platform.run.lane import LaneConfig
from coablate_platform.run.loop import Task
from coablate_platform.run.records import Recorder, RunState
from coablate_platform.run.trial import Trial
from coablate_platform.study.load import LONE_FILE
from coablate_platform.study.study import Study

LANE_END_S = 30.0
MOST_LANES = 256  # each has a thread in the process of their trainers
OnResult = Callable[[str, dict[str, Any]], None]


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
    on_result: OnResult,
    most_lanes: int | None = None,
) -> None:
    """Run every open run to its end, in the order given, as many at a time as lanes fit.

    Args:
        study: resources and workers come from it.
        work: open runs, seed block by seed block.
        places: store, checkpoints, recorder.
        on_result: called in this process with a run id and each of its results.
        most_lanes: how many runs may train at a time; None: as many as the cluster holds.

    Raises:
        InputError: not even one lane fits the cluster.
        KeyboardInterrupt: the user stopped the study; what was recorded stays.
        LaneLostError: a lane was lost too often; what was recorded stays.
    """
    size = Cluster.now().size_of(study)
    most = min(len(work), most_lanes or MOST_LANES)
    _carry_lone_files(work)
    orders = {item.task.run_id: ray.cloudpickle.dumps(item.task) for item in work}
    with contextlib.ExitStack() as ends:
        scratch = ends.enter_context(tempfile.TemporaryDirectory(prefix="coablate-", ignore_cleanup_errors=True))
        actor = ray.remote(num_cpus=0)(Dispatcher).options(name=NAME, scheduling_strategy=this_node())
        dispatcher = actor.remote(orders)
        ends.callback(ray.kill, dispatcher)
        config = LaneConfig(
            lane=0,
            dispatcher=dispatcher,
            recorder=places.recorder,
            checkpoints=places.checkpoints,
            store=places.store,
            threads=max(int(size.cpus), 1),
        )
        lanes = RayLanes(config, size, scratch, most)
        ends.callback(lanes.kill)
        keeper = Keeper(lanes, lambda: Cluster.now().lanes(size), most)
        if _tune(work, keeper, scratch, on_result) < len(work):
            raise KeyboardInterrupt  # Tune takes the signal itself and returns early
        lanes.wait(LANE_END_S)


def _carry_lone_files(work: Sequence[Work]) -> None:
    """Let models that a study's own ``.py`` file defines travel by value; no other process could import them."""
    for name in {type(item.task.config.model).__module__ for item in work}:
        if name.startswith(LONE_FILE):
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])


class _Listener(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Hands each result on, and tends the lanes meanwhile.

    Tune pickles its callbacks for a restore that is never made, hence the empty state.
    """

    def __init__(self, keeper: Keeper, searcher: BasicVariantGenerator, on_result: OnResult) -> None:
        self._keeper = keeper
        self._searcher = searcher
        self._on_result = on_result
        self.ended: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._keeper.tend()
        self._searcher.max_concurrent = max(self._keeper.started, 1)  # 0 would be no limit

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        run_id = trial.config["cell"]["run_id"]
        if RunState(result["state"]).ended:
            self.ended.add(run_id)
        self._on_result(run_id, result)


def _tune(work: Sequence[Work], keeper: Keeper, scratch: str, on_result: OnResult) -> int:
    """Let Tune walk through the cells, as many at a time as there are lanes; return how many came to an end."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}  # the journal and Progress do
    cells = [{"run_id": item.task.run_id, "arm": item.arm, "seed": item.task.seed[1]} for item in work]
    keeper.tend()
    searcher = BasicVariantGenerator(max_concurrent=keeper.started)
    listener = _Listener(keeper, searcher, on_result)
    tuner = tune.Tuner(
        tune.with_resources(Trial, {"CPU": 0.001}),
        param_space={"cell": tune.grid_search(cells)},
        tune_config=tune.TuneConfig(search_alg=searcher, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            name="tune",
            verbose=0,
            callbacks=[listener],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run's checkpoints are its lane's
            failure_config=tune.FailureConfig(max_failures=-1),
        ),
    )
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        tuner.fit()
    finally:
        signal.signal(signal.SIGINT, interrupted)  # Tune leaves its own behind
    return len(listener.ended)
