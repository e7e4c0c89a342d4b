"""Trials and lanes as the mailboxes meet them, without Ray."""

import asyncio
import itertools
from typing import Any

from coablate_platform.lanes.dispatcher import Dispatcher, Idle, Order

SOON = 0.02


class Workers:
    """A lane's workers as the dispatcher meets them. Others with the same number are their successors."""

    _count = itertools.count()

    def __init__(self, dispatcher: Dispatcher, lane: int = 0, node: str = "n", patience: float = SOON) -> None:
        self._dispatcher, self._lane, self._node, self._patience = dispatcher, lane, node, patience
        self._incarnation = str(next(self._count))

    async def take(self) -> Order | Idle | None:
        taken = await self._dispatcher.take(self._lane, self._node, self._incarnation, self._patience)
        if isinstance(taken, Order):
            self._order = taken
        return taken

    async def command(self) -> str | Idle:
        return await self._dispatcher.command(self._order.claim, self._order.turn, self._patience)

    async def answer(self, result: dict[str, Any]) -> None:
        await self._dispatcher.answer(self._order.claim, self._order.turn, result)

    async def set_aside(self) -> bool:
        return await self._dispatcher.set_aside(self._lane, self._order.claim, self._order.turn)

    async def release(self) -> None:
        await self._dispatcher.release(self._lane, self._order.claim, self._order.turn)


async def made(*run_ids: str) -> Dispatcher:
    dispatcher = Dispatcher()
    for run_id in run_ids:
        await dispatcher.offer(run_id, run_id, run_id.encode())
    await dispatcher.close()
    return dispatcher


async def begun(dispatcher: Dispatcher, lane: int = 0, node: str = "n") -> Workers:
    """Let a lane take a run."""
    workers = Workers(dispatcher, lane, node)
    assert isinstance(await workers.take(), Order)
    return workers


def order(run_id: str, turn: int = 1, losses: int = 0, alone: bool = False) -> Order:
    return Order(claim=run_id, turn=turn, run_id=run_id, payload=run_id.encode(), losses=losses, alone=alone)


def play(scene) -> None:
    """Run a scene with a limit: what would wait for ever fails."""
    asyncio.run(asyncio.wait_for(scene, 5))


async def under_way(call) -> asyncio.Task:
    """Make a call that waits, and let it arrive."""
    task = asyncio.create_task(call)
    await asyncio.sleep(SOON / 2)
    return task
