"""The mailboxes, without Ray: whoever dies, no run is lost, done twice, or waited for in vain."""

import asyncio

import pytest

from coablate_platform.run.dispatcher import Dispatcher, Idle, Order

SOON = 0.02
RUNNING = {"state": "running", "epoch": 1}
DONE = {"state": "completed"}


def made(*run_ids: str) -> Dispatcher:
    dispatcher = Dispatcher()
    for word in (*(dispatcher.offer(run_id, run_id, run_id.encode()) for run_id in run_ids), dispatcher.close()):
        with pytest.raises(StopIteration):  # neither waits for anything
            word.send(None)
    return dispatcher


def play(scene) -> None:
    """Run a scene with a limit: what would wait for ever fails."""
    asyncio.run(asyncio.wait_for(scene, 5))


async def asked(dispatcher: Dispatcher, run_id: str) -> asyncio.Task:
    """Let Tune ask for a step, and wait until the question has arrived."""
    task = asyncio.create_task(dispatcher.step(run_id))
    await asyncio.sleep(SOON / 2)
    return task


def test_runs_are_taken_in_the_order_in_which_they_were_submitted():
    async def scene():
        dispatcher = made("a", "b", "c")
        for run_id in ("b", "a", "c"):
            await dispatcher.submit(run_id)
        taken = [await dispatcher.take(lane, "n", SOON) for lane in (0, 1, 2)]
        assert taken == [Order(claim=name, run_id=name, payload=name.encode(), losses=0) for name in ("b", "a", "c")]

    play(scene())


def test_a_step_is_asked_and_answered():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        step = await asked(dispatcher, "a")
        assert await dispatcher.command("a", SOON) == "step"
        assert not step.done()
        await dispatcher.answer("a", RUNNING)
        assert await step == RUNNING
        assert isinstance(await dispatcher.command("a", SOON), Idle)

    play(scene())


def test_a_stopped_run_leaves_its_lane_which_takes_the_next():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        await dispatcher.stop("a")
        assert await dispatcher.command("a", SOON) == "stop"
        await dispatcher.release(0, "a")
        await dispatcher.release(0, "a")
        await dispatcher.submit("b")
        assert (await dispatcher.take(0, "n", SOON)).run_id == "b"
        await dispatcher.release(0, "a")  # late, of a run it no longer holds
        assert (await dispatcher.take(0, "n", SOON)).run_id == "b"

    play(scene())


def test_before_it_is_closed_more_may_come():
    async def scene():
        dispatcher = Dispatcher()
        assert isinstance(await dispatcher.take(0, "n", SOON), Idle)
        await dispatcher.offer("a", "a", b"a")
        await dispatcher.submit("a")
        assert (await dispatcher.take(0, "n", SOON)).run_id == "a"
        await dispatcher.release(0, "a")
        assert isinstance(await dispatcher.take(0, "n", SOON), Idle)
        await dispatcher.close()
        assert await dispatcher.take(0, "n", SOON) is None

    play(scene())


def test_nothing_to_take_is_idle_and_nothing_left_is_the_end():
    async def scene():
        dispatcher = made("a")
        assert isinstance(await dispatcher.take(0, "n", SOON), Idle)
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        assert await dispatcher.take(1, "n", SOON) is None
        await dispatcher.release(0, "a")
        assert await dispatcher.take(0, "n", SOON) is None

    play(scene())


@pytest.mark.parametrize("heard", [True, False], ids=["after it heard the step", "before it heard the step"])
def test_a_restarted_lane_gets_its_run_and_the_owed_step_once(heard):
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        step = await asked(dispatcher, "a")
        if heard:
            await dispatcher.command("a", SOON)
        for losses in (1, 2):  # it dies twice
            assert await dispatcher.take(0, "n", SOON) == Order(claim="a", run_id="a", payload=b"a", losses=losses)
            assert await dispatcher.command("a", SOON) == "step"
            assert isinstance(await dispatcher.command("a", SOON), Idle)
        await dispatcher.answer("a", RUNNING)
        assert await step == RUNNING
        await dispatcher.take(0, "n", SOON)
        assert isinstance(await dispatcher.command("a", SOON), Idle)  # nothing is owed any more

    play(scene())


def test_a_word_is_not_given_to_a_dead_worker():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        dead = asyncio.create_task(dispatcher.command("a", 60))
        await asyncio.sleep(SOON / 2)
        await dispatcher.take(0, "n", SOON)  # its successor
        await asked(dispatcher, "a")
        assert await dispatcher.command("a", SOON) == "step"
        dead.cancel()

    play(scene())


def test_a_stop_that_a_dead_worker_heard_is_said_again():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        await dispatcher.stop("a")
        assert await dispatcher.command("a", SOON) == "stop"
        await dispatcher.take(0, "n", SOON)
        assert await dispatcher.command("a", SOON) == "stop"

    play(scene())


def test_a_run_is_not_given_to_a_dead_lane():
    async def scene():
        dispatcher = made("a", "b")
        dead = asyncio.create_task(dispatcher.take(0, "n", 60))
        await asyncio.sleep(SOON / 2)
        alive = asyncio.create_task(dispatcher.take(0, "n", 60))
        await asyncio.sleep(SOON / 2)
        await dispatcher.submit("a")
        assert (await alive).run_id == "a"
        assert isinstance(await dead, Idle)

    play(scene())


def test_a_restarted_trial_finds_its_run_where_it_was():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.submit("a")  # while it is queued
        await dispatcher.take(0, "n", SOON)
        assert isinstance(await dispatcher.take(1, "n", SOON), Idle)
        dead = await asked(dispatcher, "a")
        await dispatcher.submit("a")  # while a lane holds it
        step = await asked(dispatcher, "a")
        assert await dispatcher.command("a", SOON) == "step"
        assert isinstance(await dispatcher.command("a", SOON), Idle)
        await dispatcher.answer("a", RUNNING)
        assert await step == RUNNING
        dead.cancel()

    play(scene())


def test_a_restarted_trial_hears_the_last_word_again():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        step = await asked(dispatcher, "a")
        await dispatcher.answer("a", DONE)
        assert await step == DONE
        await dispatcher.submit("a")
        assert await dispatcher.step("a") == DONE
        await dispatcher.release(0, "a")
        await dispatcher.submit("a")
        assert await dispatcher.step("a") == DONE
        assert await dispatcher.take(0, "n", SOON) is None  # it is not run again

    play(scene())


def test_an_answer_nobody_has_fetched_survives_a_restarted_trial():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        dead = await asked(dispatcher, "a")
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
        await dispatcher.answer("a", RUNNING)
        await dispatcher.submit("a")
        assert await dispatcher.step("a") == RUNNING

    play(scene())


def test_a_run_that_was_let_go_can_be_submitted_again():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        await dispatcher.stop("a")
        await dispatcher.command("a", SOON)
        await dispatcher.release(0, "a")
        await dispatcher.submit("a")
        assert (await dispatcher.take(1, "n", SOON)).run_id == "a"
        assert isinstance(await dispatcher.command("a", SOON), Idle)

    play(scene())


def test_another_lane_takes_over_from_one_that_does_not_come_back():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        step = await asked(dispatcher, "a")
        await dispatcher.command("a", SOON)
        await dispatcher.submit("b")
        await dispatcher.take(1, "m", SOON)
        waits = asyncio.create_task(dispatcher.lost(0, SOON))
        await dispatcher.release(1, "b")
        taken = asyncio.create_task(dispatcher.take(1, "m", SOON))
        assert await taken is None  # a lane that ends sooner frees what the lost one waits for
        await waits
        assert await dispatcher.take(2, "m", SOON) == Order(claim="a", run_id="a", payload=b"a", losses=1)
        assert await dispatcher.command("a", SOON) == "step"  # the one that is still owed
        assert await dispatcher.take(0, "m", SOON) is None  # it comes back after all
        await dispatcher.answer("a", DONE)
        assert await step == DONE

    play(scene())


def test_a_lane_that_comes_back_in_time_keeps_its_run():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        waits = asyncio.create_task(dispatcher.lost(0, SOON))
        await asyncio.sleep(SOON / 2)
        assert (await dispatcher.take(0, "n", SOON)).losses == 1
        await waits
        assert await dispatcher.take(1, "n", SOON) is None
        await dispatcher.lost(7, SOON)  # nor does one that held nothing leave anything
        assert await dispatcher.take(1, "n", SOON) is None

    play(scene())


def test_a_run_that_had_its_node_alone_has_the_next_one_alone_too():
    async def scene():
        dispatcher = made("a", "b")
        for run_id in ("a", "b"):
            await dispatcher.submit(run_id)
        await dispatcher.take(0, "n", SOON)
        await dispatcher.take(1, "n", SOON)
        assert await dispatcher.set_aside(0, "a")
        await dispatcher.release(1, "b")
        assert (await dispatcher.take(0, "n", SOON)).alone
        await asyncio.gather(dispatcher.lost(0, SOON), dispatcher.lost(1, SOON))  # their node is gone
        order = await dispatcher.take(2, "m", SOON)
        assert (order.run_id, order.alone, order.losses) == ("a", True, 1)

    play(scene())


def test_a_run_without_memory_gets_its_node_alone_when_the_others_are_through():
    async def scene():
        dispatcher = made("a", "b", "c", "d")
        for run_id in ("a", "b", "c", "d"):
            await dispatcher.submit(run_id)
        await dispatcher.take(0, "n", SOON)
        await dispatcher.take(1, "n", SOON)
        elsewhere = await dispatcher.take(2, "m", SOON)
        step = await asked(dispatcher, "a")
        await dispatcher.command("a", SOON)
        assert await dispatcher.set_aside(0, "a")
        assert await dispatcher.set_aside(0, "a")  # another worker of the lane
        assert isinstance(await dispatcher.take(0, "n", SOON), Idle)  # b is at work there
        await dispatcher.release(2, elsewhere.run_id)
        assert (await dispatcher.take(2, "m", SOON)).run_id == "d"  # another node goes on
        await dispatcher.release(1, "b")
        assert await dispatcher.take(1, "n", SOON) == Order(claim="a", run_id="a", payload=b"a", losses=0, alone=True)
        assert isinstance(await dispatcher.take(0, "n", SOON), Idle)
        assert await dispatcher.command("a", SOON) == "step"  # the one that is still owed
        await dispatcher.answer("a", DONE)
        assert await step == DONE
        await dispatcher.release(1, "a")
        assert await dispatcher.take(0, "n", SOON) is None

    play(scene())


def test_a_run_that_had_its_node_alone_is_not_set_aside_again():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        assert not await dispatcher.set_aside(0, "a")  # there is no other lane
        assert isinstance(await dispatcher.take(1, "n", SOON), Idle)
        assert await dispatcher.set_aside(0, "a")
        assert (await dispatcher.take(0, "n", SOON)).alone
        assert not await dispatcher.set_aside(0, "a")

    play(scene())


def test_a_lane_that_waited_for_a_run_leaves_it_where_its_node_is_taken():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        waits = asyncio.create_task(dispatcher.take(1, "n", 60))
        await asyncio.sleep(SOON / 2)
        assert await dispatcher.set_aside(0, "a")
        await dispatcher.submit("b")
        assert isinstance(await waits, Idle)
        assert (await dispatcher.take(1, "n", SOON)).run_id == "a"
        await dispatcher.release(1, "a")
        assert (await dispatcher.take(1, "n", SOON)).run_id == "b"

    play(scene())


def test_a_run_that_is_set_aside_is_still_there_when_its_trial_was_restarted():
    async def scene():
        dispatcher = made("a", "b")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        assert isinstance(await dispatcher.take(1, "n", SOON), Idle)
        dead = await asked(dispatcher, "a")
        await dispatcher.command("a", SOON)
        assert await dispatcher.set_aside(0, "a")
        dead.cancel()
        await dispatcher.submit("a")
        step = await asked(dispatcher, "a")
        assert (await dispatcher.take(0, "n", SOON)).alone
        assert await dispatcher.command("a", SOON) == "step"
        assert isinstance(await dispatcher.command("a", SOON), Idle)
        await dispatcher.answer("a", RUNNING)
        assert await step == RUNNING

    play(scene())


def test_where_the_other_lanes_have_ended_a_run_without_memory_was_alone():
    async def scene():
        dispatcher = made("a")
        await dispatcher.submit("a")
        await dispatcher.take(0, "n", SOON)
        assert await dispatcher.take(1, "n", SOON) is None
        assert not await dispatcher.set_aside(0, "a")

    play(scene())


def test_a_run_set_aside_on_a_node_that_is_gone_is_taken_elsewhere():
    async def scene():
        dispatcher = made("a", "b")
        for run_id in ("a", "b"):
            await dispatcher.submit(run_id)
        await dispatcher.take(0, "n", SOON)
        await dispatcher.take(1, "n", SOON)
        assert await dispatcher.set_aside(0, "a")
        assert (await dispatcher.take(1, "m", SOON)).run_id == "b"  # lane 1 comes back on another node
        assert isinstance(await dispatcher.take(2, "k", SOON), Idle)  # n is still lane 0's
        await dispatcher.release(1, "b")
        order = await dispatcher.take(0, "m", SOON)  # so does lane 0: nobody is on n any more
        assert (order.run_id, order.alone) == ("a", True)

    play(scene())


def test_a_run_set_aside_waits_for_the_others_on_the_node_that_it_comes_to():
    async def scene():
        dispatcher = made("a", "b", "c", "d")
        for run_id in ("a", "b", "c", "d"):
            await dispatcher.submit(run_id)
        await dispatcher.take(0, "n", SOON)
        await dispatcher.take(1, "n", SOON)
        for lane in (2, 3):
            await dispatcher.take(lane, "m", SOON)
        assert await dispatcher.set_aside(0, "a")
        await asyncio.gather(dispatcher.lost(0, SOON), dispatcher.lost(1, SOON))  # their node is gone
        await dispatcher.release(2, "c")
        assert isinstance(await dispatcher.take(2, "m", SOON), Idle)  # d is at work there
        await dispatcher.release(3, "d")
        order = await dispatcher.take(2, "m", SOON)
        assert (order.run_id, order.alone) == ("a", True)

    play(scene())


def test_a_run_that_had_its_node_alone_comes_back_beside_nobody():
    async def scene():
        dispatcher = made("a", "b", "c")
        for run_id in ("a", "b", "c"):
            await dispatcher.submit(run_id)
        await dispatcher.take(0, "n", SOON)
        await dispatcher.take(1, "n", SOON)
        await dispatcher.take(2, "m", SOON)
        assert await dispatcher.set_aside(0, "a")
        await dispatcher.release(1, "b")
        assert (await dispatcher.take(0, "n", SOON)).alone
        assert isinstance(await dispatcher.take(0, "m", SOON), Idle)  # its worker died; it is back where c is at work
        assert isinstance(await dispatcher.take(0, "m", SOON), Idle)
        await dispatcher.release(2, "c")
        order = await dispatcher.take(0, "m", SOON)
        assert (order.run_id, order.alone, order.losses) == ("a", True, 1)

    play(scene())
