"""Roots and event loops: one loop behind another, loops in threads, tasks that enter and leave."""

from __future__ import annotations

import gc
import itertools
import subprocess
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from jobs import start, turns
from loops import INSTALLED, Kind, only
from support import all_gone, clean_root, is_gone, ready, still_works, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable

EACH_KIND = pytest.mark.parametrize("kind", INSTALLED, ids=lambda kind: kind.name)


async def use_a_root() -> None:
    async with clean_root() as root:
        await still_works(root)


# One behind the other


def test_root_may_be_opened_in_one_loop_after_another() -> None:
    for kinds in itertools.product(INSTALLED, repeat=2):
        for kind in kinds:
            kind.run(use_a_root)
            with pytest.raises(aiopip.NotInitializedError):
                aiopip.current_root()


@pytest.mark.parametrize("second", INSTALLED, ids=lambda kind: f"then {kind.name}")
@EACH_KIND
def test_root_whose_loop_is_gone_is_ended_by_the_next(kind: Kind, second: Kind) -> None:
    async def open_and_forget() -> tuple[aiopip.Root, aiopip.Task]:
        root = aiopip.Root()
        await root.__aenter__()
        return root, await root.spawn("sleep", "1000")

    stranded, task = kind.run(open_and_forget)
    assert not is_gone(task.pid)

    async def open_next() -> None:
        async with aiopip.Root() as root:
            assert is_gone(task.pid)
            await still_works(root)

    with pytest.warns(ResourceWarning, match="1 live task"):
        second.run(open_next)
    with pytest.raises(aiopip.ClosedError):
        stranded.statistics()


@EACH_KIND
def test_root_that_nobody_left_or_refers_to_is_kept_until_its_loop_is_gone(kind: Kind) -> None:
    pids: list[int] = []

    async def drop() -> weakref.ref[aiopip.Root]:
        root = aiopip.Root()
        await root.__aenter__()
        pids.extend([(await root.spawn("sleep", "1000")).pid for _ in range(3)])
        dropped = weakref.ref(root)
        del root
        gc.collect()
        await turns(5)
        # It goes on as ever: who asks for it finds it.
        assert not any(is_gone(pid) for pid in pids)
        assert aiopip.current_root() is dropped()
        await still_works(aiopip.current_root())
        return dropped

    dropped = kind.run(drop)
    gc.collect()
    assert dropped() is not None
    with pytest.warns(ResourceWarning, match="3 live tasks"):
        kind.run(use_a_root)
    assert all_gone(pids)
    gc.collect()
    assert dropped() is None


@EACH_KIND
def test_what_a_stranded_root_gave_may_be_dropped_when_its_loop_is_gone(kind: Kind) -> None:
    """Tasks, exports and streams that outlive their loop: none calls into it."""

    async def leave_all_open() -> list[Any]:
        root = aiopip.Root()
        await root.__aenter__()
        export = root.export("words", b"in the root")
        return [root, root.events(), export, await root.spawn("sleep", "1000")]

    left = kind.run(leave_all_open)
    with pytest.warns(ResourceWarning, match="1 live task"):
        kind.run(use_a_root)
    left.clear()
    gc.collect()
    kind.run(use_a_root)


# In threads


def in_threads(*functions: Callable[[], None]) -> None:
    """Call functions in a thread each; the first error of one is raised here."""
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=[function]) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


@EACH_KIND
def test_loops_in_threads_have_a_root_one_at_a_time(kind: Kind) -> None:
    opened, refused, closed = threading.Event(), threading.Event(), threading.Event()

    async def first() -> None:
        async with clean_root() as root:
            opened.set()
            while not refused.is_set():
                await still_works(root)
        closed.set()

    async def second() -> None:
        await until(opened.is_set)
        with pytest.raises(aiopip.RootBusyError):
            await aiopip.Root().__aenter__()
        stranger = aiopip.current_root()
        for use in (stranger.kill_all, stranger.statistics, stranger.abort, stranger.events):
            with pytest.raises(aiopip.WrongThreadError):
                use()
        with pytest.raises(aiopip.WrongThreadError):
            await stranger.spawn("true")
        refused.set()
        await until(closed.is_set)
        await use_a_root()

    in_threads(lambda: kind.run(first), lambda: kind.run(second))


def test_loops_of_all_kinds_take_turns_in_threads() -> None:
    """Whoever finds the Root open tries again; in the end each has had it five times."""
    had: list[str] = []

    async def five_times(kind: Kind) -> None:
        for _ in range(5):
            while True:
                try:
                    await use_a_root()
                    break
                except aiopip.RootBusyError:
                    await anyio.sleep(0.002)
            had.append(kind.name)

    in_threads(*[lambda kind=kind: kind.run(five_times, kind) for kind in INSTALLED])
    assert sorted(had) == sorted([kind.name for kind in INSTALLED] * 5)


# Entered in one task, left in another


async def test_root_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    root = aiopip.Root()
    await start(root.__aenter__())
    task = await root.spawn("sleep", "1000")
    waiting = start(task.wait())
    await start(root.__aexit__(KeyError, KeyError(), None))
    assert await waiting == task.status == -15


async def test_root_outlives_the_task_group_in_which_it_was_entered() -> None:
    """A Root takes no part in the group's cancellation: what it started itself goes on."""
    root = aiopip.Root()
    async with anyio.create_task_group() as group:
        group.start_soon(root.__aenter__)
    async with anyio.create_task_group() as group:
        group.start_soon(wait_for_ever)
        await still_works(root)
        group.cancel_scope.cancel()
    await still_works(root)
    async with anyio.create_task_group() as group:
        group.start_soon(root.__aexit__, None, None, None)
    assert "closed" in repr(root)


async def wait_for_ever() -> None:
    await anyio.sleep_forever()


async def test_root_may_be_entered_in_a_cancelled_scope_and_used_outside() -> None:
    root = aiopip.Root()
    with anyio.CancelScope() as scope:
        await root.__aenter__()
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    await still_works(root)
    await root.__aexit__(None, None, None)


async def generator() -> Any:
    async with aiopip.Root() as root:
        yield root


async def test_root_in_an_async_generator_is_left_by_another_task() -> None:
    """What fixtures of pytest plugins do: begin a generator in one task, and end it in another."""
    made = generator()

    async def begin() -> aiopip.Root:
        root: aiopip.Root = await anext(made)
        return root

    async def end() -> None:
        with pytest.raises(StopAsyncIteration):
            await anext(made)

    root = await start(begin())
    task = await root.spawn("true")
    await start(end())
    assert task.status == 0


@only("asyncio", reason="trio closes generators before the run ends, asyncio by its loop's hooks")
async def test_root_in_a_generator_that_is_dropped_is_ended() -> None:
    """Its loop closes the generator, in a task of its own: the block is left by an exception."""
    made = generator()
    root = await anext(made)
    task = await root.spawn("sleep", "1000")
    del made, root
    gc.collect()
    await until(lambda: task.status is not None)
    assert task.status == -15


# Cancelled by anyio's scopes, which cancel again and again as long as one is inside


TAKES_ITS_TIME = "trap 'sleep 0.2; exit 7' TERM; echo ready; while :; do sleep 0.01; done"


async def test_cancelled_scope_leaves_tasks_their_grace() -> None:
    tasks: list[aiopip.Task] = []
    scope = anyio.CancelScope()

    async def block() -> None:
        with scope:
            async with aiopip.Root(grace_s=1000) as root:
                tasks.append(await ready(root, "sh", "-c", TAKES_ITS_TIME))
                await anyio.sleep_forever()

    running = start(block())
    await until(lambda: bool(tasks))
    scope.cancel()
    await running
    assert scope.cancelled_caught
    assert tasks[0].status == 7


async def test_time_limit_around_a_root_leaves_tasks_their_grace() -> None:
    tasks: list[aiopip.Task] = []
    with pytest.raises(TimeoutError), anyio.fail_after(0.3):
        async with aiopip.Root(grace_s=1000) as root:
            tasks.append(await root.spawn("sh", "-c", TAKES_ITS_TIME, stdout=subprocess.DEVNULL))
    # The limit may have come before the shell had its trap.
    assert tasks[0].status in (7, -15)
