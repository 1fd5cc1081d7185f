"""Sessions and process groups of tasks."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import block_until, is_gone, pipe, still_works, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator


def ids(task: aiopip.Task) -> tuple[int, int]:
    """A task's process group and session."""
    return os.getpgid(task.pid), os.getsid(task.pid)


@pytest.fixture
async def leader(root: aiopip.Root) -> aiopip.Task:
    """A task that leads a process group of its own."""
    return await root.spawn("sleep", "1000", process_group=0)


@contextlib.contextmanager
def other_leader() -> Iterator[subprocess.Popen[bytes]]:
    """A child that is no task and leads a process group."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as other:
        try:
            yield other
        finally:
            other.kill()


# Spawning


async def test_task_is_in_the_root_s_group_by_default(root: aiopip.Root) -> None:
    assert ids(await root.spawn("sleep", "1000")) == (os.getpgrp(), os.getsid(0))


async def test_group_of_its_own(leader: aiopip.Task) -> None:
    assert ids(leader) == (leader.pid, os.getsid(0))


async def test_group_of_another_task(root: aiopip.Root, leader: aiopip.Task) -> None:
    member = await root.spawn("sleep", "1000", process_group=leader.pid)
    assert ids(member) == (leader.pid, os.getsid(0))


async def test_session_of_its_own(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000", new_session=True)
    assert ids(task) == (task.pid, task.pid)


async def test_children_of_a_task_are_in_its_group(root: aiopip.Root) -> None:
    async with pipe() as made:
        script = "sleep 1000 & echo $!; wait"
        task = await root.spawn("sh", "-c", script, stdout=made.writer, process_group=0)
        child = int(await made.line())
        assert os.getpgid(child) == task.pid
        os.killpg(task.pid, 9)
        assert await task.wait() == -9


async def test_group_that_is_not_there(root: aiopip.Root) -> None:
    ended = await root.spawn("true", process_group=0)
    await ended.wait()
    match = "^cannot start 'true' as a task: process_group: no such group in this session"
    with pytest.raises(aiopip.SpawnOptionError, match=match) as error:
        await root.spawn("true", process_group=ended.pid)
    assert error.value.option == "process_group"
    assert error.value.errno == errno.EPERM
    assert isinstance(error.value, PermissionError)
    assert root.statistics().alive == 0
    await still_works(root)


async def test_group_of_another_session(root: aiopip.Root) -> None:
    other = await root.spawn("sleep", "1000", new_session=True)
    with pytest.raises(aiopip.SpawnOptionError, match="process_group") as error:
        await root.spawn("true", process_group=other.pid)
    assert error.value.errno == errno.EPERM


async def test_option_that_fails_is_not_blamed_on_the_folder(root: aiopip.Root) -> None:
    other = await root.spawn("sleep", "1000", new_session=True)
    with pytest.raises(aiopip.SpawnOptionError, match="process_group") as error:
        await root.spawn("true", process_group=other.pid, cwd="/")
    assert error.value.option == "process_group"


async def test_two_options_that_exclude_each_other(root: aiopip.Root) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="new_session or process_group"):
        await root.spawn("true", new_session=True, process_group=0)


# Signals


async def test_signal_reaches_all_of_a_group(root: aiopip.Root, leader: aiopip.Task) -> None:
    members = [await root.spawn("sleep", "1000", process_group=leader.pid) for _ in range(3)]
    other = await root.spawn("sleep", "1000")
    root.signal_group(leader.pid, signal.SIGUSR1)
    assert [await task.wait() for task in (leader, *members)] == [-signal.SIGUSR1] * 4
    assert other.status is None


async def test_group_of_a_task_that_leads_none(root: aiopip.Root, leader: aiopip.Task) -> None:
    member = await root.spawn("sleep", "1000", process_group=leader.pid)
    root.signal_group(member, signal.SIGTERM)
    assert [await task.wait() for task in (leader, member)] == [-signal.SIGTERM] * 2


async def test_group_whose_leader_has_ended(root: aiopip.Root, leader: aiopip.Task) -> None:
    member = await root.spawn("sleep", "1000", process_group=leader.pid)
    leader.kill()
    await leader.wait()
    root.signal_group(leader.pid, signal.SIGTERM)
    assert await member.wait() == -signal.SIGTERM


async def test_signal_reaches_children_of_tasks(root: aiopip.Root) -> None:
    async with pipe() as made:
        script = "sleep 1000 & echo $!; wait"
        task = await root.spawn("sh", "-c", script, stdout=made.writer, new_session=True)
        child = int(await made.line())
    root.signal_group(task, signal.SIGKILL)
    assert await task.wait() == -signal.SIGKILL
    await until(lambda: is_gone(child))


async def test_own_group_is_refused(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    for group in (os.getpgrp(), task):
        with pytest.raises(aiopip.InvalidArgumentError, match=r"process_group=0, or use send_sig"):
            root.signal_group(group, signal.SIGTERM)
    assert task.status is None


async def test_group_without_a_live_task_is_refused(root: aiopip.Root, leader: aiopip.Task) -> None:
    leader.kill()
    await leader.wait()
    with other_leader() as other:
        for number in (leader.pid, other.pid, 2**30):
            with pytest.raises(aiopip.GroupNotFoundError, match=f"group {number}; it may") as error:
                root.signal_group(number, signal.SIGKILL)
            assert isinstance(error.value, ProcessLookupError)
            assert error.value.errno == errno.ESRCH
        assert other.poll() is None
    with pytest.raises(aiopip.TaskEndedError):
        root.signal_group(leader, signal.SIGKILL)


async def test_group_of_a_zombie_is_refused(root: aiopip.Root, leader: aiopip.Task) -> None:
    """Its end is not known to the loop yet."""
    os.kill(leader.pid, signal.SIGKILL)
    block_until(lambda: is_gone(leader.pid))
    with pytest.raises(ProcessLookupError):
        root.signal_group(leader, signal.SIGTERM)
    with pytest.raises(aiopip.GroupNotFoundError):
        root.signal_group(leader.pid, signal.SIGTERM)
    with pytest.raises(aiopip.TaskEndedError):
        leader.terminate()
    assert await leader.wait() == -signal.SIGKILL


@pytest.mark.parametrize("group", [1, 0, -1, -4711])
async def test_numbers_that_kill_takes_for_something_else(root: aiopip.Root, group: int) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=f"^group: {group} is no process group"):
        root.signal_group(group, 0)


async def test_no_signal(root: aiopip.Root, leader: aiopip.Task) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^signal: 1000 is no signal"):
        root.signal_group(leader, 1000)
    root.signal_group(leader, 0)


async def test_task_of_another_root() -> None:
    async with aiopip.Root() as first:
        task = await first.spawn("true", process_group=0)
    async with aiopip.Root() as second:
        with pytest.raises(aiopip.InvalidTaskError):
            second.signal_group(task, signal.SIGTERM)
