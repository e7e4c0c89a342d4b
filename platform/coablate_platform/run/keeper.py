"""Keeps lanes at work: as many as the cluster holds, more when nodes join, and a lost one started again."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coablate_platform.run.lane import LaneConfig, serve
from coablate_platform.run.policy import MAX_LOSSES, LaneLostError

LOOK_S = 10.0  # between two looks for nodes that have joined
log = logging.getLogger(__name__)


class Lanes(Protocol):
    """Starts lanes, and knows which have ended."""

    def start(self, lane: int) -> None: ...

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        """Return the lanes that ended since last asked; without an error where no run was left to take."""
        ...


class Keeper:
    """Decides which lanes to start, and when.

    Args:
        lanes: where they are started.
        capacity: how many the cluster holds now.
        most: how many are of any use.
        every: seconds between two looks at the capacity.
    """

    def __init__(self, lanes: Lanes, capacity: Callable[[], int], most: int, every: float = LOOK_S) -> None:
        self._lanes = lanes
        self._capacity = capacity
        self._most = most
        self._every = every
        self._look_at = -float("inf")
        self._losses: Counter[int] = Counter()
        self.started = 0

    def tend(self) -> None:
        """Start what fits and what was lost; called often.

        Raises:
            LaneLostError: a lane was lost too often.
        """
        for lane, error in self._lanes.ended():
            if error is None:
                self._most = self.started  # nothing is left to take: no more lanes
            else:
                self._start_again(lane, error)
        if self.started < self._most and time.monotonic() >= self._look_at:
            for lane in range(self.started, min(self._capacity(), self._most)):
                self._lanes.start(lane)
                self.started += 1
            self._look_at = time.monotonic() + self._every

    def _start_again(self, lane: int, error: Exception) -> None:
        self._losses[lane] += 1
        log.warning("lane %d was lost (%s)", lane, error)
        if self._losses[lane] >= MAX_LOSSES:
            raise LaneLostError(f"lane {lane} was lost {MAX_LOSSES} times, last with: {error}")
        self._lanes.start(lane)


@dataclass(frozen=True, kw_only=True)
class LaneSize:
    """What a lane is made of: workers, and what each of them claims."""

    workers: int
    resources: dict[str, float]


class _Trainers:
    """An actor that runs the lanes' trainers, each in a thread.

    Not the driver itself: a thread that speaks to Ray while Ray shuts down makes it end the process.
    """

    def __init__(self, config: LaneConfig, size: LaneSize, scratch: str) -> None:
        self._config = config
        self._size = size
        self._scratch = scratch

    def fit(self, lane: int) -> None:
        TorchTrainer(
            serve,
            train_loop_config=replace(self._config, lane=lane),
            scaling_config=ScalingConfig(
                num_workers=self._size.workers,
                use_gpu="GPU" in self._size.resources,
                resources_per_worker=self._size.resources,
            ),
            run_config=RunConfig(
                storage_path=self._scratch,
                name=f"lane-{lane}",
                failure_config=ray.train.FailureConfig(max_failures=-1),
            ),
        ).fit()


class RayLanes:
    """Lanes as Ray Train runs. Train restarts workers that die; what ends here with an error was lost as a whole."""

    def __init__(self, config: LaneConfig, size: LaneSize, scratch: str, most: int) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(num_cpus=0, max_concurrency=most)(_Trainers)
        self._trainers = actor.options(scheduling_strategy=here).remote(config, size, scratch)
        self._open: dict[Any, int] = {}

    def start(self, lane: int) -> None:
        self._open[self._trainers.fit.remote(lane)] = lane

    def ended(self) -> Iterable[tuple[int, Exception | None]]:
        done, _ = ray.wait(list(self._open), num_returns=len(self._open), timeout=0) if self._open else ([], [])
        for future in done:
            yield self._open.pop(future), _error(future)

    def close(self, patience: float) -> None:
        """Let lanes come to their ends for so many seconds, then stop them where they are."""
        if self._open and patience:
            ray.wait(list(self._open), num_returns=len(self._open), timeout=patience)
        ray.kill(self._trainers)


def _error(future: Any) -> Exception | None:
    try:
        ray.get(future)
    except Exception as error:
        return error
    return None
