"""The mailboxes, without Ray: whoever dies, no run is lost, done twice, or waited for in vain."""

import asyncio

import pytest
from mailboxes import SOON, Workers, begun, ended, epoch, lease, made, play, under_way

from coablate_platform.lanes.dispatcher import Dispatcher, Idle

RUNNING = epoch(1)
DONE = ended()


def test_runs_are_taken_in_the_order_in_which_they_were_offered():
    async def scene():
        dispatcher = await made("b", "a", "c")
        taken = [await Workers(dispatcher, lane).take() for lane in (0, 1, 2)]
        assert taken == [lease(run_id) for run_id in ("b", "a", "c")]

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
        assert await workers.take() == lease("b")
        await dispatcher.release(0, "a", 1)  # late, of a run it no longer holds
        assert await Workers(dispatcher).take() == lease("b", token=2, losses=1)

    play(scene())


def test_before_it_is_closed_more_may_come():
    async def scene():
        dispatcher = Dispatcher()
        workers = Workers(dispatcher)
        assert isinstance(await workers.take(), Idle)
        await dispatcher.offer("a", "a", b"a")
        assert await workers.take() == lease("a")
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
            assert await workers.take() == lease("a", token=1 + losses, losses=losses)
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
        assert await Workers(dispatcher, lane=1).take() == lease("b")

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
        assert await alive == lease("a")
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


def test_a_run_that_was_let_go_can_be_given_out_again():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.offer("a-1", "a", b"a")
        workers = await begun(dispatcher)
        await dispatcher.stop("a-1")
        await workers.command()
        await workers.release()
        await dispatcher.offer("a-2", "a", b"a")
        other = Workers(dispatcher, lane=1)
        assert (await other.take()).run_id == "a"
        assert isinstance(await other.command(), Idle)

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
        assert await another.take() == lease("a", token=2, losses=1)
        assert await another.command() == "step"  # the one that is still owed
        assert await Workers(dispatcher, node="m").take() is None  # it comes back after all
        await another.answer(DONE)
        assert await step == DONE

    play(scene())


@pytest.mark.parametrize("back", [True, False], ids=["the lane comes back elsewhere", "another lane takes the run"])
def test_the_loss_of_a_node_is_not_counted_as_the_run_s(back):
    async def scene():
        dispatcher = await made("a", lives=lambda node: node != "spot")
        await begun(dispatcher, node="spot")
        if not back:
            await dispatcher.lost(0, SOON)
        heir = Workers(dispatcher, lane=0 if back else 1, node="m")
        assert await heir.take() == lease("a", token=2, node_losses=1)
        heir = Workers(dispatcher, lane=0 if back else 1, node="m")  # now a worker died, and its node lives
        assert await heir.take() == lease("a", token=3, losses=1, node_losses=1)

    play(scene())


def test_a_lane_that_was_lost_while_it_waited_for_a_run_gets_none():
    async def scene():
        dispatcher = Dispatcher()
        dead = await under_way(Workers(dispatcher, patience=60).take())
        await dispatcher.lost(0, SOON)
        await dispatcher.offer("a", "a", b"a")
        assert isinstance(await dead, Idle)
        assert await Workers(dispatcher, lane=1).take() == lease("a")

    play(scene())


def test_a_lane_that_comes_back_in_time_keeps_its_run():
    async def scene():
        dispatcher = await made("a")
        await begun(dispatcher)
        waits = await under_way(dispatcher.lost(0, SOON))
        assert await Workers(dispatcher).take() == lease("a", token=2, losses=1)
        await waits
        other = Workers(dispatcher, lane=1)
        assert await other.take() is None
        await dispatcher.lost(7, SOON)  # nor does one that held nothing leave anything
        assert await other.take() is None

    play(scene())


def test_a_run_that_is_handed_back_is_no_loss():
    async def scene():
        dispatcher = await made("a")
        leaver = await begun(dispatcher)
        step = await under_way(dispatcher.step("a"))
        await dispatcher.hand_back(0, "a", 0)  # of an earlier generation
        assert await Workers(dispatcher, lane=1).take() is None
        await dispatcher.hand_back(0, "a", 1)
        await leaver.answer(DONE)  # still the newest token, until another lane takes it
        assert await step == DONE

    play(scene())


def test_a_run_that_is_handed_back_goes_on_with_the_step_that_is_owed():
    async def scene():
        dispatcher = await made("a")
        await begun(dispatcher)
        await under_way(dispatcher.step("a"))
        await dispatcher.hand_back(0, "a", 1)
        heir = Workers(dispatcher, lane=1)
        assert await heir.take() == lease("a", token=2)
        assert await heir.command() == "step"

    play(scene())


def test_a_run_that_has_ended_is_not_offered_again_by_a_lane_that_leaves():
    async def scene():
        dispatcher = await made("a")
        leaver = await begun(dispatcher)
        await leaver.answer(DONE)
        await dispatcher.hand_back(0, "a", 1)
        assert await Workers(dispatcher, lane=1).take() is None

    play(scene())


def test_failures_of_a_lane_are_counted_until_it_takes_a_run():
    async def scene():
        dispatcher = await made("a")
        assert [await dispatcher.count_failure(0) for _ in range(2)] == [1, 2]
        assert await dispatcher.count_failure(1) == 1
        await begun(dispatcher)
        assert await dispatcher.count_failure(0) == 1

    play(scene())
