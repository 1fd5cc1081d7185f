"""Task groups with real tasks."""

# The exceptions leave blocks that have an `async with` in them.
# ruff: noqa: PT012

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import sys
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration.random_groups import random_groups
from integration.test_process_end import EACH_KIND, TWICE, Script, interrupted
from integration.test_process_end import start as start_script
from jobs import begun, cancelled, gather, start, turns
from loops import only
from support import all_gone, children, kill_quietly, still_works

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import Programs

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

TaskGroup: Any = getattr(asyncio, "TaskGroup", None)
timeout: Any = getattr(asyncio, "timeout", None)
TASKS_OF_3_11 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup need Python 3.11"
)
ASYNCIO = only("asyncio", reason="about asyncio's own blocks")


def failed(caught: pytest.ExceptionInfo[ExceptionGroup[Any]]) -> list[aiopip.TaskFailed]:
    """The failures, when there is nothing else."""
    assert all(isinstance(error, aiopip.TaskFailed) for error in caught.value.exceptions)
    return [error for error in caught.value.exceptions if isinstance(error, aiopip.TaskFailed)]


async def failure(root: aiopip.Root, *line: str, **options: Any) -> aiopip.TaskFailed:
    """The error of a task that fails."""
    with pytest.raises(ExceptionGroup, match="a task group has failed") as caught:
        async with root.task_group() as group:
            await group.spawn(*line, **options)
    [error] = failed(caught)
    return error


async def test_block_ends_when_all_have_ended(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        tasks = [await group.spawn("sleep", "0.05") for _ in range(3)]
        assert group.tasks == set(tasks)
    assert [task.status for task in tasks] == [0] * 3
    assert not root.tasks
    assert not children()


async def test_failing_task_ends_all(root: aiopip.Root, program: Programs) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group(grace_s=1000) as group:
            tasks = [await group.spawn("sleep", "1000") for _ in range(3)]
            tasks.append(await group.spawn("sleep", "1000", stopped=True))
            await group.spawn(program("code"), "7")
            await anyio.sleep(1000)
    [error] = failed(caught)
    assert (error.program, error.status, error.stderr) == (str(program("code")), 7, b"")
    assert [task.status for task in tasks] == [-15] * 4
    assert not children()


async def test_unchecked_task(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        task = await group.spawn("grep", "-q", "x", "/dev/null", check=False)
    assert task.status == 1


@pytest.mark.parametrize("grace_s", [0, 0.05])
async def test_task_that_ignores_sigterm_is_killed(
    root: aiopip.Root, program: Programs, grace_s: float
) -> None:
    task = None
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group(grace_s=grace_s) as group:
            task = await group.spawn(program("stubborn"), stdout=PIPE)
            assert task.stdout is not None
            assert await task.stdout.receive() == b"ready\n"
            raise KeyError
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert task is not None
    assert task.status == -9


async def test_nested_groups(root: aiopip.Root) -> None:
    """The inner one's failure is the outer one's body's."""
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group() as outer:
            kept = await outer.spawn("sleep", "1000")
            async with root.task_group() as inner:
                await inner.spawn("false")
                await anyio.sleep(1000)
    [group] = caught.value.exceptions
    assert isinstance(group, ExceptionGroup)
    assert [getattr(error, "program", "") for error in group.exceptions] == ["false"]
    assert kept.status == -15


async def test_wait_any_and_several_waits(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        first = await group.spawn("true")
        assert await root.wait_any() is first
        second = await group.spawn("sleep", "0.05")
        assert await gather(second.wait(), second.wait(), second.wait()) == [0, 0, 0]
        cancelled_wait = await begun((third := await group.spawn("sleep", "0.05")).wait())
        cancelled_wait.cancel()
    assert third.status == 0
    with pytest.raises(aiopip.NoTasksError):
        await root.wait_any()


# Other blocks, around and within


async def test_timeouts_of_anyio(root: aiopip.Root) -> None:
    for make in (anyio.move_on_after, anyio.fail_after):
        task = None
        try:
            with make(0.02):
                async with root.task_group() as group:
                    task = await group.spawn("sleep", "1000")
        except TimeoutError:
            assert make is anyio.fail_after
        assert task is not None
        assert task.status == -15
    async with root.task_group() as group:
        with anyio.move_on_after(0.02):
            await (await group.spawn("sleep", "0.1")).wait()


async def test_groups_of_anyio(root: aiopip.Root) -> None:
    async def run() -> None:
        async with root.task_group() as group:
            tasks.append(await group.spawn("sleep", "1000"))

    tasks: list[aiopip.Task] = []
    with pytest.raises(ExceptionGroup):
        async with anyio.create_task_group() as outer:
            outer.start_soon(run)
            outer.start_soon(run)
            async with root.task_group() as group:
                await group.spawn("false")
    assert {task.status for task in tasks} <= {-15}
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group() as group, anyio.create_task_group() as inner:
            inner.start_soon(group.spawn, "false")
            inner.start_soon(anyio.sleep, 1000)
    assert [error.program for error in failed(caught)] == ["false"]


@ASYNCIO
@TASKS_OF_3_11
async def test_blocks_of_asyncio(root: aiopip.Root) -> None:
    with pytest.raises(TimeoutError):
        async with timeout(0.02), root.task_group() as group:
            task = await group.spawn("sleep", "1000")
    assert task.status == -15
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group() as group, TaskGroup() as inner:
            inner.create_task(asyncio.sleep(1000))
            await group.spawn("false")
    assert [error.program for error in failed(caught)] == ["false"]
    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as outer:
            sleeping = outer.create_task(asyncio.sleep(1000))
            async with root.task_group() as group:
                await group.spawn("false")
    assert sleeping.cancelled()


@only("trio", reason="about trio's own nurseries")
async def test_nurseries_of_trio(root: aiopip.Root) -> None:
    import trio

    with pytest.raises(ExceptionGroup):
        async with trio.open_nursery() as outer:
            outer.start_soon(trio.sleep, 1000)
            async with root.task_group() as group:
                await group.spawn("false")
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group() as group, trio.open_nursery() as inner:
            inner.start_soon(trio.sleep, 1000)
            await group.spawn("false")
    assert [error.program for error in failed(caught)] == ["false"]


# Cancellation, in every await


@pytest.mark.parametrize("moment", range(16))
async def test_cancelled_in_every_await(root: aiopip.Root, moment: int) -> None:
    """spawn, wait, and the exit; after so many iterations."""

    async def run() -> None:
        async with root.task_group() as group:
            task = await group.spawn("sleep", "1000")
            await group.spawn("sleep", "1000", stdout=PIPE)
            with anyio.move_on_after(0.001):
                await task.wait()

    for _ in range(3):
        job = start(run())
        await turns(moment)
        job.cancel()
        with pytest.raises(cancelled()):
            await job
        assert not children()
        assert not root.tasks
    await still_works(root)


# What a TaskFailed tells


async def test_failure_names_program_signal_and_last_lines(root: aiopip.Root) -> None:
    lines = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i >&2; done; kill -SEGV $$"
    error = await failure(root, "sh", "-c", lines, stderr=PIPE)
    assert (error.program, error.status, error.status.signal) == ("sh", -11, signal.SIGSEGV)
    assert error.stderr.startswith(b"line 1\n")
    shown = str(error).splitlines()
    assert "task 'sh' (PiP ID" in shown[0]
    assert "was ended by SIGSEGV (signal 11)" in shown[0]
    assert shown[1:] == [f"    line {number}" for number in range(3, 13)]
    assert "exited with 1" in str(await failure(root, "false"))
    assert f"signal {signal.SIGRTMIN + 1}" in str(
        await failure(root, "sh", "-c", f"kill -{signal.SIGRTMIN + 1} $$")
    )


async def test_failure_of_a_task_that_wrote_much(root: aiopip.Root) -> None:
    """More than a pipe holds: somebody has received the rest."""
    source = "import os; os.write(2, b'x' * (1 << 20) + b'\\nlast \\xff\\n'); os._exit(3)"
    received = 0
    with pytest.raises(ExceptionGroup) as caught:
        async with root.task_group() as group:
            task = await group.spawn(sys.executable, "-c", source, stderr=PIPE)
            assert task.stderr is not None
            while received < 1 << 20:
                received += len(await task.stderr.receive())
            await anyio.sleep(1000)
    [error] = failed(caught)
    assert len(error.stderr) == 4096
    assert str(error).endswith("\n    last \\xff")


async def test_failure_of_a_task_whose_child_holds_the_pipe(root: aiopip.Root) -> None:
    line = "sleep 1000 & echo $! >&2; echo failed >&2; exit 3"
    error = await failure(root, "sh", "-c", line, stderr=PIPE)
    pid, last = error.stderr.split()
    assert last == b"failed"
    os.kill(int(pid), signal.SIGKILL)


async def test_failure_pickles_and_copies(root: aiopip.Root) -> None:
    error = await failure(root, "sh", "-c", "echo why >&2; exit 3", stderr=PIPE)
    assert error.task is not None
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (same.task, same.program, same.stderr) == (None, "sh", b"why\n")
        assert (same.status, same.status.exit_code, str(same)) == (3, 3, str(error))


# Ctrl-C

INTERRUPTED = interrupted("""
        async with aiopip.Root() as root:
            async with root.task_group(grace_s=1000) as group:
                started[:] = [await group.spawn(*sys.argv[2:]) for _ in range(3)]
                say("pids", *[task.pid for task in started])
""")


@pytest.fixture
def scripts() -> Iterator[list[Script]]:
    """What is in the list is ended behind the test."""
    scripts: list[Script] = []
    yield scripts
    for script in scripts:
        kill_quietly(script.process.pid)
        script.process.communicate()


@EACH_KIND
def test_interrupt_terminates_a_group(scripts: list[Script], kind: str) -> None:
    script, pids = start_script(scripts, INTERRUPTED, kind, "sleep", "1000")
    script.interrupt()
    script.expect("KeyboardInterrupt [-15, -15, -15]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


@TWICE
@EACH_KIND
def test_second_interrupt_kills_a_group(
    scripts: list[Script], kind: str, program: Programs
) -> None:
    script, pids = start_script(scripts, INTERRUPTED, kind, program("stubborn"))
    script.expect("ready", 3)
    script.interrupt()
    script.expect("TERM", 3)
    script.interrupt()
    script.expect("KeyboardInterrupt [-9, -9, -9]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


# All of it


async def test_hundred_groups_at_random(root: aiopip.Root, program: Programs) -> None:
    await random_groups(root, program, 0, 100)
