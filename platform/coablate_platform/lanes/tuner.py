"""Runs what a source gives: Tune drives thin trials, lanes of Ray Train workers do the work."""

import contextlib
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import ray.cloudpickle
from ray import tune
from ray.tune.search import Searcher

from coablate_platform.data.store import Store
from coablate_platform.journal.trials import trial_name
from coablate_platform.lanes.cluster import Cluster
from coablate_platform.lanes.dispatcher import NAME, Dispatcher
from coablate_platform.lanes.footprint import fit_together
from coablate_platform.lanes.lane import LaneConfig
from coablate_platform.lanes.pool import Keeper, RayLanes, this_node
from coablate_platform.lanes.proxy import Trial
from coablate_platform.search.scheduler import Draw, Sweep
from coablate_platform.study.load import LONE_FILE
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study
from coablate_platform.train.events import Recorder, RunState
from coablate_platform.train.loop import Task

LANE_END_S = 30.0
MOST_LANES = 256  # each has a thread in the process of their trainers
NO_LIMIT = -1
OnResult = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One open run: its task, and the arm it belongs to."""

    task: Task
    arm: str


class Source(Protocol):
    """Gives runs out, one after the other, and hears what they report."""

    @property
    def most(self) -> int:
        """How many runs can be at work at a time."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no more will come."""
        ...

    def next(self) -> Work | None:
        """Return the next run; None where none is left, or none before others have reported."""
        ...

    def report(self, run_id: str, result: dict[str, Any]) -> bool:
        """Take in one result of a run, and return whether it is to be stopped."""
        ...


class InOrder:
    """The runs of a study with arms: each to its full budget, in the order given.

    Args:
        work: open runs, seed block by seed block.
        on_result: called with a run id and each of its results.
    """

    def __init__(self, work: Iterable[Work], on_result: OnResult) -> None:
        self._work = list(work)
        self._on_result = on_result
        self.most = len(self._work)

    @property
    def exhausted(self) -> bool:
        return not self._work

    def next(self) -> Work | None:
        return self._work.pop(0) if self._work else None

    def report(self, run_id: str, result: dict[str, Any]) -> bool:
        self._on_result(run_id, result)
        return False


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things lie: the prepared store, checkpoints (one folder a run), and the recorder of runs."""

    store: str
    checkpoints: str
    recorder: Recorder

    @classmethod
    def below(cls, out: Path, store: Store, recorder: Recorder) -> "Places":
        """Return the places of a results folder."""
        return cls(store=store.uri, checkpoints=str(out.resolve() / "checkpoints"), recorder=recorder)


class Trials:
    """The runs of a search: drawn when a lane is free for them, and given up when the search says so.

    Args:
        sweep: what decides.
        task_of: returns the run of a draw.
        most: how many trials there are.
        on_result: called with each of a run's results, and whether the run is given up after it.
    """

    def __init__(
        self,
        sweep: Sweep,
        task_of: Callable[[Draw], Task],
        most: int,
        on_result: Callable[[str, dict[str, Any], bool], None],
    ) -> None:
        self._sweep, self._task_of, self._on_result = sweep, task_of, on_result
        self.most = most

    @property
    def exhausted(self) -> bool:
        return self._sweep.exhausted

    def next(self) -> Work | None:
        draw = self._sweep.next()
        return None if draw is None else Work(task=self._task_of(draw), arm=trial_name(draw.number))

    def report(self, run_id: str, result: dict[str, Any]) -> bool:
        stops = self._sweep.report(run_id, result)
        self._on_result(run_id, result, stops)
        return stops


def run_all(study: Study | Search, source: Source, places: Places, most_lanes: int | None = None) -> None:
    """Run every run of a source to its end, as many at a time as lanes fit.

    Args:
        study: resources and workers come from it.
        source: what to run; asked and told in this process.
        places: store, checkpoints, recorder.
        most_lanes: how many runs may train at a time; None: as many as the cluster holds.

    Raises:
        InputError: not even one lane fits the cluster.
        KeyboardInterrupt: the user stopped the study; what was recorded stays.
        LaneLostError: a lane was lost too often; what was recorded stays.
    """
    _carry_lone_file(study)
    size = Cluster.now().size_of(study, lambda: fit_together(study, places.store))
    most = min(source.most, most_lanes or MOST_LANES)
    with contextlib.ExitStack() as ends:
        scratch = ends.enter_context(tempfile.TemporaryDirectory(prefix="coablate-", ignore_cleanup_errors=True))
        actor = ray.remote(num_cpus=0)(Dispatcher).options(name=NAME, scheduling_strategy=this_node())
        dispatcher = actor.remote()
        ends.callback(ray.kill, dispatcher)
        config = LaneConfig(
            lane=0,
            dispatcher=dispatcher,
            recorder=places.recorder,
            checkpoints=places.checkpoints,
            store=places.store,
            threads=study.resources.threads,
            gpu_share=min(size.gpus, 1.0) or 1.0,
        )
        lanes = RayLanes(config, size, scratch, most)
        ends.callback(lanes.kill)
        keeper = Keeper(lanes, lambda: Cluster.now().lanes(size), most)
        courier = _Courier(source, dispatcher, keeper)
        _tune(courier, keeper, scratch)
        if not courier.done:
            raise KeyboardInterrupt  # Tune takes the signal itself and returns early
        lanes.wait(LANE_END_S)


def _carry_lone_file(study: Study | Search) -> None:
    """Let models that a study's own ``.py`` file defines travel by value; no other process could import them."""
    name = type(study.base.model).__module__
    if name.startswith(LONE_FILE):
        ray.cloudpickle.register_pickle_by_value(sys.modules[name])


class _Courier(Searcher):  # type: ignore[misc]  # ray is untyped
    """Tune's searcher: carries runs from their source to the dispatcher, and results back.

    Tune pickles its searcher for a restore that is never made, hence the empty state.
    """

    def __init__(self, source: Source, dispatcher: Any, keeper: Keeper) -> None:
        super().__init__()
        self._source, self._dispatcher, self._keeper = source, dispatcher, keeper
        self._active: dict[str, tuple[str, str]] = {}  # Tune's trial -> run id and claim
        self._given: Counter[str] = Counter()  # how often a run was given out
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def done(self) -> bool:
        """Whether everything came to an end."""
        return self._source.exhausted and not self._active

    def suggest(self, trial_id: str) -> Any:
        """Return the next cell, where a lane is free for it."""
        if len(self._active) >= max(self._keeper.started, 1):
            return None
        work = self._source.next()
        cell = None if work is None else self._offered(trial_id, work)
        if self._source.exhausted and not self._closed:
            ray.get(self._dispatcher.close.remote())
            self._closed = True
        return Searcher.FINISHED if cell is None and self._source.exhausted else cell

    def _offered(self, trial_id: str, work: Work) -> dict[str, Any]:
        """Hand a run to the dispatcher, under a claim of its own each time, and return what Tune's trial is told."""
        run_id = work.task.run_id
        self._given[run_id] += 1
        claim = f"{run_id}-{self._given[run_id]}"
        ray.get(self._dispatcher.offer.remote(claim, run_id, ray.cloudpickle.dumps(work.task)))
        self._active[trial_id] = (run_id, claim)
        return {"cell": {"claim": claim, "run_id": run_id, "arm": work.arm, "seed": work.task.seed[1]}}

    def stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Hand a result to the source; Tune asks this of each one."""
        if trial_id not in self._active:
            return False  # its end, once more: the trial's process was restarted
        run_id, claim = self._active[trial_id]
        if (stops := self._source.report(run_id, result)) or RunState(result["state"]).ended:
            del self._active[trial_id]
            self._dispatcher.stop.remote(claim)  # Tune may keep the trial, and its lane with it, until there is another
        return stops

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing: the result that ends a run has been reported."""


class _Tending(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Tends the lanes at each of Tune's steps. Its state is empty for the courier's reason."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._keeper.tend()


def _tune(courier: _Courier, keeper: Keeper, scratch: str) -> None:
    """Let Tune walk through the cells, as many at a time as there are lanes."""
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}  # the journal and Progress do
    keeper.tend()
    tuner = tune.Tuner(
        tune.with_resources(Trial, {"CPU": 0.001}),
        tune_config=tune.TuneConfig(search_alg=courier, num_samples=NO_LIMIT, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            name="tune",
            verbose=0,
            stop=courier.stop,
            callbacks=[_Tending(keeper)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run's checkpoints are its lane's
            failure_config=tune.FailureConfig(max_failures=-1),
        ),
    )
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        tuner.fit()
    finally:
        signal.signal(signal.SIGINT, interrupted)  # Tune leaves its own behind
