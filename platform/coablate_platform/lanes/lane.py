"""The training function of a lane: a long-lived group of Ray Train workers that trains one run after the other.

Every function here runs on every worker of the group. Commands are fetched by rank 0, which broadcasts them.
"""

import contextlib
import functools
import gc
import logging
import platform
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
import ray.train.torch
import torch
from ray.actor import ActorHandle

from coablate_platform.data.clips import clips_of
from coablate_platform.files import local_path, state_folder
from coablate_platform.lanes.dispatcher import Idle, Lease
from coablate_platform.lanes.proof import Proof, findings, open_store
from coablate_platform.lanes.watchdog import Watchdog, take_hangs
from coablate_platform.study.errors import NodeLeavesError
from coablate_platform.train import distributed
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Failure, Recorder, RunState, RunUpdate
from coablate_platform.train.failures import MAX_LOSSES, MAX_NODE_LOSSES, failure_of, is_peer_loss, lane_must_restart
from coablate_platform.train.loop import train
from coablate_platform.train.provenance import check_unchanged, context, platform_code
from coablate_platform.train.task import Task

POLL_TIMEOUT_S = 60.0  # well below the timeout of collective operations, in which the other workers wait meanwhile
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LaneConfig:
    """Configuration of a lane's workers.

    Args:
        lane: this lane's number.
        dispatcher: handle of the dispatcher actor.
        recorder: writes runs to the journal.
        checkpoints: path or URI of the folder that holds a folder for each run; every node sees it.
        store: URI of the prepared data.
        proof: what a worker must find on its node before it takes a run.
        threads: number of torch threads of a worker, and of threads that load its clips (at least two).
        gpu_share: share of a GPU's memory that a worker may use while other workers use the same GPU.
        hang_after: seconds without a step after which a worker counts as hanging; None: see ``lanes/watchdog.py``.
    """

    lane: int
    dispatcher: ActorHandle
    recorder: Recorder
    checkpoints: str
    store: str
    proof: Proof
    threads: int
    gpu_share: float = 1.0
    hang_after: float | None = None

    def folder(self, run_id: str) -> str:
        """Return the path or URI of the folder of a run's checkpoints."""
        return f"{self.checkpoints}/{run_id}"

    def stacks(self, run_id: str) -> Path:
        """Return the local folder for the stacks of a run's workers that hang."""
        return local_path(self.folder(run_id)) or state_folder(self.checkpoints) / run_id


def serve(config: LaneConfig) -> None:
    """Train runs until the dispatcher has none left. A lane with a node that cannot train takes none."""
    torch.set_num_threads(config.threads)
    platform_code()  # cached now, before a file changes
    if unfit := _unfit_nodes(config):
        _send(lambda: config.dispatcher.retire.remote(config.lane, unfit))
        return
    device = ray.train.torch.get_device()
    nodes = distributed.all_gather(ray.get_runtime_context().get_node_id())
    take = functools.partial(config.dispatcher.take.remote, config.lane, nodes, uuid.uuid4().hex, POLL_TIMEOUT_S)
    while (lease := _poll(take)) is not None:
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0 if lease.alone else config.gpu_share, device)
        with _releasing(lease, config):
            _run(lease, config, device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def _unfit_nodes(config: LaneConfig) -> dict[str, str]:
    """Return id of a node -> what is wrong there, on every worker; empty if all workers of the lane can train."""
    wrong = "; ".join(findings(config.proof, lambda: float(ray.get(config.dispatcher.now.remote()))))
    node = ray.get_runtime_context().get_node_id()
    every = distributed.all_gather((node, f"host {platform.node()}: {wrong}" if wrong else ""))
    return {node: line for node, line in every if line}


@contextlib.contextmanager
def _releasing(lease: Lease, config: LaneConfig) -> Iterator[None]:
    """Release the lease when the block ends. If another worker of this lane died, keep it for the restarted lane.

    If the node of a worker leaves the cluster, let another lane take the run.
    """
    try:
        yield
    except NodeLeavesError:
        _send(lambda: config.dispatcher.hand_back.remote(config.lane, lease.id, lease.token))
        raise
    except Exception as error:
        if not _peer_is_lost(error):
            _release(lease, config)
        raise
    _release(lease, config)


def _peer_is_lost(error: Exception) -> bool:
    """Return whether ``error`` only reports that another worker of this lane died."""
    return distributed.world_size() > 1 and is_peer_loss(error)


def _release(lease: Lease, config: LaneConfig) -> None:
    ray.get(config.dispatcher.release.remote(config.lane, lease.id, lease.token))


def _run(lease: Lease, config: LaneConfig, device: torch.device) -> None:
    """Train the run of a lease, unless the journal has it as completed already."""
    recorder = config.recorder
    try:
        hang = _record_hangs(lease, config) if distributed.rank() == 0 else ""
        attempt, state, hang = distributed.broadcast(
            (recorder.attempts(lease.run_id), recorder.state(lease.run_id), hang)
        )
        if state is RunState.COMPLETED:  # its lane died after recording it and before sending the update
            if distributed.rank() == 0:
                Checkpoints(config.folder(lease.run_id)).clear()
            _conclude(lease, recorder.test_metrics(lease.run_id), config)
            return
    except Exception as error:
        if not _peer_is_lost(error):
            _send_failure(lease, _with_host(failure_of(error)), config)
        raise
    _attempt(lease, attempt, hang, config, device)


def _record_hangs(lease: Lease, config: LaneConfig) -> str:
    """Record the attempts that ended because a worker hung, with its stack, and return the last one's reason."""
    hangs = take_hangs(config.stacks(lease.run_id))
    for attempt, failure in hangs.items():
        config.recorder.fail(lease.run_id, attempt, failure)
    return hangs[max(hangs)].reason if hangs else ""


def _attempt(lease: Lease, attempt: int, hang: str, config: LaneConfig, device: torch.device) -> None:
    """Make one attempt at a run, and record its failure if it fails.

    Args:
        lease: the run.
        attempt: number of the attempt.
        hang: how the attempt before it ended if its worker hung; else empty.
        config: the lane's configuration.
        device: where to train.
    """
    try:
        if reason := _lost_too_often(lease):
            _fail(lease, attempt, Failure(state=RunState.LOST, reason=reason + (hang and f"; at last {hang}")), config)
            return
        with contextlib.closing(_events(lease, attempt, config, device)) as events:
            _step(lease, attempt, events, config)
    except (ray.exceptions.RayActorError, NodeLeavesError):
        raise  # the dispatcher died, or the node is taken away; the run itself did not fail
    except Exception as error:
        if _peer_is_lost(error):
            raise
        failure = _with_host(failure_of(error))
        log.error("run %s failed: %s", lease.run_id[:8], failure.traceback or failure.reason)
        if not (_out_of_shared_memory(error, failure, config) and _set_aside(lease, config)):
            _fail(lease, attempt, failure, config)
        if lane_must_restart(error, distributed.world_size()):
            raise


def _lost_too_often(lease: Lease) -> str:
    """Return why a run is not tried again; empty where it is."""
    if lease.losses >= MAX_LOSSES:
        return f"its worker died {lease.losses} times while training it"
    if lease.node_losses >= MAX_NODE_LOSSES:
        return f"the node of its worker was lost {lease.node_losses} times while training it"
    return ""


def _events(
    lease: Lease, attempt: int, config: LaneConfig, device: torch.device
) -> Generator[EpochReport | Conclusion, None, None]:
    """Record the beginning of an attempt, then train and yield the run's events. A worker that hangs is ended."""
    task: Task = ray.cloudpickle.loads(lease.payload)
    with Watchdog(config.stacks(task.run_id), attempt, distributed.rank(), config.hang_after) as watchdog:
        yield from watchdog.events(_train(task, attempt, watchdog, config, device))


def _train(
    task: Task, attempt: int, watchdog: Watchdog, config: LaneConfig, device: torch.device
) -> Iterator[EpochReport | Conclusion]:
    assert task.origin is not None  # planning a task sets it
    check_unchanged(task.origin, task.config)
    store = open_store(config.store)
    if distributed.rank() == 0:
        config.recorder.begin(
            task.run_id, attempt, context(task.origin, task.config.model, store.fingerprint, task.seed, device)
        )
    data = watchdog.data(clips_of(task.config, store, task.seed, max(config.threads, 2)))
    checkpoints = Checkpoints(config.folder(task.run_id))
    yield from train(
        task, data, checkpoints, lambda report: config.recorder.epoch(task.run_id, attempt, report), device
    )


def _step(lease: Lease, attempt: int, events: Iterator[EpochReport | Conclusion], config: LaneConfig) -> None:
    """Train up to the next event at each ``step`` command and send it, until the run has concluded or must stop."""
    while _command(lease, config) == "step":
        event = next(events)
        if isinstance(event, Conclusion):
            if distributed.rank() == 0:
                config.recorder.conclude(lease.run_id, attempt, event)
            next(events, None)  # the conclusion is recorded; the run now removes its checkpoints
            _conclude(lease, event.metrics, config)
            return
        _answer(lease, RunUpdate.of_epoch(event), config)


def _with_host(failure: Failure) -> Failure:
    """Name this host in the reason of a failure, where the cluster has others."""
    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return failure
    return replace(failure, reason=f"{failure.reason} (host {platform.node()})")


def _out_of_shared_memory(error: Exception, failure: Failure, config: LaneConfig) -> bool:
    """Return whether a run ran out of memory that it shares with other runs, so that it may fit alone.

    A run with a whole GPU shares no GPU memory. A run on several workers is not tried again: its lane restarts after
    the failure of one worker, so the failure is recorded at once.
    """
    owns_device = isinstance(error, torch.OutOfMemoryError) and torch.cuda.is_available() and config.gpu_share >= 1
    return failure.state is RunState.OUT_OF_MEMORY and distributed.world_size() == 1 and not owns_device


def _set_aside(lease: Lease, config: LaneConfig) -> bool:
    """Let the dispatcher offer the run again, alone on its node; return False if it does not."""
    return bool(ray.get(config.dispatcher.set_aside.remote(config.lane, lease.id, lease.token)))


def _fail(lease: Lease, attempt: int, failure: Failure, config: LaneConfig) -> None:
    """Record a failure and send it to Tune.

    Several ranks may fail. Only the first one records its failure, since the failures of others follow from it.
    """
    first = True
    try:
        first = config.recorder.attempts(lease.run_id) == attempt or not config.recorder.state(lease.run_id).ended
        if first:
            config.recorder.fail(lease.run_id, attempt, failure)
    finally:  # also if recording failed, for example on a full disk
        if first:
            _send_failure(lease, failure, config)
    if distributed.world_size() == 1:
        _wait_for_stop(lease, config)


def _send_failure(lease: Lease, failure: Failure, config: LaneConfig) -> None:
    update = RunUpdate(state=failure.state, reason=failure.reason)
    ray.get(config.dispatcher.answer.remote(lease.id, lease.token, update))


def _conclude(lease: Lease, metrics: Mapping[str, float], config: LaneConfig) -> None:
    """Send Tune the test metrics of a completed run, and wait for ``stop``."""
    tested = {f"test/{name}": value for name, value in metrics.items()}
    _answer(lease, RunUpdate(state=RunState.COMPLETED, metrics=tested), config)
    _wait_for_stop(lease, config)


def _answer(lease: Lease, update: RunUpdate, config: LaneConfig) -> None:
    _send(lambda: config.dispatcher.answer.remote(lease.id, lease.token, update))


def _wait_for_stop(lease: Lease, config: LaneConfig) -> None:
    """Wait until Tune has ended its proxy of the run."""
    while _command(lease, config) != "stop":
        pass


def _command(lease: Lease, config: LaneConfig) -> str:
    """Wait for the next command of the run and return it: ``step`` or ``stop``."""
    command: str = _poll(lambda: config.dispatcher.command.remote(lease.id, lease.token, POLL_TIMEOUT_S))
    return command


def _poll(call: Callable[[], Any]) -> Any:
    """Call the dispatcher on rank 0 until its answer is not idle, and return the answer on every rank.

    Raises:
        NodeLeavesError: the cluster has said that the node of a worker will be taken away.
    """
    while True:
        if leaving := ray.train.get_preemption_info():  # every rank must ask: it is a collective operation
            raise NodeLeavesError(f"the cluster takes node(s) {', '.join(leaving.preempted_node_ids)} away")
        answer = distributed.broadcast(ray.get(call()) if distributed.rank() == 0 else None)
        if not isinstance(answer, Idle):
            return answer


def _send(call: Callable[[], Any]) -> None:
    """Call the dispatcher on rank 0."""
    if distributed.rank() == 0:
        ray.get(call())
