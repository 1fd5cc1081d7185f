"""Sessions and process groups of tasks."""

from __future__ import annotations

import errno
import os

import pytest
from support import pipe, still_works

import aiopip


def ids(task: aiopip.Task) -> tuple[int, int]:
    """A task's process group and session."""
    return os.getpgid(task.pid), os.getsid(task.pid)


@pytest.fixture
async def leader(root: aiopip.Root) -> aiopip.Task:
    """A task that leads a process group of its own."""
    return await root.spawn("sleep", "1000", process_group=0)


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
