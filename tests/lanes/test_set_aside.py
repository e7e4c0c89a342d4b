"""Runs that need a node to themselves, without Ray: they get it, wherever lanes come and go."""

import asyncio

from mailboxes import SOON, Workers, begun, ended, epoch, lease, made, play, under_way

from coablate_platform.lanes.dispatcher import Dispatcher, Idle

RUNNING = epoch(1)
DONE = ended()


def test_a_run_that_had_its_node_alone_has_the_next_one_alone_too():
    async def scene():
        dispatcher = await made("a", "b")
        first, second = await begun(dispatcher), await begun(dispatcher, lane=1)
        assert await first.set_aside()
        await second.release()
        assert (await first.take()).alone
        await asyncio.gather(dispatcher.lost(0, SOON), dispatcher.lost(1, SOON))  # their node is gone
        assert await Workers(dispatcher, lane=2, node="m").take() == lease("a", token=3, losses=1, alone=True)

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
        assert await elsewhere.take() == lease("d")  # another node goes on
        await second.release()
        assert await second.take() == lease("a", token=2, alone=True)
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
        assert await second.take() == lease("a", token=2, alone=True)
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
        assert await back.take() == lease("a", token=2, alone=True)

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
        assert await third.take() == lease("a", token=2, alone=True)

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
        assert await back.take() == lease("a", token=3, losses=1, alone=True)

    play(scene())
