"""What a lane says and writes of a run, with the real mailboxes and journal, without Ray."""

import asyncio
import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch

from coablate_platform.journal.journal import Journal
from coablate_platform.lanes import lane
from coablate_platform.lanes.dispatcher import Dispatcher, Lease
from coablate_platform.study.errors import NodeLeavesError
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Predictions, RunState, RunUpdate
from coablate_platform.train.failures import MAX_LOSSES, MAX_NODE_LOSSES, DivergedError

RUN = "a" * 64
CPU = torch.device("cpu")
BUG = RuntimeError("broken on purpose")
PEER_LOST = RuntimeError("Connection closed by peer [127.0.0.1]:2817")


class Handle:
    """A dispatcher as a lane sees it, in this process: every call is carried out at once."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: asyncio.run(getattr(self.dispatcher, name)(*arguments)))


@pytest.fixture
def handle(monkeypatch) -> Handle:
    monkeypatch.setattr(lane.ray, "get", lambda value: value)
    monkeypatch.setattr(lane.ray, "nodes", lambda: [{"Alive": True}])
    monkeypatch.setattr(lane.ray.train, "get_preemption_info", lambda: None)
    return Handle()


def config_of(handle: Handle, journal: Journal) -> lane.LaneConfig:
    checkpoints = f"{journal.folder.uri}/checkpoints"
    return lane.LaneConfig(
        lane=0, dispatcher=handle, recorder=journal, checkpoints=checkpoints, store="", proof=None, threads=1
    )


def leased(handle: Handle, lease_id: str = "first", losses: int = 0, stopped: bool = True) -> Lease:
    """A run that Tune has asked one step of, and has told to stop."""

    async def asked() -> Lease:
        await handle.dispatcher.offer(lease_id, RUN, b"")
        step = asyncio.create_task(handle.dispatcher.step(lease_id))
        await asyncio.sleep(0)  # it arrives
        taken = await handle.dispatcher.take(0, ["node"], lease_id, 1.0)
        if stopped:
            await handle.dispatcher.stop(lease_id)
        step.cancel()
        return taken

    return replace(asyncio.run(asked()), losses=losses)


def heard(handle: Handle, lease_id: str = "first") -> list[RunUpdate]:
    """What Tune is told of a run."""
    answers = handle.dispatcher._answers[lease_id]
    return [answers.get_nowait() for _ in range(answers.qsize())]


def run(handle: Handle, journal: Journal, losses: int = 0, lease_id: str = "first") -> list[RunUpdate]:
    """Let the lane have a run that fails; return what Tune is told."""
    lease = leased(handle, lease_id, losses)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(OSError):  # it ends the lane
        patch.setattr(lane, "_events", broken)
        lane._run(lease, config_of(handle, journal), CPU)
    handle.release.remote(0, lease_id, lease.token)
    return heard(handle, lease_id)


def broken(
    lease: Lease,
    attempt: int,
    config: lane.LaneConfig,
    device: torch.device,
    error: Exception = BUG,
) -> Iterator[EpochReport]:
    config.recorder.begin(lease.run_id, attempt, {})
    raise error
    yield


def of_several(monkeypatch, workers: int) -> None:
    """Let this process be the leader of so many workers."""
    group = SimpleNamespace(world_size=lambda: workers, rank=lambda: 0, broadcast=lambda value: value)
    monkeypatch.setattr(lane, "distributed", group)


def test_a_run_that_failed_before_it_began_can_fail_again_and_be_heard(handle, tmp_path):
    journal = Journal(str(tmp_path))
    [lost] = run(handle, journal, losses=MAX_LOSSES)
    assert lost.state == journal.state(RUN) == RunState.LOST
    [crashed] = run(handle, journal, lease_id="second")
    assert crashed.state == journal.state(RUN) == RunState.CRASHED
    assert "broken on purpose" in crashed.reason
    assert journal.attempts(RUN) == 2


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"losses": MAX_LOSSES}, "its worker died 3 times while training it"),
        ({"node_losses": MAX_NODE_LOSSES}, "the node of its worker was lost 20 times while training it"),
        ({"losses": MAX_LOSSES - 1, "node_losses": MAX_NODE_LOSSES - 1}, ""),
    ],
)
def test_a_run_is_given_up_after_three_workers_or_twenty_nodes(counts, reason):
    lease = Lease(id="a", token=1, run_id=RUN, payload=b"", **({"losses": 0} | counts))
    assert lane._lost_too_often(lease) == reason


@pytest.mark.parametrize("full", ["attempts", "begin", "fail"])
def test_a_failure_that_cannot_be_written_is_heard(handle, tmp_path, full):
    journal = Journal(str(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    setattr(journal, full, refuse)
    [said] = run(handle, journal)
    assert said.state is RunState.CRASHED
    assert ("broken on purpose" if full == "fail" else "No space left") in said.reason


def test_a_completed_run_whose_lane_died_before_it_said_so_is_not_trained_again(handle, tmp_path):
    journal = Journal(str(tmp_path))
    journal.begin(RUN, 0, {})
    predictions = Predictions(names=["clip"], labels=np.array([0]), scores=np.zeros((1, 2), np.float32))
    journal.conclude(RUN, 0, Conclusion(epoch=1, metrics={"accuracy": 0.5}, predictions=predictions))
    Checkpoints(f"{tmp_path}/checkpoints/{RUN}").save({"epoch": 1})
    assert run(handle, journal) == [RunUpdate(state=RunState.COMPLETED, metrics={"test/accuracy": 0.5})]
    assert journal.attempts(RUN) == 1
    assert list((tmp_path / "checkpoints" / RUN).iterdir()) == []


@pytest.mark.parametrize(
    ("error", "workers", "keeps"),
    [
        (None, 2, False),
        (BUG, 2, False),
        (PEER_LOST, 2, True),  # the restarted lane resumes it
        (PEER_LOST, 1, False),  # a lane of one worker has no peer: a server closed a connection
    ],
)
def test_a_lane_keeps_a_run_only_where_a_worker_of_it_died(handle, tmp_path, monkeypatch, error, workers, keeps):
    of_several(monkeypatch, workers)
    held = lane._releasing(leased(handle), config_of(handle, Journal(str(tmp_path))))
    with pytest.raises(RuntimeError) if error else contextlib.nullcontext(), held:
        if error:
            raise error
    found = handle.take.remote(0, "node", "restarted", 0.0)
    assert (isinstance(found, Lease) and found.run_id == RUN) == keeps


@pytest.mark.parametrize(
    ("error", "workers", "state", "restarts"),
    [
        (BUG, 1, RunState.CRASHED, False),
        (torch.AcceleratorError("device-side assert"), 1, RunState.CRASHED, True),  # no run can use this GPU again
        (BUG, 2, RunState.CRASHED, True),  # the other worker waits in a collective
        (DivergedError("the loss became nan"), 2, RunState.DIVERGED, True),
        (PEER_LOST, 1, RunState.CRASHED, False),
        (PEER_LOST, 2, RunState.RUNNING, True),  # says nothing about the run
        (ray.exceptions.RayActorError(), 1, RunState.RUNNING, True),  # the dispatcher died, nor does that
    ],
)
def test_what_becomes_of_a_run_that_fails_and_of_its_lane(
    handle, tmp_path, monkeypatch, error, workers, state, restarts
):
    of_several(monkeypatch, workers)
    monkeypatch.setattr(lane, "_events", functools.partial(broken, error=error))
    journal = Journal(str(tmp_path))
    with pytest.raises(type(error)) if restarts else contextlib.nullcontext():
        lane._run(leased(handle), config_of(handle, journal), CPU)
    assert journal.state(RUN) is state
    assert [update.state for update in heard(handle)] == ([state] if state.ended else [])


def test_a_lane_whose_node_leaves_hands_its_run_back_between_two_steps(handle, tmp_path, monkeypatch):
    def one_epoch(*_: object) -> Iterator[EpochReport]:
        leaving = SimpleNamespace(preempted_node_ids=["ab12"])
        monkeypatch.setattr(lane.ray.train, "get_preemption_info", lambda: leaving)
        yield EpochReport(epoch=1, metrics={}, seconds=1.0)
        raise AssertionError("it went on")

    lease, config = leased(handle, stopped=False), config_of(handle, Journal(str(tmp_path)))
    monkeypatch.setattr(lane, "_events", one_epoch)
    with pytest.raises(NodeLeavesError, match=r"takes node\(s\) ab12 away"), lane._releasing(lease, config):
        lane._run(lease, config, CPU)
    assert [update.epoch for update in heard(handle)] == [1]
    heir = handle.take.remote(1, ["other"], "heir", 1.0)
    assert (heir.id, heir.losses, heir.node_losses) == ("first", 0, 0)
    with pytest.raises(NodeLeavesError):  # nor does it take another run
        lane._poll(lambda: pytest.fail("it asked for a run"))
