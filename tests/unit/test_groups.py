"""Task groups, on a client without processes: who has failed, and who is ended."""

from __future__ import annotations

import errno
import signal

import pytest
from jobs import begun, cancelled, start, turns
from unit.blocks import FAILS, TERMINATED, Block, block, failures, leaves, signals_to
from unit.fake_client import Stage, ended, failed, started

import aiopip
from aiopip._records import Failure

# Leaving


async def test_leaving_waits_for_all_and_collects(stage: Stage) -> None:
    opened = await block(stage, tasks=2)
    tasks = opened.group.tasks
    assert {task.pipid for task in tasks} == {0, 1}
    opened.end.set()
    stage.client.deliver(ended(0))
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(ended(1))
    await opened.running
    assert stage.calls("kill") == []
    assert not stage.root.tasks
    assert [task.wait_nowait() for task in tasks] == [0, 0]
    assert "has been left" in repr(opened.group)


async def test_others_may_spawn_while_the_block_waits(stage: Stage) -> None:
    opened = await block(stage)
    opened.end.set()
    await turns(3)
    await stage.member(opened.group)
    stage.client.deliver(ended(0))
    spawning = await begun(opened.group.spawn("program"))
    stage.client.deliver(ended(1))
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(started(2), ended(2))
    await spawning
    await opened.running


async def test_failed_spawn_of_others_lets_the_block_end(stage: Stage) -> None:
    opened = await block(stage, tasks=0)
    spawning = await begun(opened.group.spawn("program"))
    opened.end.set()
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(failed(0, Failure.PROGRAM, errno.ENOENT))
    with pytest.raises(aiopip.SpawnError):
        await spawning
    await opened.running


async def test_empty_group_is_left_at_once(stage: Stage) -> None:
    async with stage.root.task_group() as group:
        assert group.tasks == frozenset()
        assert "is open" in repr(group)


# Failing


async def test_failing_task_ends_the_others_and_the_body(stage: Stage) -> None:
    opened = await block(stage, tasks=3)
    stage.client.deliver(ended(1, FAILS))
    await turns(3)
    assert opened.body_cancelled == 1
    assert signals_to(stage, 0) == signals_to(stage, 2) == TERMINATED
    assert signals_to(stage, 1) == []
    assert "being ended" in repr(opened.group)
    stage.client.deliver(ended(0, signal.SIGTERM))
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(ended(2, FAILS))  # it has a handler for SIGTERM
    assert failures(await opened.raised()) == {1: 3}


async def test_failure_while_the_body_awaits_another_job(stage: Stage) -> None:
    """To which the cancellation is handed on."""
    jobs = []

    async def body(opened: Block) -> None:
        jobs.append(start(opened.wait()))
        await jobs[0]

    opened = await block(stage, body)
    await turns(3)
    stage.client.deliver(ended(0, FAILS))
    assert failures(await opened.raised()) == {0: 3}
    jobs[0].cancel()
    await turns(3)


async def test_failure_while_the_block_waits(stage: Stage) -> None:
    opened = await block(stage, tasks=2)
    opened.end.set()
    await turns(3)
    stage.client.deliver(ended(0, signal.SIGSEGV))
    assert signals_to(stage, 1) == TERMINATED
    stage.client.deliver(ended(1, signal.SIGTERM))
    assert failures(await opened.raised()) == {0: -11}


async def test_status_of_an_unchecked_task_is_no_failure(stage: Stage) -> None:
    opened = await block(stage, tasks=0)
    await stage.member(opened.group, check=False)
    stage.client.deliver(ended(0, FAILS))
    await turns(3)
    assert not opened.body_cancelled
    opened.end.set()
    await opened.running


async def test_task_that_had_ended_when_the_signal_came_has_failed_too(stage: Stage) -> None:
    opened = await block(stage, tasks=3)
    stage.client.ended_unseen = {2}
    stage.client.deliver(ended(0, FAILS))
    stage.client.deliver(ended(1, FAILS), ended(2, FAILS))
    assert failures(await opened.raised()) == {0: 3, 2: 3}


async def test_failures_of_one_batch(stage: Stage) -> None:
    opened = await block(stage, tasks=4)
    stage.client.ended_unseen = {0, 2, 3}
    stage.client.deliver(ended(0, FAILS), ended(3, signal.SIGKILL), ended(2))
    assert signals_to(stage, 1) == TERMINATED
    stage.client.deliver(ended(1, signal.SIGTERM))
    assert failures(await opened.raised()) == {0: 3, 3: -9}


async def test_end_that_the_exit_finds_is_a_failure(stage: Stage) -> None:
    """The body's exception and a task's end: that was there when the signals were sent."""

    async def body(opened: Block) -> None:
        await opened.end.wait()
        stage.client.post(ended(0, FAILS))
        raise ValueError

    opened = await block(stage, body)
    stage.client.ended_unseen = {0}
    opened.end.set()
    assert [type(one) for one in leaves(await opened.raised())] == [aiopip.TaskFailed, ValueError]


async def test_task_that_fails_before_its_spawn_returns(stage: Stage) -> None:
    tasks = []

    async def body(opened: Block) -> None:
        stage.client.post(started(0), ended(0, FAILS))
        tasks.append(await opened.group.spawn("program"))
        await opened.wait()

    opened = await block(stage, body, tasks=0)
    assert failures(await opened.raised()) == {0: 3}
    assert opened.body_cancelled == 1
    assert [task.wait_nowait() for task in tasks] == [3]


async def test_failure_of_another_before_the_spawn_returns(stage: Stage) -> None:
    """It is started and has not been handed over: the group's signal reaches it."""
    opened = await block(stage)
    spawning = await begun(opened.group.spawn("program"))
    stage.client.deliver(started(1), ended(0, FAILS))
    assert signals_to(stage, 1) == TERMINATED
    task = await spawning
    stage.client.deliver(ended(1, signal.SIGTERM))
    assert failures(await opened.raised()) == {0: 3}
    assert task.status == -15


# Spawns under way in other coroutines


async def test_failure_gives_up_the_spawns_of_others(stage: Stage) -> None:
    opened = await block(stage, tasks=1)
    spawns = [await begun(opened.group.spawn("program")) for _ in range(2)]
    stage.client.spawn_results.append(-11)
    spawns.append(await begun(opened.group.spawn("program")))
    elsewhere = await begun(stage.root.spawn("program"))
    stage.client.deliver(ended(0, FAILS))
    assert stage.calls("cancel") == [("cancel", 1), ("cancel", 2)]
    with pytest.raises(aiopip.ClosedError, match="task group was closed"):
        await spawns[2]
    stage.client.deliver(failed(1), started(2))
    with pytest.raises(aiopip.ClosedError, match="task group was closed"):
        await spawns[0]
    assert signals_to(stage, 2)[-1] == signal.SIGKILL
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(ended(2, signal.SIGKILL))
    with pytest.raises(aiopip.ClosedError, match="task group was closed"):
        await spawns[1]
    assert failures(await opened.raised()) == {0: 3}
    assert not elsewhere.done()
    elsewhere.cancel()
    with pytest.raises(cancelled()):
        await elsewhere


async def test_interruption_of_the_wait_gives_up_the_spawns_of_others(stage: Stage) -> None:
    opened = await block(stage, tasks=1)
    submitted = await begun(opened.group.spawn("program"))
    stage.client.spawn_results.append(-11)
    waiting = await begun(opened.group.spawn("program"))
    opened.end.set()
    await turns(3)
    opened.running.cancel()
    await turns(3)
    assert stage.calls("cancel") == [("cancel", 1)]
    with pytest.raises(aiopip.ClosedError, match="task group was closed"):
        await waiting
    stage.client.deliver(ended(0, signal.SIGTERM), failed(1))
    with pytest.raises(aiopip.ClosedError, match="task group was closed"):
        await submitted
    assert isinstance(await opened.raised(), cancelled())


@pytest.mark.parametrize("where", ["submitted", "waits for a slot"])
async def test_body_that_spawns_is_cancelled(stage: Stage, where: str) -> None:
    """Not ClosedError, which would be the body's own failure."""

    async def body(opened: Block) -> None:
        await opened.end.wait()
        if where != "submitted":
            stage.client.spawn_results.append(-11)
        await opened.group.spawn("program")

    opened = await block(stage, body)
    opened.end.set()
    await turns(3)
    stage.client.deliver(ended(0, FAILS))
    await turns(3)
    if where == "submitted":
        assert not opened.running.done()
        stage.client.deliver(failed(1))
    assert failures(await opened.raised()) == {0: 3}


async def test_spawn_into_a_group_that_is_being_ended(stage: Stage) -> None:
    opened = await block(stage)
    opened.group.cancel()
    with pytest.raises(aiopip.ClosedError, match="is being ended"):
        await opened.group.spawn("program")
    stage.client.deliver(ended(0, signal.SIGTERM))
    await opened.running
    with pytest.raises(aiopip.ClosedError, match="has been left"):
        await opened.group.spawn("program")
