"""The life of a Root: one at a time, used in its loop's thread, and what leaving it does."""

# The exceptions leave a block that has an `async with` in it.
# ruff: noqa: PT012, PT031

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from jobs import cancelled, gather, outcomes, start, turns
from loops import CANCELLED_TWICE, only, run_in_thread_loop
from support import (
    all_gone,
    check_in_fork,
    children,
    clean_root,
    is_gone,
    pipe,
    still_works,
    until,
)

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from integration.conftest import Programs


# Leaving


async def test_leaving_waits_for_all_tasks() -> None:
    async with aiopip.Root() as root:
        tasks = [await root.spawn("sleep", "0.05") for _ in range(5)]
    assert [task.status for task in tasks] == [0] * 5
    assert all_gone(task.pid for task in tasks)


async def test_leaving_with_nothing_started() -> None:
    async with aiopip.Root():
        pass
    async with aiopip.Root(max_tasks=1):
        pass


async def test_exception_terminates_tasks() -> None:
    with pytest.raises(KeyError, match="from the block"):
        async with aiopip.Root() as root:
            tasks = [await root.spawn("sleep", "1000") for _ in range(5)]
            raise KeyError("from the block")
    assert [task.status for task in tasks] == [-15] * 5
    assert all_gone(task.pid for task in tasks)


async def test_task_that_ignores_term_is_killed_after_the_grace(program: Programs) -> None:
    async with pipe() as made:
        with pytest.raises(KeyError):
            async with aiopip.Root(grace_s=0.2) as root:
                task = await root.spawn(program("stubborn"), stdout=made.writer)
                assert await made.line() == b"ready"
                start = time.monotonic()
                raise KeyError
        assert task.status == -9
        assert time.monotonic() - start >= 0.2
        assert await made.line() == b"TERM"


async def test_without_grace_tasks_are_killed_at_once(program: Programs) -> None:
    async with pipe() as made:
        with pytest.raises(KeyError):
            async with aiopip.Root(grace_s=0) as root:
                task = await root.spawn(program("stubborn"), stdout=made.writer)
                assert await made.line() == b"ready"
                raise KeyError
        assert task.status == -9
        assert await made.line() == b""


async def test_stopped_task_is_terminated_too() -> None:
    with pytest.raises(KeyError):
        async with aiopip.Root(grace_s=1000) as root:
            task = await root.spawn("sleep", "1000")
            task.send_signal(19)
            raise KeyError
    assert task.status == -15


async def test_cancelled_while_leaving_terminates_and_reaps() -> None:
    tasks: list[aiopip.Task] = []

    async def block() -> None:
        async with aiopip.Root() as root:
            tasks.extend([await root.spawn("sleep", "1000") for _ in range(3)])

    running = start(block())
    await until(lambda: len(tasks) == 3)
    await turns(5)
    running.cancel()
    with pytest.raises(cancelled()):
        await running
    assert [task.status for task in tasks] == [-15] * 3


@only("asyncio", reason=CANCELLED_TWICE)
async def test_second_cancellation_kills_at_once_and_reaps(program: Programs) -> None:
    async with pipe() as made:
        tasks: list[aiopip.Task] = []

        async def block() -> None:
            async with aiopip.Root(grace_s=1000) as root:
                tasks.append(await root.spawn(program("stubborn"), stdout=made.writer))

        running = start(block())
        assert await until_line(made) == b"ready"
        running.cancel()
        assert await made.line() == b"TERM"
        assert not running.done()
        running.cancel()
        with pytest.raises(cancelled()):
            await running
    assert tasks[0].status == -9
    assert is_gone(tasks[0].pid)


async def until_line(made: Any) -> bytes:
    """The first line of a pipe whose writing end another coroutine hands over first."""
    await turns(3)
    await anyio.sleep(0.05)
    return bytes(await made.line())


async def test_waits_pending_when_the_root_is_left_get_their_status() -> None:
    with pytest.raises(KeyError):
        async with aiopip.Root() as root:
            task = await root.spawn("sleep", "1000")
            waits = [start(task.wait()) for _ in range(3)]
            anyone = start(root.wait_any())
            await turns(2)
            raise KeyError
    assert await gather(*waits) == [-15] * 3
    with pytest.raises(aiopip.NoTasksError):
        await anyone


async def test_spawns_under_way_when_the_root_is_left_are_closed_or_waited_for() -> None:
    """What has started by then is a task as any, and the others leave no child."""
    async with aiopip.Root() as root:
        spawning = [start(root.spawn("sleep", "0.1")) for _ in range(10)]
        await turns(1)
    assert not children()
    ended = await outcomes(*spawning)
    closed = [one for one in ended if isinstance(one, aiopip.ClosedError)]
    started = [one for one in ended if isinstance(one, aiopip.Task)]
    assert len(closed) + len(started) == 10
    assert closed
    assert all(task.status == 0 for task in started)


async def test_abort_ends_all_at_once(program: Programs) -> None:
    async with pipe() as made:
        async with aiopip.Root(grace_s=1000) as root:
            tasks = [await root.spawn("sleep", "1000") for _ in range(10)]
            tasks.append(await root.spawn(program("stubborn"), stdout=made.writer))
            wait = start(tasks[0].wait())
            await turns(2)
            root.abort()
            assert [task.status for task in tasks] == [-9] * 11
            assert all_gone(task.pid for task in tasks)
            with pytest.raises(aiopip.ClosedError):
                await root.spawn("true")
        assert await wait == -9


async def test_kill_all_sends_any_signal(root: aiopip.Root) -> None:
    root.kill_all()
    tasks = [await root.spawn("sleep", "1000") for _ in range(5)]
    root.kill_all(10)
    assert [await task.wait() for task in tasks] == [-10] * 5
    root.kill_all()


# One at a time


async def test_second_root_is_refused_and_the_first_goes_on(root: aiopip.Root) -> None:
    with pytest.raises(aiopip.RootBusyError, match="current_root") as caught:
        async with aiopip.Root():
            pytest.fail("was entered")
    assert caught.value.errno == 16
    assert aiopip.current_root() is root
    await still_works(root)


async def test_root_may_be_opened_again() -> None:
    for _ in range(20):
        async with clean_root() as root:
            assert aiopip.current_root() is root
            await still_works(root)
        with pytest.raises(aiopip.NotInitializedError):
            aiopip.current_root()


def test_root_may_be_opened_in_another_loop() -> None:
    async def main() -> None:
        async with clean_root() as root:
            await still_works(root)

    for _ in range(5):
        asyncio.run(main())


async def test_root_may_be_opened_in_another_thread() -> None:
    async def main() -> None:
        async with clean_root() as root:
            await still_works(root)

    await run_in_thread_loop(main)
    await main()
    await run_in_thread_loop(main)


async def test_root_is_entered_once() -> None:
    root = aiopip.Root()
    with pytest.raises(aiopip.ClosedError, match="not open yet"):
        await root.spawn("true")
    async with root:
        with pytest.raises(aiopip.ClosedError, match="entered before"):
            await root.__aenter__()
    with pytest.raises(aiopip.ClosedError, match="entered before"):
        await root.__aenter__()


USES: list[Callable[[aiopip.Root], Any]] = [
    lambda root: root.tasks,
    lambda root: root.wait_any_nowait(),
    lambda root: root.kill_all(),
    lambda root: root.abort(),
    lambda root: root.events(),
    lambda root: root.statistics(),
    lambda root: root.spawn("true").send(None),
    lambda root: root.wait_any().send(None),
]


async def test_use_after_close_is_refused() -> None:
    async with aiopip.Root() as root:
        ended = await root.spawn("true")
        await ended.wait()
        unwaited = await root.spawn("true")
    for use in USES:
        with pytest.raises(aiopip.ClosedError):
            use(root)
    assert await ended.wait() == await unwaited.wait() == 0
    with pytest.raises(aiopip.TaskEndedError):
        ended.kill()
    with pytest.raises(aiopip.ClosedError):
        await ended.named_import("name")
    async with clean_root() as again:
        await still_works(again)


def test_use_from_another_loop_of_the_thread_is_refused() -> None:
    first = asyncio.new_event_loop()
    root = aiopip.Root()
    first.run_until_complete(root.__aenter__())

    async def use() -> None:
        for call in (root.spawn("true"), root.wait_any(), root.__aexit__(None, None, None)):
            with pytest.raises(aiopip.WrongThreadError, match="another event loop"):
                await call
        with pytest.raises(aiopip.WrongThreadError, match="another event loop"):
            root.statistics()

    asyncio.run(use())
    first.run_until_complete(root.__aexit__(None, None, None))
    first.close()


async def test_use_from_another_thread_is_refused(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")

    def use_all() -> int:
        refused = 0
        uses: list[Callable[[aiopip.Root], Any]] = [
            *USES,
            lambda _: task.kill(),
            lambda _: task.wait_nowait(),
            lambda _: task.wait().send(None),
            lambda _: task.named_import_nowait("x"),
        ]
        for use in uses:
            with pytest.raises(aiopip.WrongThreadError) as caught:
                use(root)
            assert isinstance(caught.value, RuntimeError)
            refused += 1
        return refused

    assert await anyio.to_thread.run_sync(use_all) == len(USES) + 4
    assert aiopip.current_root() is root
    await still_works(root)
    task.kill()


async def test_use_after_fork_is_refused(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    of_task: list[Callable[[aiopip.Root], Any]] = [
        lambda _: task.wait().send(None),
        lambda _: task.kill(),
    ]

    def refused() -> None:
        for use in USES + of_task:
            with pytest.raises(aiopip.ForkedError):
                use(root)
        with pytest.raises(aiopip.NotInitializedError):
            aiopip.current_root()
        gc.collect()

    check_in_fork(refused)
    assert task.status is None
    assert not is_gone(task.pid)
    await still_works(root)
    task.kill()
    assert await task.wait() == -9


# Roots that nobody leaves


def test_root_whose_loop_is_gone_is_ended_by_the_next() -> None:
    async def open_and_forget() -> aiopip.Task:
        root = aiopip.Root()
        await root.__aenter__()
        return await root.spawn("sleep", "1000")

    task = asyncio.run(open_and_forget())
    assert not is_gone(task.pid)

    async def open_next() -> None:
        with pytest.warns(ResourceWarning, match="1 live task"):
            async with aiopip.Root() as root:
                assert is_gone(task.pid)
                await still_works(root)

    asyncio.run(open_next())


async def test_dropped_task_runs_on_and_is_waited_for() -> None:
    reader, writer = os.pipe()
    async with aiopip.Root() as root:
        pid = (await root.spawn("cat", stdin=reader)).pid
        os.close(reader)
        gc.collect()
        await turns(5)
        assert not is_gone(pid)
        os.close(writer)
    assert is_gone(pid)


async def test_no_warning_is_made_in_an_ordinary_life() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with clean_root() as root:
            await still_works(root)
            await (await root.spawn(sys.executable, "-c", "")).wait()
        gc.collect()
