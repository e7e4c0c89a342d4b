"""Keeps a pool of lanes: as many as the cluster holds, more when nodes join, and a lost one started again."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coablate_platform.lanes.cluster import LaneSize
from coablate_platform.lanes.interface import OverRaysInterface, WithoutGroup
from coablate_platform.lanes.lane import LaneConfig, serve
from coablate_platform.study.errors import (
    InputError,
    LaneLostError,
    NoRoomLeftError,
    UnfitNodesError,
    first_line,
)
from coablate_platform.train.failures import MAX_LOSSES

NODE_ID = "ray.io/node-id"
"""The label that Ray gives to each node."""
LOOK_S = 10.0  # between two looks for nodes that have joined
log = logging.getLogger(__name__)


class Lanes(Protocol):
    """Starts lanes, and reports which have ended."""

    def start(self, lane: int, without: Collection[str]) -> None:
        """Start a lane on other nodes than those with these ids."""
        ...

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        """Return the lanes that ended since the last call, with the error where they were lost or could not train.

        It is a :class:`LaneLostError` where a lane failed too often since it last took a run.
        """
        ...


class WorkerPool:
    """Decides which lanes to start, and when.

    Args:
        lanes: starts them.
        capacity: returns how many lanes the cluster holds now without the nodes with these ids.
        most: how many can be of use.
        say: tells the user of nodes that cannot train, and of lanes that find no room.
        ask: asks the cluster for room for so many lanes.
        every: seconds between two looks at the capacity.

    Attributes:
        started: how many lanes were started, without restarts and without those whose nodes cannot train or are gone.
    """

    def __init__(
        self,
        lanes: Lanes,
        capacity: Callable[[Collection[str]], int],
        most: int,
        say: Callable[[str], None],
        ask: Callable[[int], None],
        every: float = LOOK_S,
    ) -> None:
        self._lanes = lanes
        self._capacity = capacity
        self._most = most
        self._say, self._ask = say, ask
        self._every = every
        self._look_at = -float("inf")
        self._given_up = 0
        self._unfit: dict[str, str] = {}  # id of a node -> why it cannot train
        self._said: set[str] = set()
        self._next = 0  # number of the next new lane
        self._ended = 0
        self.started = 0
        ask(most)

    def reconcile(self) -> None:
        """Start the lanes that fit and those that were lost. Called often.

        Raises:
            InputError: no node can train.
            LaneLostError: all lanes were lost too often.
        """
        for lane, error in self._lanes.ended():
            if error is None:
                self._most = self.started  # no run was left to take: more lanes would find none
                self._ended += 1
                self._ask(self.started - self._ended)
            elif isinstance(error, UnfitNodesError):
                self._retire(error.nodes)
            elif isinstance(error, NoRoomLeftError):
                self.started -= 1
                self._say_once("No room for a lane now; its run goes to the others, and it starts again where there is")
            elif isinstance(error, LaneLostError):
                self._give_up(error)
            else:
                log.warning("lane %d was lost (%s)", lane, described(error))
                self._lanes.start(lane, self._unfit)
        if self.started < self._most and time.monotonic() >= self._look_at:
            for _ in range(self.started, min(self._capacity(self._unfit), self._most)):
                self._lanes.start(self._next, self._unfit)
                self._next += 1
                self.started += 1
            self._look_at = time.monotonic() + self._every
            if self._unfit and not self.started:
                raise InputError(f"no node can train: {'; '.join(self._unfit.values())}")

    def _retire(self, nodes: Mapping[str, str]) -> None:
        """Use these nodes no more, and start another lane elsewhere if one fits."""
        for line in nodes.values():
            self._say_once(f"Not used: {line}")
        self._unfit |= nodes
        self.started -= 1
        self._look_at = -float("inf")

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)

    def _give_up(self, error: LaneLostError) -> None:
        """Go on with the other lanes, if there are any."""
        self._given_up += 1
        if self._given_up + self._ended >= self.started:
            raise error
        self._say(f"Not started again: {error}")


class _Trainers:
    """An actor that runs the lanes' trainers, each in a thread.

    They are not in the driver, because a thread that calls Ray while Ray shuts down ends the process.
    """

    def fit(self, config: LaneConfig, size: LaneSize, scratch: str, without: Collection[str]) -> None:
        TorchTrainer(
            serve,
            train_loop_config=config,
            torch_config=OverRaysInterface() if size.workers > 1 else WithoutGroup(),
            scaling_config=ScalingConfig(
                num_workers=size.workers,
                use_gpu=size.gpus > 0,
                resources_per_worker=size.claim,
                label_selector={NODE_ID: f"!in({','.join(without)})"} if without else None,
            ),
            run_config=RunConfig(
                storage_path=scratch,
                name=f"lane-{config.lane}",
                failure_config=ray.train.FailureConfig(max_failures=-1, controller_failure_limit=0),
                callbacks=[_LossReporter(config)],
            ),
        ).fit()


class _LossReporter(ray.train.UserCallback):  # type: ignore[misc]  # ray is untyped
    """Tells the dispatcher when a lane's workers failed, and ends a lane that fails again and again before a run.

    Train starts the workers again without end.
    """

    def __init__(self, config: LaneConfig) -> None:
        self._dispatcher, self._lane = config.dispatcher, config.lane

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        self._dispatcher.lost.remote(self._lane)
        if ray.get(self._dispatcher.count_failure.remote(self._lane)) >= MAX_LOSSES:
            raise next(iter(worker_exceptions.values()))


class RayLanes:
    """Lanes as Ray Train runs. Train restarts workers that die; a lane that ends here with an error was lost whole.

    Args:
        config: what the workers are given; the lane's number is put in.
        size: what a lane is made of.
        scratch: a folder on this machine for what Train writes.
        most: how many lanes there can be at a time.
    """

    def __init__(self, config: LaneConfig, size: LaneSize, scratch: str, most: int) -> None:
        self._config = config
        self._size = size
        self._scratch = scratch
        again = {"max_restarts": MAX_LOSSES, "max_task_retries": MAX_LOSSES}
        # Train's clean-up asks for the cluster by this variable, and gives up where several run on the machine
        named = {"env_vars": {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}}
        actor = ray.remote(num_cpus=0, max_concurrency=most, runtime_env=named, **again)(_Trainers)
        self._trainers = actor.options(scheduling_strategy=this_node()).remote()
        self._open: dict[Any, int] = {}
        self._dispatcher = config.dispatcher.live.remote()

    def start(self, lane: int, without: Collection[str]) -> None:
        config = replace(self._config, lane=lane)
        self._open[self._trainers.fit.remote(config, self._size, self._scratch, tuple(without))] = lane

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        """Return the lanes that ended since last asked.

        Raises:
            LaneLostError: the dispatcher died; lanes and proxies can no longer reach each other.
        """
        if ray.wait([self._dispatcher], timeout=0)[0]:
            raise LaneLostError("the dispatcher died")
        done, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0) if self._open else ([], [])
        for future in done:
            lane = self._open.pop(future)
            error = self._judged(lane, _error(future))
            if isinstance(error, UnfitNodesError | NoRoomLeftError | LaneLostError):
                self._config.dispatcher.lost.remote(lane, 0.0)  # it does not come back; another takes its run
            yield lane, error

    def _judged(self, lane: int, error: Exception | None) -> Exception | None:
        """Return why a lane ended, as the pool distinguishes it; None where no run was left."""
        dispatcher = self._config.dispatcher
        if error is None:
            unfit = ray.get(dispatcher.unfit_nodes.remote(lane))
            return UnfitNodesError(unfit) if unfit else None
        if isinstance(_cause(error), WorkerGroupStartupTimeoutError):
            return NoRoomLeftError(described(error))
        if (failures := ray.get(dispatcher.count_failure.remote(lane))) >= MAX_LOSSES:
            return LaneLostError(
                f"lane {lane} failed {failures} times before it took a run, last with {described(error)}"
            )
        return error

    def wait(self, patience: float) -> None:
        """Wait for the lanes to end, for at most so many seconds."""
        if self._open:
            ray.wait(list(self._open), num_returns=len(self._open), timeout=patience)

    def kill(self) -> None:
        """Kill all lanes at once."""
        ray.kill(self._trainers)


def this_node() -> NodeAffinitySchedulingStrategy:
    """Return the strategy that places an actor on the driver's node, so that it is lost only with the driver."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def described(error: Exception) -> str:
    """Return the kind and the first line of what made a lane fail."""
    cause = _cause(error)
    return f"{type(cause).__name__}: {first_line(cause)}"


def _cause(error: BaseException) -> BaseException:
    """Return the error within those that Ray and Ray Train wrap it in; their texts have the traceback."""
    for wrapped in ("cause", "controller_failure"):
        if isinstance(inner := getattr(error, wrapped, None), BaseException):
            return _cause(inner)
    return error


def _error(future: Any) -> Exception | None:
    try:
        ray.get(future)
    except Exception as error:
        return error
    return None
