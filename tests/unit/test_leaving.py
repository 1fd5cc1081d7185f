"""The end of a Root's block, and of a Root that nobody leaves."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest
from jobs import begun, cancelled, start, turns
from loops import CANCELLED_TWICE, only
from support import check_in_fork
from unit.fake_client import FakeClient, Stage, ended, failed, started

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

TERM_ALL = [("kill", 0, signal.SIGTERM), ("kill", 0, signal.SIGCONT)]
KILL_ALL = [("kill", 0, signal.SIGKILL)]


class Block:
    """A Root's block that runs in a job of its own."""

    def __init__(self, client: FakeClient, grace_s: float) -> None:
        self.client = client
        self.root = aiopip.Root(max_tasks=4, grace_s=grace_s)
        self.body = anyio.Event()
        self.error: BaseException | None = None
        self.running = start(self._run())

    async def _run(self) -> None:
        async with self.root:
            await self.body.wait()
            if self.error is not None:
                raise self.error

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.body.set()


async def block_with_a_task(client: FakeClient, grace_s: float = 3600) -> tuple[Block, Stage]:
    block = Block(client, grace_s)
    await turns(5)
    stage = Stage(block.root, client)
    await stage.task()
    return block, stage


async def test_leaving_waits_for_all_and_collects(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    task = stage.root.tasks[0]
    block.end()
    await turns(5)
    assert not block.running.done()
    assert stage.calls("kill", "close") == []
    stage.client.deliver(ended(0, 3 << 8))
    await block.running
    assert stage.calls("close") == [("close",)]
    assert await task.wait() == task.wait_nowait() == 3


async def test_exception_terminates_and_leaves_when_all_are_reaped(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    block.end(ZeroDivisionError())
    await turns(5)
    assert stage.calls("kill") == TERM_ALL
    assert not block.running.done()
    stage.client.deliver(ended(0, 15))
    with pytest.raises(ZeroDivisionError):
        await block.running


async def test_kill_follows_after_the_grace(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client, grace_s=0.01)
    killed = anyio.Event()
    client.on_kill = lambda signum: killed.set() if signum == signal.SIGKILL else None
    block.end(ZeroDivisionError())
    await killed.wait()
    assert stage.calls("kill") == TERM_ALL + KILL_ALL
    stage.client.deliver(ended(0, 9))
    with pytest.raises(ZeroDivisionError):
        await block.running


async def test_no_grace_kills_at_once(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client, grace_s=0)
    block.end(ZeroDivisionError())
    await turns(5)
    assert stage.calls("kill")[0] == KILL_ALL[0]
    assert ("kill", 0, signal.SIGTERM) not in stage.calls("kill")
    stage.client.deliver(ended(0, 9))
    with pytest.raises(ZeroDivisionError):
        await block.running


async def test_cancellation_while_it_waits_terminates(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    block.end()
    await turns(5)
    block.running.cancel()
    await turns(5)
    assert stage.calls("kill") == TERM_ALL
    assert not block.running.done()
    stage.client.deliver(ended(0, 15))
    with pytest.raises(cancelled()):
        await block.running


@only("asyncio", reason=CANCELLED_TWICE)
async def test_second_cancellation_kills_and_waits_all_the_same(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    block.running.cancel()
    await turns(5)
    assert stage.calls("kill") == TERM_ALL
    for _ in range(2):
        block.running.cancel()
        await turns(5)
        assert stage.calls("kill") == TERM_ALL + KILL_ALL
        assert not block.running.done()
    stage.client.deliver(ended(0, 9))
    with pytest.raises(cancelled()):
        await block.running


@only("asyncio", reason=CANCELLED_TWICE)
async def test_cancellation_behind_an_exception_is_raised(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    block.end(ZeroDivisionError())
    await turns(5)
    block.running.cancel()
    await turns(5)
    assert stage.calls("kill") == TERM_ALL + KILL_ALL
    stage.client.deliver(ended(0, 9))
    with pytest.raises(cancelled()) as caught:
        await block.running
    contexts = [caught.value.__context__]
    while contexts[-1] is not None:
        contexts.append(contexts[-1].__context__)
    assert any(isinstance(context, ZeroDivisionError) for context in contexts)


async def test_spawns_of_others_are_ended_and_closed(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    under_way = await begun(stage.root.spawn("b"))
    about_to_start = await begun(stage.root.spawn("c"))
    block.end()
    await turns(5)
    assert stage.calls("cancel") == [("cancel", 1), ("cancel", 2)]
    with pytest.raises(aiopip.ClosedError):
        await stage.root.spawn("d")
    stage.client.deliver(failed(1), started(2))
    with pytest.raises(aiopip.ClosedError):
        await under_way
    assert not about_to_start.done()
    stage.client.deliver(ended(0), ended(2, 9))
    with pytest.raises(aiopip.ClosedError):
        await about_to_start
    await block.running


async def test_spawn_that_waits_for_a_slot_is_closed(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    stage.client.spawn_results.append(-11)
    waiting = await begun(stage.root.spawn("b"))
    block.end()
    with pytest.raises(aiopip.ClosedError):
        await waiting
    stage.client.deliver(ended(0))
    await block.running


async def test_wait_any_of_others_ends_with_the_block(client: FakeClient) -> None:
    block, stage = await block_with_a_task(client)
    task = stage.root.tasks[0]
    waits = [await begun(stage.root.wait_any()) for _ in range(2)]
    block.end()
    await turns(5)
    stage.client.deliver(ended(0))
    assert await waits[0] is task
    with pytest.raises(aiopip.NoTasksError):
        await waits[1]
    await block.running


async def test_use_after_the_end_is_closed(client: FakeClient) -> None:
    async with aiopip.Root() as root:
        pass
    with pytest.raises(aiopip.ClosedError):
        await root.spawn("a")
    with pytest.raises(aiopip.ClosedError):
        await root.wait_any()
    for call in (root.wait_any_nowait, root.kill_all, root.abort, root.events, root.statistics):
        with pytest.raises(aiopip.ClosedError):
            call()
    with pytest.raises(aiopip.ClosedError):
        await root.__aenter__()
    assert "closed" in repr(root)


async def test_use_before_the_block_is_closed() -> None:
    root = aiopip.Root()
    with pytest.raises(aiopip.ClosedError, match="async with"):
        await root.spawn("a")
    assert "not entered" in repr(root)


async def test_abort_delivers_what_it_reaped(stage: Stage) -> None:
    task = await stage.task()
    wait = await begun(task.wait())
    spawn = await begun(stage.root.spawn("b"))
    stage.client.on_abort += [ended(0, 9), failed(1)]
    stage.root.abort()
    assert await wait == -9
    with pytest.raises(aiopip.ClosedError):
        await spawn
    assert stage.calls("abort", "close") == [("abort", 1000), ("close",)]
    await stage.root.__aexit__(None, None, None)  # does nothing
    assert stage.calls("close") == [("close",)]


async def test_abort_says_what_it_could_not_reap(stage: Stage) -> None:
    task = await stage.task()
    wait = await begun(task.wait())
    stage.client.left_after_abort = 1
    stage.client.close_result = -16
    with pytest.raises(aiopip.TasksAliveError, match="1 tasks"):
        stage.root.abort()
    for result in (wait, task.wait()):
        with pytest.raises(aiopip.ClosedError):
            await result


async def test_second_root_is_busy(stage: Stage) -> None:
    assert aiopip.current_root() is stage.root
    with pytest.raises(aiopip.RootBusyError):
        await aiopip.Root().__aenter__()
    assert aiopip.current_root() is stage.root


async def test_without_a_root_nothing_is_initialized(client: FakeClient) -> None:
    with pytest.raises(aiopip.NotInitializedError):
        aiopip.current_root()
    async with aiopip.Root():
        pass
    with pytest.raises(PermissionError):
        aiopip.current_root()


async def test_other_thread_is_refused(stage: Stage) -> None:
    task = await stage.task()
    caught: list[BaseException] = []

    def use() -> None:
        for call in (stage.root.kill_all, stage.root.events, task.kill, task.wait_nowait):
            with pytest.raises(RuntimeError) as refused:
                call()
            caught.append(refused.value)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert [type(error) for error in caught] == [aiopip.WrongThreadError] * 4


async def test_forked_child_is_refused_and_leaves_the_parent_alone(stage: Stage) -> None:
    task = await stage.task()

    def refused() -> None:
        for call in (stage.root.kill_all, task.kill, task.wait_nowait, stage.root.abort):
            with pytest.raises(aiopip.ForkedError):
                call()
        with pytest.raises(aiopip.NotInitializedError):
            aiopip.current_root()
        with pytest.raises(aiopip.ForkedError):
            aiopip.Root().__aenter__().send(None)

    check_in_fork(refused)
    assert stage.calls("kill", "abort", "close") == []
    task.kill()


def test_root_of_a_closed_loop_is_ended_by_the_next(new_client: Callable[[], FakeClient]) -> None:
    async def leave_open() -> aiopip.Root:
        client.post(started(0))
        root = await aiopip.Root().__aenter__()
        await root.spawn("a")
        return root

    async def open_another() -> None:
        async with aiopip.Root() as root:
            assert aiopip.current_root() is root

    client = new_client()
    stranded = asyncio.run(leave_open())
    second = new_client()
    with pytest.warns(ResourceWarning, match="its 1 live tasks were killed"):
        asyncio.run(open_another())
    assert [call[0] for call in client.calls] == ["abort", "close"]
    assert [call[0] for call in second.calls] == ["close"]
    assert "closed" in repr(stranded)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("max_tasks", {"max_tasks": 0}),
        ("max_tasks", {"max_tasks": 4097}),
        ("mode", {"mode": "thread"}),
        ("grace_s", {"grace_s": -1}),
        ("grace_s", {"grace_s": float("nan")}),
        ("grace_s", {"grace_s": float("inf")}),
    ],
)
def test_root_refuses_what_is_out_of_range(argument: str, options: dict[str, Any]) -> None:
    with pytest.raises(aiopip.InvalidArgumentError) as caught:
        aiopip.Root(**options)
    assert caught.value.argument == argument
