"""The mailboxes between Tune's proxies and the lanes: an asynchronous actor that holds nothing the journal lacks.

Runs are opaque bytes here, so that neither this process nor the proxies import torch or a model.

Each hand-out of a run gets a new command queue and a higher token (a fencing token). Messages with an older token are
ignored, so a replaced worker can neither receive nor send anything. It may still be alive for a moment, beside the
worker that replaced it.

| a lease | is in |
|---|---|
| offered, no lane has taken it | ``_untaken``, and its id in the queue ``_waiting`` |
| held by a lane | ``_held`` |
| set aside until a node is free for it alone | ``_aside`` |
| ended | ``_ended``, with its last update |
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coablate_platform.train.events import RunUpdate

REST_S = 0.5  # before a lane that has to wait for its node asks again
BACK_S = 60.0  # within which a lane whose workers died is back, unless its node is gone; Ray takes some 5 s


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A run handed to a lane.

    Args:
        id: names this hand-out of the run by the scheduler; an earlier one of the same run has another.
        token: fencing token: how often a lane was given this lease, this time included.
        run_id: the run.
        payload: the pickled task, for the lane alone to read.
        losses: how often a worker died with it on a node that lived on.
        node_losses: how often the node of a worker that held it was lost, for example a spot instance.
        alone: no other lane of the node trains meanwhile.
    """

    id: str
    token: int
    run_id: str
    payload: bytes
    losses: int
    node_losses: int = 0
    alone: bool = False


class Idle:
    """Nothing came within the patience given; ask again."""


class Dispatcher:
    """Carries commands from Tune's proxies to the lanes, and updates back. One a study, an asynchronous actor.

    Args:
        lives: returns whether a node lives, by its id.
    """

    def __init__(self, lives: Callable[[str], bool] = lambda node: True) -> None:
        self._lives = lives
        self._offers: dict[str, tuple[str, bytes]] = {}  # lease -> run and payload
        self._tokens: Counter[str] = Counter()  # lease -> the newest token
        self._untaken: set[str] = set()
        self._closed = False
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._commands: dict[str, asyncio.Queue[str]] = {}
        self._answers: dict[str, asyncio.Queue[RunUpdate]] = {}
        self._held: dict[int, str] = {}
        self._nodes: dict[int, str] = {}  # lane -> where it last asked from
        self._aside: dict[str, str] = {}  # lease -> the node that it will have alone
        self._alone: set[str] = set()  # leases that have, or had, their node alone
        self._owed: set[str] = set()  # leases with an unanswered step
        self._stopped: set[str] = set()
        self._ended: dict[str, RunUpdate] = {}
        self._generations: dict[int, str] = {}  # lane -> its newest group of workers
        self._spans: dict[str, Sequence[str]] = {}  # generation -> the nodes of its workers
        self._gone: set[str] = set()  # generations that were replaced or died; some live on for a moment
        self._losses: Counter[str] = Counter()
        self._node_losses: Counter[str] = Counter()
        self._unfit: dict[int, dict[str, str]] = {}  # lane -> what is wrong with its nodes, by their ids
        self._failures: Counter[int] = Counter()  # lane -> how often it failed since it last took a run

    async def live(self) -> None:
        """Never return. The driver waits for this call to learn when the process has died."""
        await asyncio.Event().wait()

    # the driver's side

    async def offer(self, lease: str, run_id: str, payload: bytes) -> None:
        """Queue a run for the lanes. Tune's proxy will ask for its steps."""
        self._offers[lease] = (run_id, payload)
        self._commands[lease], self._answers[lease] = asyncio.Queue(), asyncio.Queue()
        await self._enqueue(lease)

    async def close(self) -> None:
        """Declare that no more runs will be offered, so that lanes which find none end."""
        self._closed = True

    async def stop(self, lease: str) -> None:
        """Tell the lane to stop the run and to take the next."""
        self._stopped.add(lease)
        await self._commands[lease].put("stop")

    async def unfit_nodes(self, lane: int) -> dict[str, str]:
        """Return why a lane that has ended took no run: id of a node -> what is wrong there; empty otherwise."""
        return self._unfit.pop(lane, {})

    async def count_failure(self, lane: int) -> int:
        """Count a failure of a lane, and return how many there were since it last took a run."""
        self._failures[lane] += 1
        return self._failures[lane]

    # the proxies' side

    async def step(self, lease: str) -> RunUpdate:
        """Ask the run for its next update and wait for it. After the last update, return the last again.

        Only the newest call is answered: a proxy calls again only where the process that called before has died.
        """
        former, answers = self._answers[lease], asyncio.Queue[RunUpdate]()
        while not former.empty():
            answers.put_nowait(former.get_nowait())
        self._answers[lease] = answers
        if lease in self._ended and answers.empty():
            return self._ended[lease]
        if lease not in self._owed:
            self._owed.add(lease)
            await self._commands[lease].put("step")
        return await answers.get()

    # the lanes' side

    async def take(self, lane: int, nodes: Sequence[str], generation: str, patience: float) -> Lease | Idle | None:
        """Return the run that this lane held when its workers died, else the next; None when no more will come.

        A run that was set aside on the lane's node comes first, once the node's other lanes have finished theirs.
        A generation of workers that was replaced gets None.

        Args:
            lane: number of the lane.
            nodes: ids of its workers' nodes; the first worker's stands for the lane.
            generation: id of this generation of its workers; restarted workers have another.
            patience: seconds after which :class:`Idle` is returned.
        """
        former, node = self._generations.get(lane, generation), nodes[0]
        if not self._is_present(lane, generation):
            return None
        self._nodes[lane] = node
        self._spans[generation] = nodes
        self._move_to(node)
        if lane in self._held:
            lease = self._held.pop(lane)
            self._count_loss(lease, former)
            if lease in self._alone and self._training_on(node):  # it came back on a node where others train
                self._aside[lease] = node
                return Idle()
        elif self._must_wait(node):
            await asyncio.sleep(min(patience, REST_S))
            return Idle()
        elif (aside := next((lease for lease, at in self._aside.items() if at == node), None)) is not None:
            lease = aside
            del self._aside[lease]
            self._alone.add(lease)
        elif self._closed and not self._untaken and not self._aside:
            del self._nodes[lane]
            return None
        else:
            try:
                lease = await asyncio.wait_for(self._waiting.get(), patience)
            except TimeoutError:
                return Idle()
            if generation in self._gone or node in self._aside.values() or self._must_wait(node):
                await self._waiting.put(lease)  # the worker is gone, or the node belongs to another run by now
                return Idle()
            self._untaken.discard(lease)
        return self._hand_out(lease, lane)

    async def now(self) -> float:
        """Return the time on the driver's node, in Unix seconds."""
        return time.time()

    async def retire(self, lane: int, unfit: dict[str, str]) -> None:
        """Note that a lane takes no run, and what is wrong with its nodes, by their ids."""
        self._unfit[lane] = unfit

    async def lost(self, lane: int, patience: float = BACK_S) -> None:
        """Give a lane's run to another lane if its workers, which died, are not back in time."""
        generation = self._generations.get(lane, "")
        await asyncio.sleep(patience)
        if generation != self._generations.get(lane, ""):
            return
        self._gone.add(generation)
        node, lease = self._nodes.pop(lane, ""), self._held.pop(lane, None)
        if lease is None:
            return
        self._count_loss(lease, generation)
        await self._offer_again(lease, node)

    async def hand_back(self, lane: int, lease: str, token: int) -> None:
        """Offer a run to other lanes, from its last checkpoint on: the node of this lane leaves the cluster."""
        if not self._holds(lane, lease, token):
            return
        node, _ = self._nodes.pop(lane), self._held.pop(lane)
        if lease not in self._ended:
            await self._offer_again(lease, node)

    async def set_aside(self, lane: int, lease: str, token: int) -> bool:
        """Keep a run that found no memory until it can have its node alone; return False where it had it already."""
        if not self._holds(lane, lease, token):
            return True  # this call is a repetition
        node = self._nodes[lane]
        shared = any(at == node for other, at in self._nodes.items() if other != lane)
        if lease in self._alone or not shared:
            return False
        del self._held[lane]
        self._aside[lease] = node
        return True

    async def command(self, lease: str, token: int, patience: float) -> str | Idle:
        """Return the next command, ``step`` or ``stop``; ``stop`` too where the token is outdated."""
        if self._tokens[lease] != token:
            return "stop"
        try:
            return await asyncio.wait_for(self._commands[lease].get(), patience)
        except TimeoutError:
            return Idle()

    async def answer(self, lease: str, token: int, update: RunUpdate) -> None:
        """Pass an update on to the proxy. The update that ends the run is kept, and none is taken after it."""
        if lease in self._ended or self._tokens[lease] != token:
            return
        self._owed.discard(lease)
        if update.state.ended:
            self._ended[lease] = update
        await self._answers[lease].put(update)

    async def release(self, lane: int, lease: str, token: int) -> None:
        """Take the run from the lane, which has finished with it. A repetition does nothing."""
        if self._holds(lane, lease, token):
            del self._held[lane]

    def _count_loss(self, lease: str, generation: str) -> None:
        """Count the loss of the workers that held a lease: that of a node is not the run's fault."""
        nodes_live = all(self._lives(node) for node in self._spans.get(generation, ()))
        (self._losses if nodes_live else self._node_losses)[lease] += 1

    def _is_present(self, lane: int, generation: str) -> bool:
        """Return whether this generation is the lane's newest; an unknown one replaces the former."""
        if generation in self._gone:
            return False
        former = self._generations.get(lane, generation)
        if former != generation:
            self._gone.add(former)
        self._generations[lane] = generation
        return True

    def _holds(self, lane: int, lease: str, token: int) -> bool:
        return self._held.get(lane) == lease and self._tokens[lease] == token

    async def _offer_again(self, lease: str, node: str) -> None:
        """Offer a run that its lane on this node did not finish."""
        if lease in self._alone:
            self._aside[lease] = node
        else:
            await self._enqueue(lease)

    async def _enqueue(self, lease: str) -> None:
        self._untaken.add(lease)
        await self._waiting.put(lease)

    def _hand_out(self, lease: str, lane: int) -> Lease:
        """Give a run to a lane, with a new command queue that holds the commands still unanswered."""
        self._held[lane] = lease
        del self._failures[lane]
        self._tokens[lease] += 1
        self._commands[lease] = asyncio.Queue()
        if lease in self._owed:
            self._commands[lease].put_nowait("step")
        if lease in self._stopped:
            self._commands[lease].put_nowait("stop")
        run_id, payload = self._offers[lease]
        return Lease(
            id=lease,
            token=self._tokens[lease],
            run_id=run_id,
            payload=payload,
            losses=self._losses[lease],
            node_losses=self._node_losses[lease],
            alone=lease in self._alone,
        )

    def _move_to(self, node: str) -> None:
        """Move runs that were set aside on nodes without lanes to this node."""
        gone = set(self._aside.values()) - set(self._nodes.values())
        self._aside |= {lease: node for lease, at in self._aside.items() if at in gone}

    def _training_on(self, node: str) -> list[str]:
        return [lease for lane, lease in self._held.items() if self._nodes[lane] == node]

    def _must_wait(self, node: str) -> bool:
        """Return whether a node's free lanes must wait: a run has the node alone, or will when the others end."""
        training = self._training_on(node)
        return any(lease in self._alone for lease in training) or (bool(training) and node in self._aside.values())
