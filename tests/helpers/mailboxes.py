"""Trials and lanes as the mailboxes meet them, without Ray."""

import asyncio
import itertools
from collections.abc import Callable

from coablate_platform.lanes.dispatcher import Dispatcher, Idle, Lease
from coablate_platform.train.events import RunState, RunUpdate

SOON = 0.02


class Workers:
    """A lane's workers as the dispatcher meets them. Others with the same number are their successors."""

    _count = itertools.count()

    def __init__(self, dispatcher: Dispatcher, lane: int = 0, node: str = "n", patience: float = SOON) -> None:
        self._dispatcher, self._lane, self._node, self._patience = dispatcher, lane, node, patience
        self._generation = str(next(self._count))

    async def take(self) -> Lease | Idle | None:
        taken = await self._dispatcher.take(self._lane, [self._node], self._generation, self._patience)
        if isinstance(taken, Lease):
            self._lease = taken
        return taken

    async def command(self) -> str | Idle:
        return await self._dispatcher.command(self._lease.id, self._lease.token, self._patience)

    async def answer(self, update: RunUpdate) -> None:
        await self._dispatcher.answer(self._lease.id, self._lease.token, update)

    async def set_aside(self) -> bool:
        return await self._dispatcher.set_aside(self._lane, self._lease.id, self._lease.token)

    async def release(self) -> None:
        await self._dispatcher.release(self._lane, self._lease.id, self._lease.token)


async def made(*run_ids: str, lives: Callable[[str], bool] = lambda node: True) -> Dispatcher:
    dispatcher = Dispatcher(lives)
    for run_id in run_ids:
        await dispatcher.offer(run_id, run_id, run_id.encode())
    await dispatcher.close()
    return dispatcher


async def begun(dispatcher: Dispatcher, lane: int = 0, node: str = "n") -> Workers:
    """Let a lane take a run."""
    workers = Workers(dispatcher, lane, node)
    assert isinstance(await workers.take(), Lease)
    return workers


def lease(run_id: str, token: int = 1, losses: int = 0, node_losses: int = 0, alone: bool = False) -> Lease:
    counts = {"token": token, "losses": losses, "node_losses": node_losses}
    return Lease(id=run_id, run_id=run_id, payload=run_id.encode(), alone=alone, **counts)


def play(scene) -> None:
    """Run a scene with a limit: what would wait for ever fails."""
    asyncio.run(asyncio.wait_for(scene, 5))


async def under_way(call) -> asyncio.Task:
    """Make a call that waits, and let it arrive."""
    task = asyncio.create_task(call)
    await asyncio.sleep(SOON / 2)
    return task


def epoch(number: int) -> RunUpdate:
    return RunUpdate(state=RunState.RUNNING, epoch=number)


def ended(state: RunState = RunState.COMPLETED) -> RunUpdate:
    return RunUpdate(state=state)
