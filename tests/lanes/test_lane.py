"""What a lane says and writes of a run, with the real mailboxes and journal, without Ray."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from coablate_platform.journal.journal import Journal
from coablate_platform.lanes import lane
from coablate_platform.lanes.dispatcher import Dispatcher, Lease
from coablate_platform.train.checkpoint import Checkpoints
from coablate_platform.train.events import Conclusion, EpochReport, Predictions, RunState, RunUpdate
from coablate_platform.train.failures import MAX_LOSSES

RUN = "a" * 64
CPU = torch.device("cpu")


class Handle:
    """A dispatcher as a lane sees it, in this process: every call is carried out at once."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher()

    def __getattr__(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: asyncio.run(getattr(self.dispatcher, name)(*arguments)))


@pytest.fixture
def handle(monkeypatch) -> Handle:
    monkeypatch.setattr(lane.ray, "get", lambda value: value)
    return Handle()


def config_of(handle: Handle, journal: Journal) -> lane.LaneConfig:
    checkpoints = f"{journal.folder.uri}/checkpoints"
    return lane.LaneConfig(lane=0, dispatcher=handle, recorder=journal, checkpoints=checkpoints, store="", threads=1)


def run(handle: Handle, journal: Journal, losses: int = 0, lease_id: str = "first") -> list[RunUpdate]:
    """Let the lane have a run, for which Tune asks one step and whose end it hears; return what it hears."""

    async def asked() -> Lease:
        await handle.dispatcher.offer(lease_id, RUN, b"")
        step = asyncio.create_task(handle.dispatcher.step(lease_id))
        await asyncio.sleep(0)  # it arrives
        taken = await handle.dispatcher.take(0, "node", lease_id, 1.0)
        await handle.dispatcher.stop(lease_id)
        step.cancel()
        return taken

    lease = replace(asyncio.run(asked()), losses=losses)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(OSError):  # it ends the lane
        patch.setattr(lane, "_events", broken)
        lane._run(lease, config_of(handle, journal), CPU)
    handle.release.remote(0, lease_id, lease.token)
    answers = handle.dispatcher._answers[lease_id]
    return [answers.get_nowait() for _ in range(answers.qsize())]


def broken(lease: Lease, attempt: int, config: lane.LaneConfig, device: torch.device) -> Iterator[EpochReport]:
    config.recorder.begin(lease.run_id, attempt, {})
    raise RuntimeError("broken on purpose")
    yield


def test_a_run_that_failed_before_it_began_can_fail_again_and_be_heard(handle, tmp_path):
    journal = Journal(str(tmp_path))
    [lost] = run(handle, journal, losses=MAX_LOSSES)
    assert lost.state == journal.state(RUN) == RunState.LOST
    [crashed] = run(handle, journal, lease_id="second")
    assert crashed.state == journal.state(RUN) == RunState.CRASHED
    assert "broken on purpose" in crashed.reason
    assert journal.attempts(RUN) == 2


@pytest.mark.parametrize("full", ["attempts", "begin", "fail"])
def test_a_failure_that_cannot_be_written_is_heard(handle, tmp_path, full):
    journal = Journal(str(tmp_path))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    setattr(journal, full, refuse)
    [heard] = run(handle, journal)
    assert heard.state is RunState.CRASHED
    assert ("broken on purpose" if full == "fail" else "No space left") in heard.reason


def test_a_completed_run_whose_lane_died_before_it_said_so_is_not_trained_again(handle, tmp_path):
    journal = Journal(str(tmp_path))
    journal.begin(RUN, 0, {})
    predictions = Predictions(names=["clip"], labels=np.array([0]), scores=np.zeros((1, 2), np.float32))
    journal.conclude(RUN, 0, Conclusion(epoch=1, metrics={"accuracy": 0.5}, predictions=predictions))
    Checkpoints(f"{tmp_path}/checkpoints/{RUN}").save({"epoch": 1})
    assert run(handle, journal) == [RunUpdate(state=RunState.COMPLETED, metrics={"test/accuracy": 0.5})]
    assert journal.attempts(RUN) == 1
    assert list((tmp_path / "checkpoints" / RUN).iterdir()) == []
