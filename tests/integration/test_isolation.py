"""Tasks that die hurt nobody: killed at any moment, by faults, behind exec, in posix_spawn."""

# Other ways to wait for processes, which block, are used beside ours.
# ruff: noqa: ASYNC220, ASYNC222

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from integration.hazards import EXECS, in_thread, kill_at_random_moments, kill_in_posix_spawn
from integration.server import serve
from integration.usage import Use, little_more
from jobs import gather, start
from support import (
    clean_root,
    mapping_count,
    output,
    pipe,
    run_python,
    settled,
    still_works,
    until,
)

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


# kill -9


async def test_kill_at_any_moment_ends_the_task_and_frees_its_memory(
    root: aiopip.Root, program: Programs
) -> None:
    import_numpy = "import json, decimal, threading; threading.Thread(target=print).start()"
    lines = [
        (str(program("pause")),),
        ("sh", "-c", "while :; do (:); done"),
        ("sleep", "1000"),
        (sys.executable, "-c", f"{import_numpy}\nwhile True: bytearray(3_000_000)"),
    ]
    await kill_at_random_moments(root, lines, 8, 0.02, 0)
    await settled(root)
    before = Use.now()
    await kill_at_random_moments(root, lines, 200, 0.03, 1)
    await settled(root)
    assert mapping_count() <= before.mappings + 4
    await little_more(before)


async def test_task_killed_while_it_loads_gives_minus_nine(
    root: aiopip.Root, program: Programs
) -> None:
    """As soon as spawn returns, ld.so has hardly begun."""
    await still_works(root)
    await settled(root)
    before = mapping_count()
    for _ in range(100):
        task = await root.spawn(program("pause"))
        task.kill()
        assert await task.wait() == -9
    await settled(root)
    assert mapping_count() <= before + 4


async def test_sibling_and_root_are_unharmed_by_faults(
    root: aiopip.Root, program: Programs, pip_program: Programs
) -> None:
    kept = bytes(range(256)) * 4096
    mine = bytearray(kept)
    async with serve(root, pip_program("server")) as server:
        assert await server.ask("grid 100000") == "OK"
        for how, number in (("segv", 11), ("abort", 6), ("fpe", 8), ("stack", 11), ("bus", 7)):
            tasks = [await root.spawn(program("fault"), how) for _ in range(5)]
            assert [await task.wait() for task in tasks] == [-number] * 5
            assert await server.ask("sum") == "4999950000"
    assert mine == kept


# Tasks that exec


async def test_status_of_a_task_that_execs_arrives(root: aiopip.Root, program: Programs) -> None:
    for code in (0, 3, 255):
        task = await root.spawn(*EXECS, str(program("code")), str(code))
        assert await task.wait() == code
    task = await root.spawn(*EXECS, "sleep", "1000")
    await until(lambda: not task.shared)
    # It has its new memory a moment before its arguments are in there.
    cmdline = Path(f"/proc/{task.pid}/cmdline")
    await until(lambda: cmdline.read_bytes() == b"sleep\x001000\0")
    task.terminate()
    assert await task.wait() == -15


async def test_status_of_a_task_that_execs_arrives_though_another_wait_was_quicker(
    root: aiopip.Root, program: Programs
) -> None:
    """Behind exec a task has exit signal SIGCHLD, and waitpid(-1) takes it."""
    stolen = 0

    def steal() -> None:
        nonlocal stolen
        with contextlib.suppress(ChildProcessError):
            stolen += os.waitpid(-1, os.WNOHANG)[0] > 0

    with in_thread(steal):
        for number in range(200):
            task = await root.spawn(*EXECS, str(program("code")), str(number))
            status = await task.wait()
            assert status == number
            assert not status.lost
        task = await root.spawn(*EXECS, "sleep", "1000")
        task.kill()
        assert await task.wait() == -9
    assert stolen > 0
    await still_works(root)


async def test_blocking_wait_for_any_child_does_not_see_tasks(
    root: aiopip.Root, program: Programs
) -> None:
    """Exit signal 0: tasks are no children to those who ask for any child."""
    tasks = [await root.spawn(program("code"), str(number)) for number in range(5)]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)
    assert [await task.wait() for task in tasks] == [0, 1, 2, 3, 4]
    with subprocess.Popen(["sh", "-c", "exit 7"]) as child:
        task = await root.spawn(program("pause"))
        assert os.waitpid(-1, 0)[0] == child.pid
        child.returncode = 7
        task.kill()
        assert await task.wait() == -9


async def test_memory_of_a_task_that_execs_goes_back(root: aiopip.Root, program: Programs) -> None:
    await still_works(root)
    await settled(root)
    before = mapping_count()
    for _ in range(50):
        assert await (await root.spawn(*EXECS, str(program("zero")))).wait() == 0
    await settled(root)
    assert mapping_count() <= before + 4


# SIGCHLD in the root


@pytest.mark.parametrize("action", ["handler", "ignore"])
async def test_tasks_raise_no_sigchld(root: aiopip.Root, program: Programs, action: str) -> None:
    seen: list[int] = []
    code, pause = program("code"), program("pause")  # which are compiled by children
    handler = signal.SIG_IGN if action == "ignore" else (lambda number, _: seen.append(number))
    before = signal.signal(signal.SIGCHLD, handler)
    try:
        for number in range(20):
            assert await (await root.spawn(code, str(number))).wait() == number
        for number in range(20):
            assert await (await root.spawn(*EXECS, str(code), str(number))).wait() == number
            # It may come behind the end: the kernel wakes who waits for that before it sends it.
            await until(lambda: bool(seen) or action == "ignore", "SIGCHLD of what was exec'ed")
            seen.clear()
        tasks = [await root.spawn(pause) for _ in range(20)]
        root.kill_all()
        assert [await task.wait() for task in tasks] == [-9] * 20
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not seen


# Orphans of vfork


async def test_three_hundred_tasks_killed_in_posix_spawn_disturb_no_memory(
    root: aiopip.Root, program: Programs
) -> None:
    waits = await kill_in_posix_spawn(root, program("posix_spawns"), program("zero"), 300)
    assert waits > 0, "no child of a killed task was on the memory: this tested nothing"


async def test_child_by_vfork_keeps_the_memory_of_its_killed_task(
    root: aiopip.Root, program: Programs
) -> None:
    """The moment is held: the child stays between vfork and exec, and its parent is killed."""
    await orphan_holds_memory(root, program)


async def orphan_holds_memory(root: aiopip.Root, program: Programs) -> None:
    async with pipe() as made:
        task = await root.spawn(program("vforks"), stdout=made.writer)
        child = int(await made.line())
    try:
        task.kill()
        assert await task.wait() == -9
        stopped = start(anyio.sleep(0.3))
        while not stopped.done():
            assert root.statistics().reclaiming == 1
            await anyio.sleep(0.01)
        await still_works(root)
    finally:
        os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)  # it is ours where this process reaps orphans
    await settled(root)
    assert root.statistics().orphan_waits > 0


async def test_child_by_vfork_that_the_root_adopts_keeps_the_memory_too(program: Programs) -> None:
    """A root that is process 1 of a container, or a subreaper, is the orphan's new parent."""
    set_child_subreaper = 36
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(set_child_subreaper, 1, 0, 0, 0) == 0
    try:
        async with clean_root() as root:
            await orphan_holds_memory(root, program)
    finally:
        assert prctl(set_child_subreaper, 0, 0, 0, 0) == 0


# Together with others that make processes


async def test_thousand_processes_of_three_kinds_in_one_loop(
    root: aiopip.Root, program: Programs
) -> None:
    """500 of the loop's own, 500 tasks, and a thread's: no exit is lost, stolen or mistaken."""
    path = program("code")
    limit = anyio.Semaphore(40)

    async def process(code: int) -> tuple[int, int | None]:
        async with limit:
            made = await anyio.open_process([path, str(code)], stdin=None, stdout=None, stderr=None)
            return code, await made.wait()

    async def task(code: int) -> tuple[int, int | None]:
        async with limit:
            made = await root.spawn(path, str(code))
            return code, int(await made.wait())

    def in_other_thread() -> None:
        assert subprocess.run([path, "77"], check=False).returncode == 77

    with in_thread(in_other_thread):
        work = []
        for number in range(500):
            work.append(process(number % 256))
            work.append(task((number * 7 + 3) % 256))
        ended = await gather(*work)
    assert all(code == status for code, status in ended)
    with pytest.raises(aiopip.NoTasksError):
        root.wait_any_nowait()


def test_tasks_beside_a_root_that_forks(program: Programs) -> None:
    """os.fork in the root while tasks live: the child's exit touches nothing."""
    source = """
        import asyncio, os, sys, warnings
        import aiopip
        warnings.simplefilter("ignore", DeprecationWarning)
        async def main():
            async with aiopip.Root() as root:
                tasks = [await root.spawn(sys.argv[1]) for _ in range(10)]
                for how in ("_exit", "exit"):
                    child = os.fork()
                    if child == 0:
                        if how == "_exit":
                            os._exit(4)
                        sys.exit(4)
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4, how
                assert all(task.status is None for task in tasks)
                root.kill_all()
                assert [await task.wait() for task in tasks] == [-9] * 10
        asyncio.run(main())
    """
    done = run_python(source, str(program("pause")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_tasks_children_go_on_as_under_any_process(root: aiopip.Root) -> None:
    """A task's own children are waited for by it, also when there are many."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (exit $i); echo $?; done | sort -n | tail -n1"
    written = await gather(*[output(root, "sh", "-c", script) for _ in range(10)])
    assert written == [b"10\n"] * 10
