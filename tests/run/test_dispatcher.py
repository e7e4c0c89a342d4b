"""The mailboxes, without Ray: whoever dies, no run is lost, done twice, or waited for in vain."""

import asyncio
import itertools
from typing import Any

import pytest

from coablate_platform.run.dispatcher import Dispatcher, Idle, Order

SOON = 0.02
RUNNING = {"state": "running", "epoch": 1}
DONE = {"state": "completed"}


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


def test_runs_are_taken_in_the_order_in_which_they_were_offered():
    async def scene():
        dispatcher = await made("b", "a", "c")
        taken = [await Workers(dispatcher, lane).take() for lane in (0, 1, 2)]
        assert taken == [order(run_id) for run_id in ("b", "a", "c")]

    play(scene())


def test_a_step_is_asked_and_answered():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        step = await under_way(dispatcher.step("a"))
        assert await workers.command() == "step"
        assert not step.done()
        await workers.answer(RUNNING)
        assert await step == RUNNING
        assert isinstance(await workers.command(), Idle)

    play(scene())


def test_a_step_asked_before_a_lane_was_free_is_waiting_there():
    async def scene():
        dispatcher = await made("a")
        await under_way(dispatcher.step("a"))
        workers = await begun(dispatcher)
        assert await workers.command() == "step"
        assert isinstance(await workers.command(), Idle)

    play(scene())


def test_a_stopped_run_leaves_its_lane_which_takes_the_next():
    async def scene():
        dispatcher = await made("a", "b")
        workers = await begun(dispatcher)
        await dispatcher.stop("a")
        assert await workers.command() == "stop"
        await workers.release()
        await workers.release()
        assert await workers.take() == order("b")
        await dispatcher.release(0, "a", 1)  # late, of a run it no longer holds
        assert await Workers(dispatcher).take() == order("b", turn=2, losses=1)

    play(scene())


def test_before_it_is_closed_more_may_come():
    async def scene():
        dispatcher = Dispatcher()
        workers = Workers(dispatcher)
        assert isinstance(await workers.take(), Idle)
        await dispatcher.offer("a", "a", b"a")
        assert await workers.take() == order("a")
        await workers.release()
        assert isinstance(await workers.take(), Idle)
        await dispatcher.close()
        assert await workers.take() is None

    play(scene())


def test_nothing_left_to_take_is_the_end():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        assert await Workers(dispatcher, lane=1).take() is None
        await workers.release()
        assert await workers.take() is None

    play(scene())


@pytest.mark.parametrize("heard", [True, False], ids=["after it heard the step", "before it heard the step"])
def test_a_restarted_lane_gets_its_run_and_the_owed_step_once(heard):
    async def scene():
        dispatcher = await made("a", "b")
        workers = await begun(dispatcher)
        step = await under_way(dispatcher.step("a"))
        if heard:
            await workers.command()
        for losses in (1, 2):  # it dies twice
            workers = Workers(dispatcher)
            assert await workers.take() == order("a", turn=1 + losses, losses=losses)
            assert await workers.command() == "step"
            assert isinstance(await workers.command(), Idle)
        await workers.answer(RUNNING)
        assert await step == RUNNING
        workers = await begun(dispatcher)
        assert isinstance(await workers.command(), Idle)  # nothing is owed any more

    play(scene())


def test_a_word_is_not_given_to_a_dead_worker():
    async def scene():
        dispatcher = await made("a")
        dead = await begun(dispatcher)
        call = await under_way(dead.command())
        successor = await begun(dispatcher)
        await under_way(dispatcher.step("a"))
        assert await successor.command() == "step"
        assert isinstance(await call, Idle)

    play(scene())


def test_workers_whose_successors_have_come_hear_stop_and_are_not_heard():
    """Ray ends the workers of a lost lane within seconds; until then they go on beside their successors."""

    async def scene():
        dispatcher = await made("a", "b")
        former = await begun(dispatcher)
        step = await under_way(dispatcher.step("a"))
        assert await former.command() == "step"
        successor = await begun(dispatcher)
        await former.answer(DONE)
        assert await former.command() == "stop"
        await former.release()
        assert await former.set_aside()
        assert await former.take() is None
        assert not step.done()
        assert await successor.command() == "step"
        await successor.answer(RUNNING)
        assert await step == RUNNING
        assert await Workers(dispatcher, lane=1).take() == order("b")

    play(scene())


def test_a_stop_that_a_dead_worker_heard_is_said_again():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        await dispatcher.stop("a")
        assert await workers.command() == "stop"
        successor = await begun(dispatcher)
        assert await successor.command() == "stop"

    play(scene())


def test_a_run_is_not_given_to_a_dead_lane():
    async def scene():
        dispatcher = Dispatcher()
        dead = await under_way(Workers(dispatcher, patience=60).take())
        alive = await under_way(Workers(dispatcher, patience=60).take())
        await dispatcher.offer("a", "a", b"a")
        assert await alive == order("a")
        assert isinstance(await dead, Idle)

    play(scene())


def test_a_restarted_trial_finds_its_run_where_it_was():
    async def scene():
        dispatcher = await made("a", "b")
        workers = await begun(dispatcher)
        dead = await under_way(dispatcher.step("a"))
        step = await under_way(dispatcher.step("a"))
        assert await workers.command() == "step"
        assert isinstance(await workers.command(), Idle)
        await workers.answer(RUNNING)
        assert await step == RUNNING
        dead.cancel()

    play(scene())


def test_a_restarted_trial_hears_the_last_word_again():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        step = await under_way(dispatcher.step("a"))
        await workers.answer(DONE)
        assert await step == DONE
        assert await dispatcher.step("a") == DONE
        await workers.release()
        assert await dispatcher.step("a") == DONE
        assert await workers.take() is None  # it is not run again

    play(scene())


def test_an_answer_nobody_has_fetched_survives_a_restarted_trial():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        dead = await under_way(dispatcher.step("a"))
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
        await workers.answer(RUNNING)
        assert await dispatcher.step("a") == RUNNING

    play(scene())


def test_another_lane_takes_over_from_one_that_does_not_come_back():
    async def scene():
        dispatcher = await made("a", "b")
        lost, other = await begun(dispatcher), await begun(dispatcher, lane=1, node="m")
        step = await under_way(dispatcher.step("a"))
        await lost.command()
        waits = asyncio.create_task(dispatcher.lost(0, SOON))
        await other.release()
        assert await other.take() is None  # a lane that ends sooner frees what the lost one waits for
        await waits
        another = Workers(dispatcher, lane=2, node="m")
        assert await another.take() == order("a", turn=2, losses=1)
        assert await another.command() == "step"  # the one that is still owed
        assert await Workers(dispatcher, node="m").take() is None  # it comes back after all
        await another.answer(DONE)
        assert await step == DONE

    play(scene())


def test_a_lane_that_was_lost_while_it_waited_for_a_run_gets_none():
    async def scene():
        dispatcher = Dispatcher()
        dead = await under_way(Workers(dispatcher, patience=60).take())
        await dispatcher.lost(0, SOON)
        await dispatcher.offer("a", "a", b"a")
        assert isinstance(await dead, Idle)
        assert await Workers(dispatcher, lane=1).take() == order("a")

    play(scene())


def test_a_lane_that_comes_back_in_time_keeps_its_run():
    async def scene():
        dispatcher = await made("a")
        await begun(dispatcher)
        waits = await under_way(dispatcher.lost(0, SOON))
        assert await Workers(dispatcher).take() == order("a", turn=2, losses=1)
        await waits
        other = Workers(dispatcher, lane=1)
        assert await other.take() is None
        await dispatcher.lost(7, SOON)  # nor does one that held nothing leave anything
        assert await other.take() is None

    play(scene())


def test_a_run_that_had_its_node_alone_has_the_next_one_alone_too():
    async def scene():
        dispatcher = await made("a", "b")
        first, second = await begun(dispatcher), await begun(dispatcher, lane=1)
        assert await first.set_aside()
        await second.release()
        assert (await first.take()).alone
        await asyncio.gather(dispatcher.lost(0, SOON), dispatcher.lost(1, SOON))  # their node is gone
        assert await Workers(dispatcher, lane=2, node="m").take() == order("a", turn=3, losses=1, alone=True)

    play(scene())


def test_a_run_without_memory_gets_its_node_alone_when_the_others_are_through():
    async def scene():
        dispatcher = await made("a", "b", "c", "d")
        first, second = await begun(dispatcher), await begun(dispatcher, lane=1)
        elsewhere = await begun(dispatcher, lane=2, node="m")
        step = await under_way(dispatcher.step("a"))
        await first.command()
        assert await first.set_aside()
        assert await first.set_aside()  # another worker of the lane
        assert isinstance(await first.take(), Idle)  # b is at work there
        await elsewhere.release()
        assert await elsewhere.take() == order("d")  # another node goes on
        await second.release()
        assert await second.take() == order("a", turn=2, alone=True)
        assert isinstance(await first.take(), Idle)
        assert await second.command() == "step"  # the one that is still owed
        await second.answer(DONE)
        assert await step == DONE
        await second.release()
        assert await first.take() is None

    play(scene())


def test_a_run_that_had_its_node_alone_is_not_set_aside_again():
    async def scene():
        dispatcher = await made("a", "b")
        first = await begun(dispatcher)
        assert not await first.set_aside()  # there is no other lane
        second = await begun(dispatcher, lane=1)
        assert await first.set_aside()
        await second.release()
        assert (await first.take()).alone
        assert not await first.set_aside()

    play(scene())


def test_a_lane_that_waited_for_a_run_leaves_it_where_its_node_is_taken():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.offer("a", "a", b"a")
        first, second = await begun(dispatcher), Workers(dispatcher, lane=1)
        waits = await under_way(second.take())
        assert await first.set_aside()
        await dispatcher.offer("b", "b", b"b")
        assert isinstance(await waits, Idle)
        assert await second.take() == order("a", turn=2, alone=True)
        await second.release()
        assert (await second.take()).run_id == "b"

    play(scene())


def test_a_run_that_is_set_aside_is_still_there_when_its_trial_was_restarted():
    async def scene():
        dispatcher = await made("a", "b")
        first, second = await begun(dispatcher), await begun(dispatcher, lane=1)
        dead = await under_way(dispatcher.step("a"))
        await first.command()
        assert await first.set_aside()
        dead.cancel()
        step = await under_way(dispatcher.step("a"))
        await second.release()
        assert (await first.take()).alone
        assert await first.command() == "step"
        assert isinstance(await first.command(), Idle)
        await first.answer(RUNNING)
        assert await step == RUNNING

    play(scene())


def test_where_the_other_lanes_have_ended_a_run_without_memory_was_alone():
    async def scene():
        dispatcher = await made("a")
        workers = await begun(dispatcher)
        assert await Workers(dispatcher, lane=1).take() is None
        assert not await workers.set_aside()

    play(scene())


def test_a_run_set_aside_on_a_node_that_is_gone_is_taken_elsewhere():
    async def scene():
        dispatcher = await made("a", "b")
        first = await begun(dispatcher)
        await begun(dispatcher, lane=1)
        assert await first.set_aside()
        second = Workers(dispatcher, lane=1, node="m")  # it comes back on another node
        assert (await second.take()).run_id == "b"
        assert isinstance(await Workers(dispatcher, lane=2, node="k").take(), Idle)  # n is still lane 0's
        await second.release()
        back = Workers(dispatcher, node="m")  # so does lane 0: nobody is on n any more
        assert await back.take() == order("a", turn=2, alone=True)

    play(scene())


def test_a_run_set_aside_waits_for_the_others_on_the_node_that_it_comes_to():
    async def scene():
        dispatcher = await made("a", "b", "c", "d")
        first, _ = await begun(dispatcher), await begun(dispatcher, lane=1)
        third, fourth = [await begun(dispatcher, lane=lane, node="m") for lane in (2, 3)]
        assert await first.set_aside()
        await asyncio.gather(dispatcher.lost(0, SOON), dispatcher.lost(1, SOON))  # their node is gone
        await third.release()
        assert isinstance(await third.take(), Idle)  # d is at work there
        await fourth.release()
        assert await third.take() == order("a", turn=2, alone=True)

    play(scene())


def test_a_run_that_had_its_node_alone_comes_back_beside_nobody():
    async def scene():
        dispatcher = await made("a", "b", "c")
        first, second = await begun(dispatcher), await begun(dispatcher, lane=1)
        third = await begun(dispatcher, lane=2, node="m")
        assert await first.set_aside()
        await second.release()
        assert (await first.take()).alone
        back = Workers(dispatcher, node="m")  # its worker died; it is back where c is at work
        assert isinstance(await back.take(), Idle)
        assert isinstance(await back.take(), Idle)
        await third.release()
        assert await back.take() == order("a", turn=3, losses=1, alone=True)

    play(scene())
