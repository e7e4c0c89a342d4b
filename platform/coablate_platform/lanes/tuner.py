"""Trains the runs of a scheduler: Ray Tune drives a thin proxy for each run, and lanes of workers train the runs.

Tune starts the proxies, keeps as many alive as there are lanes, and asks the searcher for the next run. Tune's own
schedulers, checkpoints and restore are not used: lanes write checkpoints, the journal records runs, and schedulers of
this project decide.
"""

import contextlib
import logging
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import ray
import ray.cloudpickle
from ray import tune
from ray.actor import ActorHandle
from ray.tune.search import Searcher

from coablate_platform.data.store import Store
from coablate_platform.lanes.cluster import Cluster, node_lives
from coablate_platform.lanes.dispatcher import Dispatcher
from coablate_platform.lanes.footprint import fit_together
from coablate_platform.lanes.growth import ask_for, awaited_size
from coablate_platform.lanes.lane import LaneConfig
from coablate_platform.lanes.pool import RayLanes, WorkerPool, this_node
from coablate_platform.lanes.proof import Proof, ResultsFolder, left_probe
from coablate_platform.lanes.proxy import RunProxy, account_of
from coablate_platform.study.search import Search
from coablate_platform.study.study import Study
from coablate_platform.train.events import Recorder, RunUpdate
from coablate_platform.train.provenance import origin_of, versions
from coablate_platform.train.task import Task

LANE_SHUTDOWN_S = 30.0
MAX_LANES = 256  # each lane takes a thread in the process that holds the trainers
NO_LIMIT = -1
OnUpdate = Callable[[str, RunUpdate, bool], None]
"""Called with a run id, the run's update, and whether the scheduler stops the run at it."""

OnEnd = Callable[[dict[str, tuple[str, RunUpdate]]], object]
"""Called with what :func:`~coablate_platform.lanes.proxy.account_of` returns."""


class Scheduler(Protocol):
    """Decides which run trains next and which run stops. It is called in the driver's process only."""

    @property
    def most(self) -> int:
        """How many runs can train at a time."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether no run is left to start. Runs may still train."""
        ...

    def next(self) -> Task | None:
        """Return the next run, or None if none is left or the next one depends on reports that are still to come."""
        ...

    def report(self, run_id: str, update: RunUpdate) -> bool:
        """Process a run's update, and return whether the run must stop."""
        ...

    def check(self) -> None:
        """Check that the runs should go on. Called after reports and before a run is started.

        Raises:
            RepeatedFailureError: they should not; what was recorded is kept.
        """
        ...


class FixedOrder:
    """Scheduler of a study with declared arms: every run trains to its full budget, in a given order.

    It goes on whatever fails: the number of runs is declared, and an arm that fails is a result of the study.

    Args:
        tasks: the open runs in order.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = list(tasks)
        self.most = len(self._tasks)

    @property
    def exhausted(self) -> bool:
        return not self._tasks

    def next(self) -> Task | None:
        return self._tasks.pop(0) if self._tasks else None

    def report(self, run_id: str, update: RunUpdate) -> bool:
        return False

    def check(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Locations:
    """Where workers read and write.

    Args:
        store: URI of the prepared store.
        fingerprint: the store's fingerprint.
        checkpoints: path or URI of the folder that holds a folder for each run; every node sees it.
        recorder: writes runs to the journal.
        out: the results folder.
        source: path or URI of the folder of the copies of the user's files; empty if there are none.
    """

    store: str
    fingerprint: str
    checkpoints: str
    recorder: Recorder
    out: ResultsFolder
    source: str = ""

    @classmethod
    def below(cls, out: ResultsFolder, store: Store, recorder: Recorder, source: str = "") -> "Locations":
        """Return the locations in a results folder."""
        return cls(
            store=store.uri,
            fingerprint=store.fingerprint,
            checkpoints=f"{out.uri}/checkpoints",
            recorder=recorder,
            out=out,
            source=source,
        )


def run_all(
    study: Study | Search,
    scheduler: Scheduler,
    locations: Locations,
    on_update: OnUpdate = lambda run_id, update, stops: None,
    on_phase: Callable[[str], None] = lambda phase: None,
    on_warning: Callable[[str], None] = lambda line: None,
    on_end: OnEnd = lambda account: None,
    max_lanes: int | None = None,
    mixed: bool = False,
    grows: bool = False,
) -> None:
    """Train every run of a scheduler, on as many lanes as fit the joined cluster.

    Args:
        study: declares the resources of a worker and the number of workers of a lane.
        scheduler: decides which runs train.
        locations: store, checkpoints, recorder and source.
        on_update: called with every update, for example to show it.
        on_phase: called with what begins, in words, until the first update.
        on_warning: called with a line about a node that is not used.
        on_end: called at the end, also after an error, with what Tune holds of the runs.
        max_lanes: most runs that train at a time; None: as many as fit the cluster.
        mixed: accept nodes with other code or packages than this process.
        grows: ask the cluster's autoscaler for the nodes of the lanes, and wait for the first of them.

    Raises:
        InputError: no lane fits the cluster, or no node can train.
        KeyboardInterrupt: the user interrupted it; recorded results are kept.
        LaneLostError: a lane was lost too often; recorded results are kept.
        RepeatedFailureError: the scheduler gave up, since runs fail one after another; recorded results are kept.
    """

    def fit() -> int:
        on_phase("measuring how many runs fit a GPU")
        return fit_together(study, locations.store, locations.source)

    most = min(scheduler.most, max_lanes or MAX_LANES)
    size = awaited_size(study, fit, on_phase, most) if grows else Cluster.now().size_of(study, fit)
    lanes_now = min(Cluster.now().lanes(size), most)
    on_phase("starting 1 lane" if lanes_now == 1 else f"starting {lanes_now} lanes")
    name = f"coablate-dispatcher-{uuid.uuid4().hex}"
    with contextlib.ExitStack() as cleanup:
        scratch = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="coablate-", ignore_cleanup_errors=True))
        actor = ray.remote(num_cpus=0)(Dispatcher).options(name=name, scheduling_strategy=this_node())
        dispatcher = actor.remote(node_lives)
        cleanup.callback(ray.kill, dispatcher)
        config = LaneConfig(
            lane=0,
            dispatcher=dispatcher,
            recorder=locations.recorder,
            checkpoints=locations.checkpoints,
            store=locations.store,
            proof=_proof(study, locations, cleanup.enter_context(left_probe(locations.out)), mixed),
            threads=study.resources.threads,
            gpu_share=min(size.gpus, 1.0) or 1.0,
            hang_after=study.resources.hang_after,
        )
        lanes = RayLanes(config, size, scratch, most)
        cleanup.callback(lanes.kill)
        ask = partial(ask_for, size) if grows else lambda lanes: None
        cleanup.callback(ask, 0)
        pool = WorkerPool(lanes, lambda without: Cluster.now(without).lanes(size), most, on_warning, ask)
        pool.reconcile()
        searcher = _SchedulerSearcher(scheduler, on_update, dispatcher, name, pool)
        callback = _BeforeEachStep(scheduler, pool)
        cleanup.callback(lambda: on_end(account_of(callback.trials)))
        _tune(searcher, callback, scratch)
        scheduler.check()  # of the last runs
        if not searcher.done:
            raise KeyboardInterrupt  # Tune returns early after SIGUSR1
        lanes.wait(LANE_SHUTDOWN_S)


def _proof(study: Study | Search, locations: Locations, probe: str, mixed: bool) -> Proof:
    """Return what the workers of a study must find."""
    origin = origin_of(study.base)
    return Proof(
        out=locations.out,
        probe=probe,
        store=locations.store,
        fingerprint=locations.fingerprint,
        source=locations.source,
        model=ray.cloudpickle.dumps(study.base.model),
        origin=origin,
        versions=None if mixed else versions(origin),
    )


class _SchedulerSearcher(Searcher):  # type: ignore[misc]  # ray is untyped
    """A Tune searcher that asks a scheduler: it offers runs to the lanes and passes their updates to the scheduler.

    Tune pickles its searcher for its restore, which is not used; the pickled state is therefore empty.
    """

    def __init__(
        self, scheduler: Scheduler, on_update: OnUpdate, dispatcher: ActorHandle, name: str, pool: WorkerPool
    ) -> None:
        super().__init__()
        self._scheduler, self._on_update = scheduler, on_update
        self._dispatcher, self._name, self._pool = dispatcher, name, pool
        self._active: dict[str, tuple[str, str]] = {}  # Tune's trial id -> run id and lease id
        self._offered: Counter[str] = Counter()  # run id -> how often the run was offered
        self._closed = False

    def __getstate__(self) -> dict[str, Any]:
        return {}

    @property
    def done(self) -> bool:
        """Whether all runs have ended or stopped."""
        return self._scheduler.exhausted and not self._active

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """Offer the next run and return its proxy's configuration; return None if no lane is free for it."""
        if len(self._active) >= max(self._pool.started, 1):
            return None
        task = self._scheduler.next()
        config = None if task is None else self._offer(trial_id, task)
        if self._scheduler.exhausted and not self._closed:
            ray.get(self._dispatcher.close.remote())
            self._closed = True
        finished: str = Searcher.FINISHED
        return finished if config is None and self._scheduler.exhausted else config

    def _offer(self, trial_id: str, task: Task) -> dict[str, str]:
        """Offer a run to the lanes under a new lease."""
        self._offered[task.run_id] += 1
        lease = f"{task.run_id}-{self._offered[task.run_id]}"
        ray.get(self._dispatcher.offer.remote(lease, task.run_id, ray.cloudpickle.dumps(task)))
        self._active[trial_id] = (task.run_id, lease)
        return {"dispatcher": self._name, "lease": lease}

    def stop(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Pass an update to the scheduler and return whether the trial stops; Tune calls it for each result."""
        if trial_id not in self._active:
            return False  # a repeated last update, after the proxy's process was restarted
        update: RunUpdate = result["update"]
        run_id, lease = self._active[trial_id]
        stops = self._scheduler.report(run_id, update)
        if stops or update.state.ended:
            del self._active[trial_id]
            self._dispatcher.stop.remote(lease)  # now: Tune may keep the trial alive until it starts another one
        self._on_update(run_id, update, stops)
        return stops

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: :meth:`stop` has passed on the last update."""


class _BeforeEachStep(tune.Callback):  # type: ignore[misc]  # ray is untyped
    """A callback that asks the scheduler whether to go on, and reconciles the pool, before each of Tune's steps.

    Its errors end Tune, while those of a searcher may not. Its pickled state is empty, as the searcher's is.

    Attributes:
        trials: Tune's trials, as of the last step.
    """

    def __init__(self, scheduler: Scheduler, pool: WorkerPool) -> None:
        self._scheduler, self._pool = scheduler, pool
        self.trials: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.trials = trials
        self._scheduler.check()
        self._pool.reconcile()


def _tune(searcher: _SchedulerSearcher, callback: _BeforeEachStep, scratch: str) -> None:
    """Let Tune drive the proxies until the searcher is done."""
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would wait for the end of a step
    }  # the journal and screen do
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of a lost process it prints a traceback a proxy
    tuner = tune.Tuner(
        tune.with_resources(RunProxy, {"CPU": 0.001}),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=NO_LIMIT, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=scratch,
            name="tune",
            verbose=0,
            stop=searcher.stop,
            callbacks=[callback],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # lanes write the checkpoints
            failure_config=tune.FailureConfig(max_failures=-1),
        ),
    )
    tuner.fit()
