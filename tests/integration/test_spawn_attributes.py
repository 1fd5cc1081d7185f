"""What a task inherits from the thread that called spawn, and the limits that it sees."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loops import run_in_thread_loop
from support import output, pipe, run_python, signals_in, status_field

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

STATUS = ("cat", "/proc/self/status")


async def status_of(root: aiopip.Root) -> str:
    return (await output(root, *STATUS)).decode()


async def in_fresh_thread(
    prepare: Callable[[], object], check: Callable[[aiopip.Root], Coroutine[Any, Any, None]]
) -> None:
    """Open a Root in a thread whose attributes were changed first, and which ends with it."""

    async def main() -> None:
        prepare()
        async with aiopip.Root() as root:
            await check(root)

    await run_in_thread_loop(main)


# Signals

RESTORED = {signal.SIGPIPE, signal.SIGXFSZ}
"""What Python ignores for itself, and a task gets back."""


def ignored_here() -> set[int]:
    """The signals that this process ignores; its parent may have had it ignore some."""
    return signals_in(status_field(Path("/proc/self/status").read_text(), "SigIgn"))


async def test_python_ignores_sigpipe_and_a_task_does_not(root: aiopip.Root) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    status = await status_of(root)
    assert signals_in(status_field(status, "SigIgn")) == ignored_here() - RESTORED
    assert not signals_in(status_field(status, "SigCgt"))
    assert not signals_in(status_field(status, "SigBlk"))
    async with pipe() as output_pipe:
        task = await root.spawn("yes", stdout=output_pipe.writer)
        assert await output_pipe.line() == b"y"
    assert await task.wait() == -signal.SIGPIPE


async def test_handlers_of_the_root_do_not_reach_a_task(root: aiopip.Root) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        task = await root.spawn("sleep", "1000")
        task.send_signal(signal.SIGUSR1)
        assert await task.wait() == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_ignored_signals_stay_ignored(root: aiopip.Root) -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        expected = ignored_here() - RESTORED
        ignored = signals_in(status_field(await status_of(root), "SigIgn"))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert signal.SIGUSR2 in expected
    assert ignored == expected


async def test_signal_mask_is_the_callers(root: aiopip.Root) -> None:
    blocked = {signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMAX}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        status = await status_of(root)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert signals_in(status_field(status, "SigBlk")) == blocked | before
    assert signals_in(status_field(await status_of(root), "SigBlk")) == before


# Scheduling


async def test_nice_is_the_calling_threads() -> None:
    async def check(root: aiopip.Root) -> None:
        assert int(await output(root, "nice")) == 7

    await in_fresh_thread(lambda: os.setpriority(os.PRIO_PROCESS, 0, 7), check)
    assert os.getpriority(os.PRIO_PROCESS, 0) != 7


async def test_nice_changed_after_opening_reaches_the_next_task() -> None:
    async def check(root: aiopip.Root) -> None:
        assert int(await output(root, "nice")) == 0
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        assert int(await output(root, "nice")) == 5
        assert int(await output(root, "sh", "-c", "nice; true")) == 5

    await in_fresh_thread(lambda: None, check)


async def test_affinity_is_the_calling_threads() -> None:
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        pytest.skip("needs two processors")

    async def check(root: aiopip.Root) -> None:
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            status = await status_of(root)
            assert status_field(status, "Cpus_allowed_list") == str(processor)

    await in_fresh_thread(lambda: os.sched_setaffinity(0, {processors[1]}), check)


async def test_scheduling_policy_is_the_calling_threads() -> None:
    async def check(root: aiopip.Root) -> None:
        assert b"SCHED_BATCH" in await output(root, "chrt", "-p", "0")

    batch = os.sched_param(0)
    await in_fresh_thread(lambda: os.sched_setscheduler(0, os.SCHED_BATCH, batch), check)


# Limits

LIMITS = {
    "Max data size": resource.RLIMIT_DATA,
    "Max open files": resource.RLIMIT_NOFILE,
    "Max stack size": resource.RLIMIT_STACK,
    "Max address space": resource.RLIMIT_AS,
    "Max core file size": resource.RLIMIT_CORE,
    "Max locked memory": resource.RLIMIT_MEMLOCK,
}


def limits_in(text: bytes) -> dict[str, tuple[str, str]]:
    """Soft and hard limits of /proc/PID/limits."""
    found = {}
    for line in text.decode().splitlines()[1:]:
        soft, hard = line[26:].split()[:2]
        found[line[:26].strip()] = (soft, hard)
    return found


def own_limits() -> dict[str, tuple[str, str]]:
    return limits_in(Path("/proc/self/limits").read_bytes())


@pytest.fixture
def limits() -> Iterator[None]:
    """Soft limits are restored behind the test."""
    before = {number: resource.getrlimit(number) for number in LIMITS.values()}
    yield
    for number, values in before.items():
        resource.setrlimit(number, values)


HOW = {
    "task": ("cat", "/proc/self/limits"),
    "child": ("sh", "-c", "cat /proc/self/limits; true"),
    "exec": ("sh", "-c", "exec cat /proc/self/limits"),
}


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("how", HOW)
async def test_limits_are_the_users_own(how: str) -> None:
    """RLIMIT_DATA is 0 while a task loads; RLIMIT_NOFILE may be raised in the root meanwhile."""
    users = own_limits()
    async with aiopip.Root(max_tasks=4096) as root:
        assert limits_in(await output(root, *HOW[how])) == users
    assert own_limits() == users


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    ("limit", "value"),
    [
        (resource.RLIMIT_DATA, 3 << 30),
        (resource.RLIMIT_NOFILE, 300),
        (resource.RLIMIT_STACK, 1 << 20),
        (resource.RLIMIT_STACK, 100 << 20),
        (resource.RLIMIT_STACK, resource.RLIM_INFINITY),
    ],
)
async def test_soft_limits_set_by_the_user_reach_task_and_children(
    how: str, limit: int, value: int
) -> None:
    if value == resource.RLIM_INFINITY != resource.getrlimit(limit)[1]:
        pytest.skip("the hard limit is not unlimited")
    resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
    users = own_limits()
    async with aiopip.Root(max_tasks=1024) as root:
        assert limits_in(await output(root, *HOW[how])) == users
    assert own_limits() == users


@pytest.mark.usefixtures("limits")
async def test_more_tasks_than_the_soft_limit_of_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    async with aiopip.Root(max_tasks=300) as root:
        tasks = [await root.spawn("sleep", "1000") for _ in range(300)]
        root.kill_all()
        assert [await task.wait() for task in tasks] == [-9] * 300


def test_each_task_has_a_break_of_its_own() -> None:
    """Two libcs with one break would corrupt each other."""
    source = """
        import asyncio, sys, aiopip
        from subprocess import PIPE
        code = '''if True:
            import ctypes, os, sys
            libc = ctypes.CDLL(None, use_errno=True)
            libc.sbrk.restype = ctypes.c_void_p
            before = libc.sbrk(1 << 20)
            ctypes.memset(before, int(sys.argv[1]), 1 << 20)
            os.write(1, b"%d" % before)
            os.read(0, 1)
            assert set(ctypes.string_at(before, 1 << 20)) == {int(sys.argv[1])}
        '''
        async def main():
            async with aiopip.Root() as root:
                tasks = [
                    await root.spawn(sys.executable, "-c", code, str(n), stdin=PIPE, stdout=PIPE)
                    for n in range(1, 4)
                ]
                starts = {int(await task.stdout.receive()) for task in tasks}
                assert len(starts) == 3
                for task in tasks:
                    await task.stdin.send(b".")
                    assert await task.wait() == 0
        asyncio.run(main())
    """
    done = run_python(source)
    assert (done.returncode, done.stderr) == (0, "")
