"""Cancellation inside spawn: the child is dead and reaped before the cancellation leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from jobs import Job, cancelled, on_trio, outcomes, start, turns
from support import children, still_works

import aiopip
from aiopip import _launch

if TYPE_CHECKING:
    from integration.conftest import Programs

    from aiopip._state import TaskState


async def outcome(spawning: Job[aiopip.Task], root: aiopip.Root) -> bool:
    """Whether the spawn was cancelled; then nothing is left of it, else it gave a live task."""
    try:
        task = await spawning
    except cancelled():
        assert not children()
        now = root.statistics()
        assert (now.alive, now.queued) == (0, 0)
        assert not root.tasks
        with pytest.raises(aiopip.NoTasksError):
            root.wait_any_nowait()
        return True
    task.kill()
    assert await task.wait() == -9
    return False


@pytest.mark.parametrize("count", range(13))
async def test_cancelled_after_so_many_iterations(
    root: aiopip.Root, program: Programs, count: int
) -> None:
    for _ in range(10):
        spawning = start(root.spawn(program("pause")))
        await turns(count)
        spawning.cancel()
        await outcome(spawning, root)
    await still_works(root)


async def test_cancelled_after_so_many_microseconds(root: aiopip.Root, program: Programs) -> None:
    """Around the moment at which the child is cloned, and at which its start is reported."""
    cancelled = 0
    for microseconds in range(0, 1500, 10):
        spawning = start(root.spawn(program("pause")))
        await anyio.sleep(microseconds / 1e6)
        spawning.cancel()
        cancelled += await outcome(spawning, root)
    assert cancelled
    await still_works(root)


@pytest.mark.parametrize("moment", ["before its start is handed over", "behind it"])
async def test_cancelled_in_the_iteration_in_which_it_started(
    root: aiopip.Root, program: Programs, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    spawning: Job[aiopip.Task]
    started = _launch.Launcher.started
    first = moment.startswith("before")

    def cancel_around(launcher: _launch.Launcher, state: TaskState) -> None:
        if first:
            spawning.cancel()
        started(launcher, state)
        if not first:
            spawning.cancel()

    monkeypatch.setattr(_launch.Launcher, "started", cancel_around)
    spawning = start(root.spawn(program("pause")))
    # A task of trio that was told of the start is about to go on, and gets what it has spawned.
    assert await outcome(spawning, root) is (first or not on_trio())
    monkeypatch.undo()
    await still_works(root)


async def test_cancelled_again_while_its_child_is_being_reaped(
    root: aiopip.Root, program: Programs
) -> None:
    for count in range(10):
        spawning = start(root.spawn(program("pause")))
        await turns(count % 3)
        for _ in range(5):
            spawning.cancel()
            await turns(1)
        await outcome(spawning, root)


async def test_cancelled_while_others_start(root: aiopip.Root, program: Programs) -> None:
    """Every second of many at once: the others run, and nothing is left of those."""
    spawning = [start(root.spawn(program("pause"))) for _ in range(60)]
    await turns(2)
    for one in spawning[::2]:
        one.cancel()
    ended = await outcomes(*spawning)
    alive = [one for one in ended if isinstance(one, aiopip.Task)]
    assert set(spawning[1::2]) <= {spawning[ended.index(task)] for task in alive}
    assert children() == {task.pid for task in alive}
    root.kill_all()
    assert [await task.wait() for task in alive] == [-9] * len(alive)


async def test_cancelled_while_it_waits_for_a_slot(program: Programs) -> None:
    async with aiopip.Root(max_tasks=1) as root:
        for _ in range(20):
            task = await root.spawn(program("pause"))
            task.kill()
            await task.wait()
            spawning = start(root.spawn(program("pause")))
            await turns(1)
            spawning.cancel()
            await outcome(spawning, root)
        await still_works(root)


async def test_timeout_around_spawn_and_wait(root: aiopip.Root) -> None:
    async def run() -> None:
        task = await root.spawn("sleep", "1000")
        try:
            await task.wait()
        finally:
            task.kill()

    for timeout_s in (0, 1e-5, 1e-4, 1e-3, 1e-2):
        with pytest.raises(TimeoutError), anyio.fail_after(timeout_s):
            await run()
    for task in list(root.tasks.values()):
        assert await task.wait() == -9
    assert not children()


def test_coroutine_that_is_closed_leaves_no_child(program: Programs) -> None:
    """The coroutine is dropped by hand: it may not wait, and the Root's exit reaps the child."""

    async def main() -> None:
        async with aiopip.Root() as root:
            for _ in range(5):
                coroutine = root.spawn(program("pause"))
                coroutine.send(None)
                coroutine.close()
        assert not children()

    asyncio.run(main())
