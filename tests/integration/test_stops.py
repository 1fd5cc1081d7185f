"""Tasks that are stopped and go on, and what is told of it."""

# The exceptions leave a block that has an `async with` in it.
# ruff: noqa: PT012

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import anyio
import pytest
from support import block_until, is_gone, output, python_source, still_works, until

import aiopip


def stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def is_stopped(task: aiopip.Task) -> bool:
    """Whether `ps` shows T."""
    return stat_of(task.pid)[0] == "T"


# Spawning


async def test_stopped_task_has_not_begun(root: aiopip.Root) -> None:
    task = await root.spawn("true", stopped=True)
    await until(lambda: is_stopped(task))
    assert b"T" in await output(root, "ps", "-o", "stat=", "-p", str(task.pid))
    assert task.status is None
    assert task.loaded is None
    task.resume()
    assert await task.wait() == 0
    assert task.loaded


async def test_resumed_at_once(root: aiopip.Root) -> None:
    for _ in range(100):
        task = await root.spawn("true", stopped=True)
        task.resume()
        assert await task.wait() == 0


async def test_stopped_tasks_are_no_loading_ones(root: aiopip.Root) -> None:
    tasks = [await root.spawn("true", stopped=True) for _ in range(10)]
    assert root.statistics().loading == 0
    await still_works(root)
    for task in tasks:
        task.resume()
    assert [await task.wait() for task in tasks] == [0] * 10


@pytest.mark.parametrize("grace_s", [0, 1000])
async def test_leaving_ends_stopped_tasks(grace_s: float) -> None:
    with pytest.raises(KeyError):
        async with aiopip.Root(grace_s=grace_s) as root:
            tasks = [await root.spawn("sleep", "1000", stopped=True) for _ in range(3)]
            await until(lambda: all(map(is_stopped, tasks)))
            raise KeyError
    assert [task.status for task in tasks] == [-15 if grace_s else -9] * 3


async def test_cancelled_while_a_task_is_being_stopped(root: aiopip.Root) -> None:
    chance = random.Random(5)
    for _ in range(100):
        with anyio.move_on_after(chance.uniform(0, 0.002)) as scope:
            task = await root.spawn("sleep", "1000", stopped=True)
        if not scope.cancelled_caught:
            task.kill()
            await task.wait()
        assert root.statistics().alive == 0


ENDLESS = """
    import asyncio, aiopip

    async def main():
        async with aiopip.Root() as root:
            await (await root.spawn("true")).wait()
            print("ready", flush=True)
            while True:
                task = await root.spawn("sleep", "1000", stopped=True)
                if task.pipid % 4:
                    task.resume()

    asyncio.run(main())
"""


def session_members(session: int) -> list[int]:
    """The processes of a session that run."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and not is_gone(int(path.name)):
            try:
                if os.getsid(int(path.name)) == session:
                    found.append(int(path.name))
            except ProcessLookupError:
                pass
    return found


def test_no_stopped_task_outlives_a_killed_root() -> None:
    chance = random.Random(6)
    for _ in range(10):
        with subprocess.Popen(
            python_source(ENDLESS), stdout=subprocess.PIPE, start_new_session=True
        ) as root:
            assert root.stdout is not None
            assert root.stdout.readline() == b"ready\n"
            try:
                root.wait(chance.uniform(0, 0.1))
            except subprocess.TimeoutExpired:
                root.kill()
        block_until(lambda: not session_members(root.pid))


# Sending


async def test_stop_and_resume(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    task.stop()
    await until(lambda: is_stopped(task))
    task.resume()
    await until(lambda: not is_stopped(task))
    task.stop()
    task.kill()
    assert await task.wait() == -9
    for call in (task.stop, task.resume):
        with pytest.raises(aiopip.TaskEndedError):
            call()
