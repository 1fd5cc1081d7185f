"""Tasks that are stopped and go on, and what is told of it."""

# The exceptions leave a block that has an `async with` in it.
# ruff: noqa: PT012

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from support import DEADLINE_S, block_until, is_gone, python_source, still_works, until

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


# Events


async def next_of(stream: aiopip.EventStream, *kinds: type[aiopip.Event]) -> aiopip.Event:
    """The next event of one of these kinds."""
    with anyio.fail_after(DEADLINE_S):
        async for event in stream:
            if isinstance(event, kinds):
                return event
    raise AssertionError("the stream has ended")


async def test_stop_and_continue_are_told(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000")
    for _ in range(50):
        task.stop()
        assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGSTOP)
        task.resume()
        assert await next_of(stream, aiopip.Event) == aiopip.Continued(task)
    task.kill()
    assert await next_of(stream, aiopip.Event) == aiopip.Exited(task, aiopip.ExitStatus(9))


async def test_stopped_by_the_terminal_s_signal(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000", process_group=0)
    root.signal_group(task, signal.SIGTSTP)
    assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGTSTP)
    root.signal_group(task, signal.SIGCONT)
    assert await next_of(stream, aiopip.Event) == aiopip.Continued(task)


async def test_start_of_a_stopped_task_is_a_stop(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("true", stopped=True)
    assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGSTOP)
    task.resume()
    assert await next_of(stream, aiopip.Exited) == aiopip.Exited(task, aiopip.ExitStatus(0))


async def test_kill_while_stopped(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000")
    task.stop()
    assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGSTOP)
    task.kill()
    assert await task.wait() == -9
    assert await next_of(stream, aiopip.Event) == aiopip.Exited(task, aiopip.ExitStatus(9))


def has_report(pid: int, kinds: int) -> bool:
    """Whether a child has a report that nobody has taken."""
    return os.waitid(os.P_PID, pid, kinds | os.WNOHANG | os.WNOWAIT) is not None


def is_told(task: aiopip.Task, stopped: bool) -> bool:
    """Whether the task is in that state, and the watcher has taken all reports of it."""
    wall = 0x40000000
    kinds = os.WSTOPPED | os.WCONTINUED | wall
    return is_stopped(task) == stopped and not has_report(task.pid, kinds)


async def test_task_that_has_left_is_not_seen_to_stop(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sh", "-c", "exec sleep 1000")
    await until(lambda: not task.shared)
    task.stop()
    await until(lambda: is_stopped(task))
    assert has_report(task.pid, os.WSTOPPED)
    task.kill()
    assert await next_of(stream, aiopip.Event) == aiopip.Exited(task, aiopip.ExitStatus(9))


async def test_last_event_of_each_is_right(root: aiopip.Root) -> None:
    chance = random.Random(8)
    stream = root.events()
    tasks = [await root.spawn("sleep", "1000") for _ in range(100)]
    wanted = dict.fromkeys(tasks, False)
    last = dict.fromkeys(tasks, False)

    async def listen() -> None:
        async for event in stream:
            assert isinstance(event, aiopip.Stopped | aiopip.Continued)
            last[event.task] = isinstance(event, aiopip.Stopped)

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        for _ in range(2000):
            task = chance.choice(tasks)
            wanted[task] = chance.random() < 0.5
            if wanted[task]:
                task.stop()
            else:
                task.resume()
            if chance.random() < 0.02:
                await anyio.lowlevel.checkpoint()
        # From then on nothing comes that says otherwise.
        await until(lambda: all(is_told(task, stopped) for task, stopped in wanted.items()))
        await until(lambda: last == wanted)
        group.cancel_scope.cancel()


async def test_other_children_are_not_disturbed(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000")
    child = other_child()
    try:
        for _ in range(20):
            child.send_signal(signal.SIGSTOP)
            task.stop()
            assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGSTOP)
            pid, status = await anyio.to_thread.run_sync(os.waitpid, child.pid, os.WUNTRACED)
            assert (pid, os.WIFSTOPPED(status)) == (child.pid, True)
            child.send_signal(signal.SIGCONT)
            task.resume()
            assert await next_of(stream, aiopip.Event) == aiopip.Continued(task)
            pid, status = await anyio.to_thread.run_sync(os.waitpid, child.pid, os.WCONTINUED)
            assert (pid, os.WIFCONTINUED(status)) == (child.pid, True)
    finally:
        child.kill()
    assert child.wait() == -9


def other_child() -> subprocess.Popen[bytes]:
    """A child that is no task."""
    return subprocess.Popen(["sleep", "1000"])


def watchers() -> int:
    """How many threads watch for stops."""
    count = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        # A thread that was joined is in the list for a moment still.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            count += path.read_text() == "aiopip-stops\n"
    return count


async def test_thread_goes_with_the_root() -> None:
    async with aiopip.Root() as root:
        await still_works(root)
        assert watchers() == 0
        stream = root.events()
        assert root.events() is not stream
        task = await root.spawn("sleep", "1000")
        await until(lambda: watchers() == 1)
        task.kill()
    assert watchers() == 0
    assert [event.task async for event in stream] == [task]


async def test_root_is_aborted_while_a_stream_listens() -> None:
    async with aiopip.Root() as root:
        stream = root.events()
        tasks = [await root.spawn("sleep", "1000", stopped=i % 2 == 0) for i in range(6)]
        root.abort()
    assert watchers() == 0
    ended = {event.task async for event in stream if isinstance(event, aiopip.Exited)}
    assert ended == set(tasks)


async def test_stream_that_is_dropped(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    for _ in range(20):
        stream = root.events()
        task.stop()
        event = await next_of(stream, aiopip.Event)
        if event == aiopip.Continued(task):  # of the round before, learned of only now
            event = await next_of(stream, aiopip.Event)
        assert event == aiopip.Stopped(task, signal.SIGSTOP)
        del stream
        gc.collect()
        task.resume()
        await still_works(root)


async def test_fork_while_a_stream_listens(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn("sleep", "1000")
    pid = os.fork()
    if pid == 0:
        try:
            root.events()
        except aiopip.ForkedError:
            os._exit(7)
        os._exit(1)
    task.stop()
    assert await next_of(stream, aiopip.Event) == aiopip.Stopped(task, signal.SIGSTOP)
    _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    task.resume()
    assert await next_of(stream, aiopip.Event) == aiopip.Continued(task)


# Exports

EXPORTS = """
    import aiopip, sys
    me = aiopip.this_task()
    for number in range(int(sys.argv[1])):
        me.export(f"x{number}", bytearray(8))
"""


async def test_exports_are_told(root: aiopip.Root) -> None:
    stream = root.events()
    for count in (1, 5):
        task = await root.spawn(*python_source(EXPORTS), str(count))
        assert await next_of(stream, aiopip.Event) == aiopip.Exported(task)
        while (event := await next_of(stream, aiopip.Event)) == aiopip.Exported(task):
            pass
        assert event == aiopip.Exited(task, aiopip.ExitStatus(0))
        await task.wait()


async def test_behind_the_last_export_comes_an_event(root: aiopip.Root) -> None:
    stream = root.events()
    task = await root.spawn(*python_source(EXPORTS), "30")
    found = 0
    while isinstance(await next_of(stream, aiopip.Exported, aiopip.Exited), aiopip.Exported):
        while True:
            try:
                root.named_import_nowait(task, f"x{found}")
            except aiopip.WouldBlock:
                break
            except aiopip.ImportCanceledError:
                break  # it has ended meanwhile
            found += 1
    assert found == 30
    await task.wait()
