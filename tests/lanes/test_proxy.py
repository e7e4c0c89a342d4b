"""Tune's side of a run, with the real mailboxes, without Ray."""

import asyncio

from mailboxes import ended

from coablate_platform.lanes import proxy
from coablate_platform.lanes.dispatcher import Dispatcher, Idle


def test_a_process_that_tune_started_for_a_trial_and_gave_up_leaves_its_run_alone(monkeypatch):
    """Tune does so where another process has become free meanwhile: the trial goes on in that one."""
    dispatcher = Dispatcher()
    monkeypatch.setattr(proxy.ray, "get_actor", lambda name: dispatcher)

    async def scene():
        await dispatcher.offer("a", "a", b"a")
        step = asyncio.create_task(dispatcher.step("a"))
        lease = await dispatcher.take(0, ["n"], "first", 1.0)
        assert await dispatcher.command("a", lease.token, 1.0) == "step"
        given_up = proxy.RunProxy.__new__(proxy.RunProxy)
        given_up.setup({"dispatcher": "d", "lease": "a"})
        given_up.cleanup()
        assert isinstance(await dispatcher.command("a", lease.token, 0.01), Idle)
        await dispatcher.answer("a", lease.token, ended())
        assert await asyncio.wait_for(step, 1.0) == ended()

    asyncio.run(scene())
