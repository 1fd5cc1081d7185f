"""Spawns under way: failures, cancellation at each step, the queue for slots."""

from __future__ import annotations

import contextlib
import errno
import gc
import signal
from typing import TYPE_CHECKING

import pytest
from jobs import Job, begun, cancelled, turns
from loops import ABOUT_TO_GO_ON, only
from unit.fake_client import ended, failed, started

import aiopip
from aiopip._records import Failure, Reclaimed

if TYPE_CHECKING:
    from typing import TypeVar

    from unit.fake_client import Stage

    T = TypeVar("T")

AGAIN = -errno.EAGAIN
BUSY = -errno.EBUSY


async def is_cancelled(running: Job[T]) -> bool:
    """Whether a coroutine ends by its cancellation."""
    with pytest.raises(cancelled()):
        await running
    return running.cancelled()


async def test_spawn_returns_a_started_task(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("bin/program", "a"))
    stage.client.deliver(started(0))
    task = await spawn
    assert (task.pid, task.pipid, task.name, task.shared) == (1000, 0, "program", True)
    assert repr(task) == "<aiopip.Task 'program' pipid=0 pid=1000 running>"
    assert stage.client.requests[0].argv == b"bin/program\0a\0"


async def test_task_that_has_ended_by_then_is_returned(stage: Stage) -> None:
    stream = stage.root.events()
    any_wait = await begun(stage.root.wait_any())
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(started(0), ended(0, 3 << 8))
    task = await spawn
    assert task.status == 3
    assert await anext(stream) == aiopip.Exited(task, aiopip.ExitStatus(3 << 8))
    with pytest.raises(aiopip.NoTasksError):
        await any_wait  # it began before there was a task


async def test_wait_any_counts_a_spawn_under_way(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    any_wait = await begun(stage.root.wait_any())
    stage.client.deliver(started(0), ended(0))
    assert await any_wait is await spawn


async def test_wait_any_learns_of_a_failed_spawn(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    any_wait = await begun(stage.root.wait_any())
    stage.client.deliver(failed(0, Failure.NOT_PIE, errno.ENOEXEC))
    with pytest.raises(aiopip.NotPieError):
        await spawn
    with pytest.raises(aiopip.NoTasksError):
        await any_wait


async def test_failure_is_raised_and_leaves_no_task(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(failed(0, Failure.PROGRAM, errno.ENOENT))
    with pytest.raises(FileNotFoundError, match="'program'"):
        await spawn
    assert not stage.root.tasks
    assert not stage.core.live


async def test_failure_leaves_no_reference_cycle(stage: Stage) -> None:
    def errors() -> int:
        return sum(isinstance(value, aiopip.AiopipError) for value in gc.get_objects())

    gc.collect()
    before = errors()
    gc.disable()
    try:
        for number in range(3):
            stage.client.post(failed(number, Failure.STATIC, errno.ENOEXEC))
            with contextlib.suppress(aiopip.BadProgramError):
                await stage.root.spawn("program")
            with contextlib.suppress(aiopip.NoTasksError):
                await stage.root.wait_any()
        assert errors() == before
    finally:
        gc.enable()


async def test_taken_slot_is_busy(stage: Stage) -> None:
    stage.client.spawn_results += [BUSY, BUSY]
    with pytest.raises(aiopip.SlotBusyError, match="PiP ID 2"):
        await stage.root.spawn("program", pipid=2)
    with pytest.raises(aiopip.SlotBusyError, match="all 4 slots"):
        await stage.root.spawn("program")


async def test_refusal_by_the_core_has_its_errno(stage: Stage) -> None:
    stage.client.spawn_results.append(-errno.ENOMEM)
    with pytest.raises(aiopip.CallError) as caught:
        await stage.root.spawn("program")
    assert caught.value.errno == errno.ENOMEM


async def test_spawn_waits_for_memory_of_ended_tasks(stage: Stage) -> None:
    stage.client.spawn_results += [AGAIN, AGAIN]
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(Reclaimed(-1, 0))
    assert not spawn.done()
    stage.client.deliver(Reclaimed(-1, 0), started(0))
    assert (await spawn).pid == 1000


async def test_spawns_for_any_slot_are_served_in_order(stage: Stage) -> None:
    stage.client.spawn_results.append(AGAIN)
    spawns = [await begun(stage.root.spawn(name)) for name in "abc"]
    # The later ones have not even asked: they must not overtake.
    assert [request.program for request in stage.client.requests] == [b"a\0"]
    stage.client.spawn_results += [0, AGAIN]
    stage.client.deliver(Reclaimed(-1, 0), started(0))
    assert (await spawns[0]).name == "a"
    stage.client.deliver(Reclaimed(-1, 0), started(1), started(2))
    assert [(await spawn).name for spawn in spawns[1:]] == ["b", "c"]


async def test_spawn_for_its_own_slot_passes_those_that_wait(stage: Stage) -> None:
    stage.client.spawn_results.append(AGAIN)
    waiting = await begun(stage.root.spawn("a"))
    other = await begun(stage.root.spawn("b", pipid=3))
    stage.client.deliver(started(0))
    assert (await other).name == "b"
    waiting.cancel()
    assert await is_cancelled(waiting)


async def test_slot_taken_meanwhile_is_busy(stage: Stage) -> None:
    stage.client.spawn_results += [AGAIN, BUSY]
    spawn = await begun(stage.root.spawn("program", pipid=2))
    stage.client.deliver(Reclaimed(-1, 0))
    with pytest.raises(aiopip.SlotBusyError):
        await spawn


async def test_cancelled_in_the_queue_it_leaves_it(stage: Stage) -> None:
    stage.client.spawn_results.append(AGAIN)
    first, second = [await begun(stage.root.spawn(name)) for name in "ab"]
    first.cancel()
    stage.client.deliver(Reclaimed(-1, 0), started(0))  # before the cancelled one has run
    assert (await second).name == "b"
    assert await is_cancelled(first)
    assert [request.program for request in stage.client.requests] == [b"a\0", b"b\0"]


async def test_cancelled_before_the_start_it_waits_for_the_failure(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    spawn.cancel()
    await turns(1)
    assert stage.calls("cancel", "kill") == [("cancel", 0)]
    spawn.cancel()  # again: it must not leave now
    await turns(1)
    assert not spawn.done()
    stage.client.deliver(failed(0))
    assert await is_cancelled(spawn)


async def test_cancelled_under_way_it_waits_for_the_end(stage: Stage) -> None:
    stream = stage.root.events()
    spawn = await begun(stage.root.spawn("program"))
    spawn.cancel()
    await turns(1)
    stage.client.deliver(started(0))
    await turns(1)
    assert not spawn.done()
    assert stage.calls("cancel", "kill") == [("cancel", 0), ("kill", 0, signal.SIGKILL)]
    stage.client.deliver(ended(0, 9))
    assert await is_cancelled(spawn)
    # Nobody has seen this task.
    with pytest.raises(aiopip.NoTasksError):
        await stage.root.wait_any()
    await stage.root.__aexit__(None, None, None)
    assert [event async for event in stream] == []


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_when_it_has_just_started_the_child_is_killed(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(started(0))
    spawn.cancel()  # in the same iteration
    await turns(1)
    assert stage.calls("cancel", "kill") == [("kill", 0, signal.SIGKILL)]
    assert not spawn.done()
    stage.client.deliver(ended(0, 9))
    assert await is_cancelled(spawn)


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_when_it_has_just_ended_it_leaves_at_once(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(started(0), ended(0))
    spawn.cancel()
    assert await is_cancelled(spawn)
    assert stage.calls("cancel", "kill") == []
    with pytest.raises(aiopip.NoTasksError):
        stage.root.wait_any_nowait()


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_when_it_has_just_failed_it_leaves_at_once(stage: Stage) -> None:
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(failed(0, Failure.STATIC, errno.ENOEXEC))
    spawn.cancel()
    assert await is_cancelled(spawn)


async def test_closed_coroutine_leaves_its_child_to_the_root(stage: Stage) -> None:
    coroutine = stage.root.spawn("program")
    coroutine.send(None)
    coroutine.close()
    assert stage.calls("cancel") == [("cancel", 0)]
    stage.client.deliver(started(0), ended(0, 9))
    with pytest.raises(aiopip.NoTasksError):
        stage.root.wait_any_nowait()


async def test_bad_arguments_do_not_reach_the_core(stage: Stage) -> None:
    with pytest.raises(aiopip.InvalidArgumentError):
        await stage.root.spawn("a\0b")
    assert stage.client.requests == []
