"""Who collects which end: wait, wait_any and their twins, on events of the test's choice."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

import pytest
from jobs import begun, cancelled, gather
from loops import ABOUT_TO_GO_ON, only
from unit.fake_client import ended

import aiopip

if TYPE_CHECKING:
    from typing import TypeVar

    from unit.fake_client import Stage

    T = TypeVar("T")


async def test_wait_gives_the_status(stage: Stage) -> None:
    task = await stage.task()
    assert (task.status, task.returncode, task.loaded) == (None, None, None)
    wait = await begun(task.wait())
    stage.client.deliver(ended(0, 3 << 8))
    status = await wait
    assert status == 3
    assert (status.started_ns, status.ended_ns, status.rusage.ru_utime) == (10, 20, 1.5)
    assert (task.status, task.returncode, task.loaded) == (3, 3, True)


async def test_many_may_wait_and_wait_again(stage: Stage) -> None:
    task = await stage.task()
    waits = [await begun(task.wait()) for _ in range(3)]
    stage.client.deliver(ended(0, 9))
    assert await gather(*waits) == [-9, -9, -9]
    assert await task.wait() == -9
    assert task.wait_nowait() == -9


async def test_wait_nowait_would_block_while_it_runs(stage: Stage) -> None:
    task = await stage.task()
    with pytest.raises(aiopip.WouldBlock, match=r"'program'.* has not ended"):
        task.wait_nowait()
    stage.client.deliver(ended(0))
    assert task.wait_nowait() == 0


async def test_cancelled_wait_leaves_the_task_running(stage: Stage) -> None:
    task = await stage.task()
    wait = await begun(task.wait())
    wait.cancel()
    with pytest.raises(cancelled()):
        await wait
    assert stage.calls("kill") == []
    stage.client.deliver(ended(0))
    assert stage.root.wait_any_nowait() is task


async def test_cancelled_wait_does_not_disturb_the_others(stage: Stage) -> None:
    task = await stage.task()
    first, second = await begun(task.wait()), await begun(task.wait())
    first.cancel()
    stage.client.deliver(ended(0))  # before the cancelled one has run
    assert await second == 0
    with pytest.raises(cancelled()):
        await first


async def test_wait_any_gives_each_end_once_in_order(stage: Stage) -> None:
    tasks = [await stage.task() for _ in range(3)]
    stage.client.deliver(ended(2), ended(0), ended(1))
    given = [await stage.root.wait_any() for _ in range(3)]
    assert given == [tasks[2], tasks[0], tasks[1]]
    with pytest.raises(aiopip.NoTasksError):
        await stage.root.wait_any()


async def test_waiting_wait_anys_get_one_task_each(stage: Stage) -> None:
    tasks = [await stage.task() for _ in range(2)]
    waits = [await begun(stage.root.wait_any()) for _ in range(2)]
    stage.client.deliver(ended(1), ended(0))
    assert await gather(*waits) == [tasks[1], tasks[0]]


async def test_task_with_a_pending_wait_is_not_wait_any_s(stage: Stage) -> None:
    first, second = await stage.task(), await stage.task()
    any_wait = await begun(stage.root.wait_any())
    wait = await begun(first.wait())
    stage.client.deliver(ended(0), ended(1))
    assert await any_wait is second
    assert await wait == 0


async def test_wait_collects_from_wait_any(stage: Stage) -> None:
    task = await stage.task()
    stage.client.deliver(ended(0))
    assert await task.wait() == 0
    with pytest.raises(aiopip.NoTasksError):
        stage.root.wait_any_nowait()


async def test_wait_any_nowait_tells_running_from_none(stage: Stage) -> None:
    with pytest.raises(aiopip.NoTasksError):
        stage.root.wait_any_nowait()
    task = await stage.task()
    with pytest.raises(aiopip.WouldBlock):
        stage.root.wait_any_nowait()
    stage.client.deliver(ended(0))
    assert stage.root.wait_any_nowait() is task


async def test_waiting_wait_any_learns_that_none_is_left(stage: Stage) -> None:
    task = await stage.task()
    wait = await begun(task.wait())
    any_waits = [await begun(stage.root.wait_any()) for _ in range(2)]
    stage.client.deliver(ended(0))
    assert await wait == 0
    for any_wait in any_waits:
        with pytest.raises(aiopip.NoTasksError):
            await any_wait


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_task_handed_to_a_cancelled_wait_any_goes_to_the_next(stage: Stage) -> None:
    task = await stage.task()
    first, second = await begun(stage.root.wait_any()), await begun(stage.root.wait_any())
    stage.client.deliver(ended(0))  # hands the task to the first
    first.cancel()
    assert await second is task
    with pytest.raises(cancelled()):
        await first


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_task_handed_to_a_cancelled_wait_any_goes_back_to_its_place(stage: Stage) -> None:
    tasks = [await stage.task() for _ in range(2)]
    any_wait = await begun(stage.root.wait_any())
    stage.client.deliver(ended(1), ended(0))
    any_wait.cancel()
    with pytest.raises(cancelled()):
        await any_wait
    assert [stage.root.wait_any_nowait() for _ in range(2)] == [tasks[1], tasks[0]]


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_end_reported_to_a_cancelled_wait_is_wait_any_s(stage: Stage) -> None:
    task = await stage.task()
    wait = await begun(task.wait())
    any_wait = await begun(stage.root.wait_any())
    stage.client.deliver(ended(0))  # reports it to the wait
    wait.cancel()
    assert await any_wait is task
    with pytest.raises(cancelled()):
        await wait


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_end_reported_to_one_of_two_waits_is_collected(stage: Stage) -> None:
    task = await stage.task()
    waits = [await begun(task.wait()) for _ in range(2)]
    any_wait = await begun(stage.root.wait_any())
    stage.client.deliver(ended(0))
    waits[0].cancel()
    assert await waits[1] == 0
    with pytest.raises(aiopip.NoTasksError):
        await any_wait


async def test_tasks_are_those_that_nobody_has_collected(stage: Stage) -> None:
    tasks = [await stage.task() for _ in range(3)]
    assert dict(stage.root.tasks) == {0: tasks[0], 1: tasks[1], 2: tasks[2]}
    stage.client.deliver(ended(0), ended(1))
    await tasks[0].wait()
    assert dict(stage.root.tasks) == {1: tasks[1], 2: tasks[2]}
    with pytest.raises(TypeError):
        stage.root.tasks[5] = tasks[0]  # type: ignore[index]


async def test_memory_may_go_once_the_task_is_collected(stage: Stage) -> None:
    tasks = [await stage.task(), await stage.task()]
    stage.client.deliver(ended(0), ended(1, hold=False))
    assert stage.calls("acknowledge") == []
    for task in tasks:
        await task.wait()
        await task.wait()
    assert stage.calls("acknowledge") == [("acknowledge", 0)]


async def test_lost_status_warns(stage: Stage) -> None:
    task = await stage.task()
    with pytest.warns(RuntimeWarning, match="taken by another wait"):
        stage.client.deliver(ended(0, 0xFF00, lost=True))
    status = await task.wait()
    assert status == 255
    assert status.lost


async def test_signal_reaches_the_core(stage: Stage) -> None:
    task = await stage.task()
    task.send_signal(signal.SIGUSR1)
    task.terminate()
    task.kill()
    sent = [call[2] for call in stage.calls("kill")]
    assert sent == [signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL]


async def test_task_that_leaves_the_space_is_shared_no_more(stage: Stage) -> None:
    task = await stage.task()
    seen = []
    # In the space; ended, with the event on the way; not in the space.
    for stage.client.shares_result in (1, -3, 0):
        seen.append(task.shared)
    stage.client.deliver(ended(0, left=True))
    assert [*seen, task.shared] == [True, True, False, False]


async def test_end_tells_that_a_task_had_left_the_space(stage: Stage) -> None:
    tasks = [await stage.task(), await stage.task()]
    stage.client.deliver(ended(0, left=True), ended(1))
    assert [task.shared for task in tasks] == [False, True]


async def test_signal_to_an_ended_task_is_a_process_lookup_error(stage: Stage) -> None:
    task = await stage.task()
    stage.client.kill_result = -3  # ended, and its event is on the way
    with pytest.raises(ProcessLookupError, match="'program'"):
        task.kill()
    stage.client.deliver(ended(0))
    with pytest.raises(aiopip.TaskEndedError):
        task.terminate()


@pytest.mark.parametrize(("number", "kind"), [(22, ValueError), (1, PermissionError)])
async def test_refused_signal_raises(stage: Stage, number: int, kind: type[Exception]) -> None:
    task = await stage.task()
    stage.client.kill_result = -number
    with pytest.raises(kind):
        task.send_signal(99)


async def test_events_tell_of_every_end_since_the_call(stage: Stage) -> None:
    tasks = [await stage.task() for _ in range(3)]
    stage.client.deliver(ended(0))
    stream = stage.root.events()
    stage.client.deliver(ended(1))
    next_event = await begun(anext(stream))
    assert await next_event == aiopip.Exited(tasks[1], aiopip.ExitStatus(0))
    waiting = await begun(anext(stream))
    waiting.cancel()
    stage.client.deliver(ended(2))
    with pytest.raises(cancelled()):
        await waiting
    assert (await anext(stream)).task is tasks[2]


async def test_events_end_with_the_root(stage: Stage) -> None:
    task = await stage.task()
    streams = stage.root.events(), stage.root.events()
    stage.client.deliver(ended(0))
    await stage.root.__aexit__(None, None, None)
    for stream in streams:
        assert [event.task async for event in stream] == [task]


async def test_dropped_stream_is_given_nothing(stage: Stage) -> None:
    stream = stage.root.events()
    assert stage.core.listeners
    del stream
    gc.collect()
    assert not stage.core.listeners
