"""The mailboxes between Tune's trials and the lanes. It holds nothing that the journal does not have.

Orders are opaque bytes here, so that this process and the trials' import neither torch nor a model.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

NAME = "coablate-dispatcher"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A run handed to a lane; ``losses`` says how often it has taken a lane down with it."""

    run_id: str
    payload: bytes
    losses: int


class Idle:
    """Nothing came within the patience given; ask again."""


class Dispatcher:
    """An asynchronous actor, one per study.

    Args:
        orders: what to run, by run id.
    """

    def __init__(self, orders: dict[str, bytes]) -> None:
        self._orders = orders
        self._untaken = len(orders)
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._commands: dict[str, asyncio.Queue[str]] = {}
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._held: dict[int, str] = {}
        self._owed: set[str] = set()
        self._losses: Counter[str] = Counter()

    # Tune's side

    async def submit(self, run_id: str) -> None:
        """Queue a run. One that a lane holds already (its trial was restarted) stays where it is."""
        if run_id in self._held.values():
            return
        self._commands[run_id], self._answers[run_id] = asyncio.Queue(), asyncio.Queue()
        await self._waiting.put(run_id)

    async def step(self, run_id: str) -> dict[str, Any]:
        """Ask the run for its next report and wait for it."""
        if run_id not in self._owed:
            self._owed.add(run_id)
            await self._commands[run_id].put("step")
        return await self._answers[run_id].get()

    async def stop(self, run_id: str) -> None:
        """Let the run go; its lane takes the next."""
        await self._commands[run_id].put("stop")

    # the lanes' side

    async def take(self, lane: int, patience: float) -> Order | Idle | None:
        """Return the run this lane held when its workers died, or the next; None when none is left to wait for."""
        if lane in self._held:
            run_id = self._held[lane]
            self._losses[run_id] += 1
            if run_id in self._owed:
                await self._commands[run_id].put("step")
        elif self._untaken == 0:
            return None
        else:
            try:
                run_id = await asyncio.wait_for(self._waiting.get(), patience)
            except TimeoutError:
                return Idle()
            self._held[lane] = run_id
            self._untaken -= 1
        return Order(run_id=run_id, payload=self._orders[run_id], losses=self._losses[run_id])

    async def command(self, run_id: str, patience: float) -> str | Idle:
        """Return ``step`` or ``stop``."""
        try:
            return await asyncio.wait_for(self._commands[run_id].get(), patience)
        except TimeoutError:
            return Idle()

    async def answer(self, run_id: str, result: dict[str, Any]) -> None:
        self._owed.discard(run_id)
        await self._answers[run_id].put(result)

    async def release(self, lane: int, run_id: str) -> None:
        """Say that the lane is through with the run, well or badly; saying it twice does no harm."""
        if self._held.get(lane) == run_id:
            del self._held[lane]
