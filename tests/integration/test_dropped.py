"""Blocks whose coroutine is closed when its loop has ended: nothing can be awaited any more."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from support import all_gone

import aiopip

IGNORES_TERM = "trap '' TERM; echo ready; while :; do sleep 1; done"


@pytest.mark.parametrize("ending", [False, True], ids=["in its body", "while its tasks end"])
def test_closed_coroutine_leaves_no_task(ending: bool) -> None:
    loop = asyncio.new_event_loop()
    pids: list[int] = []
    reached = asyncio.Event()

    async def block() -> None:
        async with aiopip.Root(grace_s=3600) as root, root.task_group() as group:
            task = await group.spawn("sh", "-c", IGNORES_TERM, stdout=subprocess.PIPE)
            assert task.stdout is not None
            assert await task.stdout.receive() == b"ready\n"
            pids.extend([task.pid, (await root.spawn("sleep", "1000")).pid])
            reached.set()
            if ending:
                raise ZeroDivisionError
            await asyncio.sleep(3600)

    coroutine = block()
    running = loop.create_task(coroutine)
    loop.run_until_complete(reached.wait())
    loop.run_until_complete(asyncio.sleep(0))  # it goes on to where it waits
    loop.close()
    coroutine.close()
    assert all_gone(pids)
    assert not running.done()
    running._log_destroy_pending = False  # type: ignore[attr-defined]

    async def again() -> int:
        async with aiopip.Root() as root:
            return await (await root.spawn("true")).wait()

    assert asyncio.run(again()) == 0
