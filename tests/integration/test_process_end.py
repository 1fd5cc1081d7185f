"""How the root's process ends: interrupted, by exit, or killed.  Its tasks go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support import (
    DEADLINE_S,
    all_gone,
    block_until,
    is_gone,
    kill_quietly,
    python_source,
    run_python,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import Programs

GONE_WITHIN_S = 1.0
"""The promise: none of the tasks is alive a second later."""


class Script:
    """A root in a process of its own; it writes lines, first the PIDs of its tasks."""

    def __init__(self, source: str, *args: object) -> None:
        # A session of its own: a signal to its group reaches nobody else.
        line = [*python_source(source), *map(str, args)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            line, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

        self.seen: Counter[str] = Counter()

    def line(self) -> str:
        """The next line of the script, or of a task of it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.seen[line.rstrip("\n")] += 1
        return line.rstrip("\n")

    def expect(self, line: str, count: int = 1) -> None:
        """Read on until a line has come so many times."""
        while self.seen[line] < count:
            self.line()

    def pids(self) -> list[int]:
        """Read on until the script has told its tasks' PIDs."""
        while not (line := self.line()).startswith("pids "):
            pass
        return [int(pid) for pid in line.split()[1:]]

    def end(self) -> tuple[int, str]:
        """Its status and what it wrote to stderr."""
        _, written = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, written


@pytest.fixture
def started() -> Iterator[list[Script]]:
    """What is in the list is ended behind the test."""
    scripts: list[Script] = []
    yield scripts
    for script in scripts:
        kill_quietly(script.process.pid)
        script.process.communicate()


def start(started: list[Script], source: str, *args: object) -> tuple[Script, list[int]]:
    script = Script(source, *args)
    started.append(script)
    return script, script.pids()


def gone_in_time(pids: list[int]) -> None:
    block_until(lambda: all_gone(pids), f"{pids} end", GONE_WITHIN_S)


# Ctrl-C

SAY = """
    import asyncio, os, sys, threading
    import aiopip
    def say(*words):
        # One write: what tasks write does not come between.
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

INTERRUPTED = (
    SAY
    + """
    started = []
    async def tick():
        # A signal that comes just before epoll_wait(2) does not end that: a gap of CPython's.
        while True:
            await asyncio.sleep(0.02)
    async def main():
        ticking = asyncio.create_task(tick())
        async with aiopip.Root(grace_s=float(sys.argv[1])) as root:
            tasks = started[:] = [await root.spawn(*sys.argv[2:]) for _ in range(3)]
            say("pids", *[task.pid for task in tasks])
            try:
                await asyncio.sleep(1000)
            finally:
                say("interrupted")
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        say("KeyboardInterrupt", [task.status and int(task.status) for task in started])
        raise
"""
)


def test_interrupt_terminates_the_tasks(started: list[Script]) -> None:
    script, pids = start(started, INTERRUPTED, 1000, "sleep", "1000")
    os.kill(script.process.pid, signal.SIGINT)
    script.expect("KeyboardInterrupt [-15, -15, -15]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


def test_interrupt_of_the_foreground_group_reaches_the_tasks_too(started: list[Script]) -> None:
    script, pids = start(started, INTERRUPTED, 1000, "sleep", "1000")
    os.killpg(script.process.pid, signal.SIGINT)
    script.expect("KeyboardInterrupt [-2, -2, -2]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


ENDURED = 2 if sys.version_info >= (3, 11) else 1
"""How many interrupts asyncio.run takes before it abandons its loop: then nobody could wait."""


@pytest.mark.skipif(ENDURED < 2, reason="asyncio.run of 3.10 abandons its loop at the second one")
def test_second_interrupt_kills_at_once(started: list[Script], program: Programs) -> None:
    script, pids = start(started, INTERRUPTED, 1000, program("stubborn"))
    script.expect("ready", 3)
    os.kill(script.process.pid, signal.SIGINT)
    script.expect("TERM", 3)
    script.expect("interrupted")
    os.kill(script.process.pid, signal.SIGINT)
    script.expect("KeyboardInterrupt [-9, -9, -9]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_interrupts_in_quick_succession_leave_no_task(
    started: list[Script], program: Programs, count: int
) -> None:
    script, pids = start(started, INTERRUPTED, 0.1, program("stubborn"))
    script.expect("ready", 3)
    for _ in range(count):
        os.kill(script.process.pid, signal.SIGINT)
    while not (line := script.line()).startswith("KeyboardInterrupt"):
        pass
    assert count > ENDURED or line == "KeyboardInterrupt [-9, -9, -9]"
    code, written = script.end()
    assert code == -signal.SIGINT, written
    gone_in_time(pids)


# Exit

FORGOTTEN = (
    SAY
    + """
    told = []
    async def enter():
        root = aiopip.Root(grace_s=1000)
        await root.__aenter__()
        tasks = [await root.spawn("sleep", "1000") for _ in range(5)]
        say("pids", *[task.pid for task in tasks])
        told.append(True)
        return root
    def run():
        loop = asyncio.new_event_loop()
        loop.create_task(enter())
        loop.run_forever()
    how = sys.argv[1]
    if how == "loop closed":
        root = asyncio.run(enter())
    elif how == "loop open":
        loop = asyncio.new_event_loop()
        root = loop.run_until_complete(enter())
    elif how == "in the loop":
        async def main():
            root = await enter()
            sys.exit(3)
        asyncio.run(main())
    elif how == "daemon thread":
        threading.Thread(target=run, daemon=True).start()
        while not told:
            threading.Event().wait(0.001)
    elif how == "_exit":
        root = asyncio.run(enter())
        os._exit(3)
    elif how == "exception":
        root = asyncio.run(enter())
        raise SystemError("unhandled")
"""
)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("loop closed", 0),
        ("loop open", 0),
        ("in the loop", 3),
        ("daemon thread", 0),
        ("_exit", 3),
        ("exception", 1),
    ],
)
def test_exit_with_a_live_root_ends_its_tasks(started: list[Script], how: str, code: int) -> None:
    script, pids = start(started, FORGOTTEN, how)
    assert len(pids) == 5
    script.process.wait(DEADLINE_S)
    gone_in_time(pids)
    found, written = script.end()
    assert found == code, written
    assert ("SystemError" in written) == (how == "exception")


FIFTY = (
    SAY
    + """
    async def main():
        async with aiopip.Root() as root:
            tasks = [await root.spawn(*sys.argv[1:]) for _ in range(50)]
            say("pids", *[task.pid for task in tasks])
            await asyncio.sleep(1000)
    asyncio.run(main())
"""
)


def test_root_that_is_killed_takes_fifty_tasks_with_it(
    started: list[Script], program: Programs
) -> None:
    script, pids = start(started, FIFTY, program("pause"))
    assert len(pids) == 50
    assert not any(is_gone(pid) for pid in pids)
    script.process.kill()
    gone_in_time(pids)
    assert script.end()[0] == -9


def test_root_that_is_killed_takes_python_tasks_with_it(started: list[Script]) -> None:
    source = "import time; time.sleep(1000)"
    script, pids = start(started, FIFTY.replace("50", "8"), sys.executable, "-c", source)
    script.process.kill()
    gone_in_time(pids)


def test_root_that_crashes_takes_its_tasks_with_it(
    started: list[Script], program: Programs
) -> None:
    script, pids = start(started, FIFTY.replace("50", "5"), program("pause"))
    os.kill(script.process.pid, signal.SIGSEGV)
    gone_in_time(pids)
    assert script.end()[0] == -signal.SIGSEGV


def test_root_that_execs_ends_its_tasks(started: list[Script], program: Programs) -> None:
    source = FIFTY.replace("50", "5").replace(
        "await asyncio.sleep(1000)", "import os; os.execvp('sleep', ['sleep', '1000'])"
    )
    script, pids = start(started, source, program("pause"))
    gone_in_time(pids)
    script.process.kill()


def test_import_alone_starts_nothing() -> None:
    source = """
        import os, threading
        import aiopip
        assert len(os.listdir("/proc/self/task")) == 1
        child = os.fork()
        if child == 0:
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    """
    done = run_python(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_may_be_opened_behind_setuid() -> None:
    """A service that has dropped its privileges: its /proc/self is not its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    source = """
        import asyncio, os
        import aiopip
        async def main():
            async with aiopip.Root() as root:
                assert await (await root.spawn("true", env={})).wait() == 0
                task = await root.spawn("sleep", "1000", env={})
                task.kill()
                assert await task.wait() == -9
        asyncio.run(main())  # behind setuid the standard library may be out of reach
        os.setgid(65534)
        os.setuid(65534)
        asyncio.run(main())
    """
    done = run_python(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
