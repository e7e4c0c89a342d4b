"""Runs on a lane's workers: a lane is one long-lived group of Ray Train workers that takes run after run.

Every function here runs on every worker of the group. Only rank 0 calls the dispatcher; it broadcasts the answers.
"""

import contextlib
import functools
import gc
import logging
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.cloudpickle
import ray.train.torch
import torch
from ray.actor import ActorHandle

from coablate_platform.data.clips import clips_of
from coablate_platform.data.store import Store
from coablate_platform.lanes.dispatcher import Idle, Lease
from coablate_platform.study.source import attach
from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Recorder, RunState, RunUpdate
from coablate_platform.train.failures import MAX_LOSSES, failure_of, is_peer_loss, lane_must_restart
from coablate_platform.train.loop import Task, train
from coablate_platform.train.provenance import computing_code, context

PATIENCE_S = 60.0  # well below the collective timeout, so that waiting workers stay in touch
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LaneConfig:
    """Configuration of a lane's workers.

    Args:
        lane: this lane's number.
        dispatcher: handle of the dispatcher actor.
        recorder: writes runs to the journal.
        checkpoints: folder or URI; each run has its own folder below it.
        store: URI of the prepared data.
        source: folder of the user's own files as modules; empty where there are none.
        threads: torch threads a worker.
        gpu_share: share of a GPU's memory that a worker may use while others use the same GPU.
    """

    lane: int
    dispatcher: ActorHandle
    recorder: Recorder
    checkpoints: str
    store: str
    threads: int
    source: str = ""
    gpu_share: float = 1.0


def serve(config: LaneConfig) -> None:
    """Train runs until the dispatcher has none left."""
    attach(config.source)
    torch.set_num_threads(config.threads)
    computing_code()  # cached now, before anybody edits a file
    device = ray.train.torch.get_device()
    node = ray.get_runtime_context().get_node_id()
    take = functools.partial(config.dispatcher.take.remote, config.lane, node, uuid.uuid4().hex, PATIENCE_S)
    while (lease := _poll(take)) is not None:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0 if lease.alone else config.gpu_share, device)
        with _held(lease, config):
            _run(lease, config, device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def _held(lease: Lease, config: LaneConfig) -> Iterator[None]:
    """Release the lease when the block ends. If a worker of this lane died, keep it: the restarted lane resumes it."""
    try:
        yield
    except Exception as error:
        if not _peer_is_lost(error):
            _release(lease, config)
        raise
    _release(lease, config)


def _peer_is_lost(error: Exception) -> bool:
    """Return whether ``error`` only says that another worker of this lane died."""
    return distributed.world_size() > 1 and is_peer_loss(error)


def _release(lease: Lease, config: LaneConfig) -> None:
    ray.get(config.dispatcher.release.remote(config.lane, lease.id, lease.token))


def _run(lease: Lease, config: LaneConfig, device: torch.device) -> None:
    recorder = config.recorder
    try:
        attempt, state = distributed.broadcast((recorder.attempts(lease.run_id), recorder.state(lease.run_id)))
        if state is RunState.COMPLETED:  # its lane died before it could send the update
            if distributed.rank() == 0:
                Checkpoints(f"{config.checkpoints}/{lease.run_id}").clear()
            _conclude(lease, recorder.test_metrics(lease.run_id), config)
            return
    except Exception as error:
        if not _peer_is_lost(error):
            _send_failure(lease, failure_of(error), config)
        raise
    _attempt(lease, attempt, config, device)


def _attempt(lease: Lease, attempt: int, config: LaneConfig, device: torch.device) -> None:
    """Train a run, and record its failure if it fails."""
    try:
        if lease.losses >= MAX_LOSSES:
            reason = f"its worker died {lease.losses} times while training it"
            _fail(lease, attempt, Failure(state=RunState.LOST, reason=reason), config)
            return
        with contextlib.closing(_events(lease, attempt, config, device)) as events:
            _follow(lease, attempt, events, config)
    except ray.exceptions.RayActorError:
        raise  # the dispatcher died; the run itself did not fail
    except Exception as error:
        if _peer_is_lost(error):
            raise
        log.exception("run %s failed", lease.run_id[:8])
        failure = failure_of(error)
        if not (_found_no_room(error, failure, config) and _set_aside(lease, config)):
            _fail(lease, attempt, failure, config)
        if lane_must_restart(error, distributed.world_size()):
            raise


def _events(
    lease: Lease, attempt: int, config: LaneConfig, device: torch.device
) -> Generator[EpochReport | Conclusion, None, None]:
    task: Task = ray.cloudpickle.loads(lease.payload)
    store = _open(config.store)
    if distributed.rank() == 0:
        assert task.origin is not None  # what is planned says where it comes from
        config.recorder.begin(lease.run_id, attempt, context(task.origin, store.fingerprint, task.seed, device))
    data = clips_of(task.config, store, task.seed)
    checkpoints = Checkpoints(f"{config.checkpoints}/{task.run_id}")
    yield from train(
        task, data, checkpoints, lambda report: config.recorder.epoch(task.run_id, attempt, report), device
    )


@functools.lru_cache(maxsize=1)
def _open(uri: str) -> Store:
    return Store.open(uri)  # read-only, and the same pages for every run of this lane


def _follow(lease: Lease, attempt: int, events: Iterator[EpochReport | Conclusion], config: LaneConfig) -> None:
    """Answer each ``step`` with the run's next event, until it has concluded or is told to stop."""
    while _command(lease, config) == "step":
        event = next(events)
        if isinstance(event, Conclusion):
            if distributed.rank() == 0:
                config.recorder.conclude(lease.run_id, attempt, event)
            next(events, None)  # past the recorded conclusion: the run tidies its checkpoints
            _conclude(lease, event.metrics, config)
            return
        _answer(lease, RunUpdate.of_epoch(event), config)


def _found_no_room(error: Exception, failure: Failure, config: LaneConfig) -> bool:
    """Return whether a run found no memory beside others. A GPU of its own it shares with nobody.

    A lane of several workers stops as a whole: what one of them met is written down at once.
    """
    owns_device = isinstance(error, torch.OutOfMemoryError) and torch.cuda.is_available() and config.gpu_share >= 1
    return failure.state is RunState.OUT_OF_MEMORY and distributed.world_size() == 1 and not owns_device


def _set_aside(lease: Lease, config: LaneConfig) -> bool:
    """Return whether the run will be tried again with its node to itself."""
    return bool(ray.get(config.dispatcher.set_aside.remote(config.lane, lease.id, lease.token)))


def _fail(lease: Lease, attempt: int, failure: Failure, config: LaneConfig) -> None:
    """Write a failure down and let Tune know. Any rank may meet it; the first to write is the one that knows why."""
    first = True
    try:
        first = config.recorder.attempts(lease.run_id) == attempt or not config.recorder.state(lease.run_id).ended
        if first:
            config.recorder.fail(lease.run_id, attempt, failure)
    finally:  # also where it could not be written, on a full disk
        if first:
            _send_failure(lease, failure, config)
    if distributed.world_size() == 1:
        _wait_for_stop(lease, config)


def _send_failure(lease: Lease, failure: Failure, config: LaneConfig) -> None:
    update = RunUpdate(state=failure.state, reason=failure.reason)
    ray.get(config.dispatcher.answer.remote(lease.id, lease.token, update))


def _conclude(lease: Lease, metrics: Mapping[str, float], config: LaneConfig) -> None:
    """Let Tune know that the run is completed, and wait until it has let it go."""
    tested = {f"test/{name}": value for name, value in metrics.items()}
    _answer(lease, RunUpdate(state=RunState.COMPLETED, metrics=tested), config)
    _wait_for_stop(lease, config)


def _answer(lease: Lease, update: RunUpdate, config: LaneConfig) -> None:
    _send(lambda: config.dispatcher.answer.remote(lease.id, lease.token, update))


def _wait_for_stop(lease: Lease, config: LaneConfig) -> None:
    """Wait until Tune has let the run go."""
    while _command(lease, config) != "stop":
        pass


def _command(lease: Lease, config: LaneConfig) -> str:
    """Return ``step`` or ``stop``, as soon as one is said."""
    said: str = _poll(lambda: config.dispatcher.command.remote(lease.id, lease.token, PATIENCE_S))
    return said


def _poll(ask: Callable[[], Any]) -> Any:
    """Ask the dispatcher on the leader, share what it says, and ask again while there is nothing to say."""
    while isinstance(said := distributed.broadcast(ray.get(ask()) if distributed.rank() == 0 else None), Idle):
        pass
    return said


def _send(say: Callable[[], Any]) -> None:
    if distributed.rank() == 0:
        ray.get(say())
