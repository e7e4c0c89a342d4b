"""The mailboxes between Tune's trials and the lanes. It holds nothing that the journal does not have.

Orders are opaque bytes here, so that this process and the trials' import neither torch nor a model. A process that dies
may leave a call open here, and one that is about to be ended may go on for a while beside its successor: mailboxes are
renewed when the successor comes, so that no word goes to its predecessor, and none of the predecessor's counts.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from coablate_platform.train.events import RunState

NAME = "coablate-dispatcher"
REST_S = 0.5  # before a lane that has to wait for its node asks again
BACK_S = 60.0  # within which a lane whose workers died is back, unless its node is gone; Ray takes some 5 s


@dataclass(frozen=True, kw_only=True)
class Order:
    """A run handed to a lane.

    Args:
        claim: the run, as given out this time: who had it before and was told to let it go hears nothing of this.
        turn: how often it was handed to a lane under this claim, this time included.
        run_id: the run.
        payload: what it is, for the lane alone to read.
        losses: how often it has taken a lane down with it.
        alone: no other lane of the node is at work meanwhile.
    """

    claim: str
    turn: int
    run_id: str
    payload: bytes
    losses: int
    alone: bool = False


class Idle:
    """Nothing came within the patience given; ask again."""


class Dispatcher:
    """An asynchronous actor, one per study."""

    def __init__(self) -> None:
        self._orders: dict[str, tuple[str, bytes]] = {}  # claim -> run, and what it is
        self._turns: Counter[str] = Counter()
        self._untaken: set[str] = set()
        self._closed = False
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._commands: dict[str, asyncio.Queue[str]] = {}
        self._answers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._held: dict[int, str] = {}
        self._nodes: dict[int, str] = {}  # lane -> where it last asked from
        self._aside: dict[str, str] = {}  # claim -> the node that it will have alone
        self._alone: set[str] = set()  # claims that have, or had, their node alone
        self._owed: set[str] = set()
        self._stopped: set[str] = set()
        self._ended: dict[str, dict[str, Any]] = {}
        self._incarnations: dict[int, str] = {}  # lane -> its workers, those who came last
        self._gone: set[str] = set()  # workers who died, as far as is known here; some go on for a moment
        self._losses: Counter[str] = Counter()

    async def live(self) -> None:
        """Never return: who waits for it learns when this process has died."""
        await asyncio.Event().wait()

    # the driver's side

    async def offer(self, claim: str, run_id: str, payload: bytes) -> None:
        """Queue a run. Tune will ask for its steps."""
        self._orders[claim] = (run_id, payload)
        self._commands[claim], self._answers[claim] = asyncio.Queue(), asyncio.Queue()
        await self._enqueue(claim)

    async def close(self) -> None:
        """Say that no more runs will be offered: lanes that find none may end."""
        self._closed = True

    async def stop(self, claim: str) -> None:
        """Let the run go; its lane takes the next."""
        self._stopped.add(claim)
        await self._commands[claim].put("stop")

    # the side of Tune's trials

    async def step(self, claim: str) -> dict[str, Any]:
        """Ask the run for its next report and wait for it; asked again after its last, it gives the last again.

        Who asks last is answered: a trial asks anew only where the process that asked before has died.
        """
        former, answers = self._answers[claim], asyncio.Queue[dict[str, Any]]()
        while not former.empty():
            answers.put_nowait(former.get_nowait())
        self._answers[claim] = answers
        if claim in self._ended and answers.empty():
            return self._ended[claim]
        if claim not in self._owed:
            self._owed.add(claim)
            await self._commands[claim].put("step")
        return await answers.get()

    # the lanes' side

    async def take(self, lane: int, node: str, incarnation: str, patience: float) -> Order | Idle | None:
        """Return the run this lane held when its workers died, or the next; None when none will come any more.

        A run that was set aside on the lane's node comes first, once the node's other lanes are through with theirs.
        Workers whose successors have come get none any more.

        Args:
            lane: number of the lane.
            node: where it is.
            incarnation: what tells its workers from those that it had before they died.
            patience: seconds after which it is told to ask again.
        """
        if not self._is_present(lane, incarnation):
            return None
        self._nodes[lane] = node
        self._bring_home(node)
        if lane in self._held:
            claim = self._held.pop(lane)
            self._losses[claim] += 1
            if claim in self._alone and self._at_work(node):  # it came back on a node where others work
                self._aside[claim] = node
                return Idle()
        elif self._must_rest(node):
            await asyncio.sleep(min(patience, REST_S))
            return Idle()
        elif (aside := next((claim for claim, at in self._aside.items() if at == node), None)) is not None:
            claim = aside
            del self._aside[claim]
            self._alone.add(claim)
        elif self._closed and not self._untaken and not self._aside:
            del self._nodes[lane]
            return None
        else:
            try:
                claim = await asyncio.wait_for(self._waiting.get(), patience)
            except TimeoutError:
                return Idle()
            if incarnation in self._gone or node in self._aside.values() or self._must_rest(node):
                await self._waiting.put(claim)  # who asked is dead, or the node is another run's by now
                return Idle()
            self._untaken.discard(claim)
        return self._hand_out(claim, lane)

    async def lost(self, lane: int, patience: float = BACK_S) -> None:
        """Hear that a lane's workers died. Another takes over what it holds where it is not back in time."""
        incarnation = self._incarnations.get(lane, "")
        await asyncio.sleep(patience)
        if incarnation != self._incarnations.get(lane, ""):
            return
        self._gone.add(incarnation)
        node, claim = self._nodes.pop(lane, ""), self._held.pop(lane, None)
        if claim is None:
            return
        self._losses[claim] += 1
        if claim in self._alone:
            self._aside[claim] = node
        else:
            await self._enqueue(claim)

    async def set_aside(self, lane: int, claim: str, turn: int) -> bool:
        """Keep a run for which there was no memory until it can have its node alone; False where it had it already."""
        if not self._holds(lane, claim, turn):
            return True  # it has been said already
        node = self._nodes[lane]
        shared = any(at == node for other, at in self._nodes.items() if other != lane)
        if claim in self._alone or not shared:
            return False
        del self._held[lane]
        self._aside[claim] = node
        return True

    async def command(self, claim: str, turn: int, patience: float) -> str | Idle:
        """Return ``step`` or ``stop``: the latter too where another has the run by now."""
        if self._turns[claim] != turn:
            return "stop"
        try:
            return await asyncio.wait_for(self._commands[claim].get(), patience)
        except TimeoutError:
            return Idle()

    async def answer(self, claim: str, turn: int, result: dict[str, Any]) -> None:
        """Hand Tune a report; the last one (its state has ended) is kept, and nothing comes after it."""
        if claim in self._ended or self._turns[claim] != turn:
            return
        self._owed.discard(claim)
        if RunState(result["state"]).ended:
            self._ended[claim] = result
        await self._answers[claim].put(result)

    async def release(self, lane: int, claim: str, turn: int) -> None:
        """Say that the lane is through with the run, well or badly; saying it twice does no harm."""
        if self._holds(lane, claim, turn):
            del self._held[lane]

    def _is_present(self, lane: int, incarnation: str) -> bool:
        """Return whether these are the lane's workers still; others than so far are their successors."""
        if incarnation in self._gone:
            return False
        former = self._incarnations.get(lane, incarnation)
        if former != incarnation:
            self._gone.add(former)
        self._incarnations[lane] = incarnation
        return True

    def _holds(self, lane: int, claim: str, turn: int) -> bool:
        return self._held.get(lane) == claim and self._turns[claim] == turn

    async def _enqueue(self, claim: str) -> None:
        self._untaken.add(claim)
        await self._waiting.put(claim)

    def _hand_out(self, claim: str, lane: int) -> Order:
        """Give a run to a lane, with a new mailbox that holds what Tune asked for and has no answer to."""
        self._held[lane] = claim
        self._turns[claim] += 1
        self._commands[claim] = asyncio.Queue()
        if claim in self._owed:
            self._commands[claim].put_nowait("step")
        if claim in self._stopped:
            self._commands[claim].put_nowait("stop")
        run_id, payload = self._orders[claim]
        return Order(
            claim=claim,
            turn=self._turns[claim],
            run_id=run_id,
            payload=payload,
            losses=self._losses[claim],
            alone=claim in self._alone,
        )

    def _bring_home(self, node: str) -> None:
        """Let what was set aside on nodes where no lane is any more wait for this one."""
        gone = set(self._aside.values()) - set(self._nodes.values())
        self._aside |= {claim: node for claim, at in self._aside.items() if at in gone}

    def _at_work(self, node: str) -> list[str]:
        return [claim for lane, claim in self._held.items() if self._nodes[lane] == node]

    def _must_rest(self, node: str) -> bool:
        """Say whether a node's free lanes have to wait: one has the node alone, or soon will and others still work."""
        at_work = self._at_work(node)
        return any(claim in self._alone for claim in at_work) or (bool(at_work) and node in self._aside.values())
