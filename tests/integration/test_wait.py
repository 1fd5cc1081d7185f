"""Waiting for ends: who collects which task, once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import pytest
from jobs import cancelled, gather, outcomes, start, turns
from support import until

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


async def test_wait_gives_the_same_status_again(root: aiopip.Root, program: Programs) -> None:
    task = await root.spawn(program("code"), "3")
    first = await task.wait()
    assert first == 3
    assert await task.wait() is first
    assert task.wait_nowait() is first
    assert (task.returncode, task.status) == (3, first)


async def test_many_wait_for_one_task(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    waits = [start(task.wait()) for _ in range(100)]
    await turns(2)
    task.terminate()
    assert await gather(*waits) == [-15] * 100


async def test_cancelled_wait_leaves_task_and_other_waits_alone(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    first, second = start(task.wait()), start(task.wait())
    await turns(2)
    first.cancel()
    with pytest.raises(cancelled()):
        await first
    assert task.status is None
    task.kill()
    assert await second == -9


async def test_wait_that_times_out_collects_nothing(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await task.wait()
    task.kill()
    assert await root.wait_any() is task


async def test_wait_nowait_would_block_while_it_runs(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    with pytest.raises(aiopip.WouldBlock) as caught:
        task.wait_nowait()
    assert isinstance(caught.value, BlockingIOError)
    with pytest.raises(aiopip.WouldBlock):
        root.wait_any_nowait()
    task.kill()
    await until(lambda: task.status is not None)
    assert task.wait_nowait() == -9
    with pytest.raises(aiopip.NoTasksError):
        root.wait_any_nowait()


async def test_wait_any_gives_each_end_once_and_in_order(
    root: aiopip.Root, program: Programs
) -> None:
    tasks = [await root.spawn(program("pause")) for _ in range(20)]
    order = tasks[::2] + tasks[1::2]
    for task in order:
        task.kill()
        await until(lambda task=task: task.status is not None)  # type: ignore[misc]
    assert [await root.wait_any() for _ in order] == order
    with pytest.raises(aiopip.NoTasksError) as caught:
        await root.wait_any()
    assert isinstance(caught.value, ChildProcessError)


async def test_several_in_wait_any_get_a_task_each(root: aiopip.Root, program: Programs) -> None:
    tasks = [await root.spawn(program("pause")) for _ in range(10)]
    waits = [start(root.wait_any()) for _ in range(15)]
    await turns(2)
    root.kill_all()
    ended = await outcomes(*waits)
    given = [one for one in ended if isinstance(one, aiopip.Task)]
    assert sorted(task.pipid for task in given) == sorted(task.pipid for task in tasks)
    assert sum(isinstance(one, aiopip.NoTasksError) for one in ended) == 5


async def test_wait_any_skips_what_wait_collected(root: aiopip.Root) -> None:
    first, second = await root.spawn("true"), await root.spawn("false")
    assert await first.wait() == 0
    assert await root.wait_any() is second
    assert second.status == 1


async def test_cancelled_wait_any_loses_no_task(root: aiopip.Root, program: Programs) -> None:
    """Cancelled at each of the first iterations around the end."""
    for count in range(8):
        task = await root.spawn(program("pause"))
        wait = start(root.wait_any())
        await turns(1)
        task.kill()
        while task.status is None:
            await turns(1)
            if count == 0:
                break
        await turns(count)
        wait.cancel()
        try:
            given = await wait
        except cancelled():
            given = await root.wait_any()
        assert given is task
        with pytest.raises(aiopip.NoTasksError):
            await root.wait_any()


async def test_wait_any_of_nothing_has_no_tasks(root: aiopip.Root) -> None:
    with pytest.raises(aiopip.NoTasksError):
        await root.wait_any()
    with pytest.raises(aiopip.NoTasksError):
        root.wait_any_nowait()


async def test_wait_any_waits_for_a_spawn_under_way(root: aiopip.Root) -> None:
    spawning = start(root.spawn("true"))
    await turns(1)
    ended = await root.wait_any()
    assert ended is await spawning


async def test_five_hundred_tasks_are_given_once_each(root: aiopip.Root, program: Programs) -> None:
    async def spawn_all() -> set[aiopip.Task]:
        return {await root.spawn(program("code"), str(number % 256)) for number in range(500)}

    async def take_all(taken: list[aiopip.Task]) -> None:
        while len(taken) < 500:
            # Between two spawns there may be none that is left.
            with contextlib.suppress(aiopip.NoTasksError):
                taken.append(await root.wait_any())

    taken: list[aiopip.Task] = []
    spawned, _ = await gather(spawn_all(), take_all(taken))
    assert len(taken) == len(set(taken)) == 500
    assert set(taken) == spawned
    codes = sorted(int(task.status or 0) for task in taken)
    assert codes == sorted(number % 256 for number in range(500))


# Events


async def test_events_tell_of_every_end_however_it_is_collected(root: aiopip.Root) -> None:
    stream = root.events()
    first, second, third = [await root.spawn("true") for _ in range(3)]
    assert await first.wait() == 0
    await until(lambda: second.status is not None)
    await root.wait_any()
    await third.wait()
    seen = [await anext(stream) for _ in range(3)]
    assert {event.task for event in seen} == {first, second, third}
    assert all(isinstance(event, aiopip.Exited) and event.status == 0 for event in seen)


async def test_each_stream_has_all_events_from_its_beginning_on(root: aiopip.Root) -> None:
    early = root.events()
    first = await root.spawn("true")
    await first.wait()
    late = root.events()
    second = await root.spawn("false")
    await second.wait()
    assert [(await anext(early)).task, (await anext(early)).task] == [first, second]
    event = await anext(late)
    assert (event.task, event.task.status) == (second, 1)


async def test_events_end_with_the_root() -> None:
    async with aiopip.Root() as root:
        stream = root.events()
        task = await root.spawn("true")
    assert [event.task async for event in stream] == [task]


async def test_event_comes_while_it_is_waited_for(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000")
    waiting = start(anext(stream))
    await turns(3)
    task.kill()
    event = await waiting
    assert isinstance(event, aiopip.Exited)
    assert (event.task, event.status) == (task, -9)
