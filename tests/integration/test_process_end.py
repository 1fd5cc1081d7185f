"""How the root's process ends: interrupted, by exit, or killed.  Its tasks go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loops import IN_SCRIPT, IN_SCRIPTS
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

    def interrupt(self) -> None:
        """Press Ctrl-C, when its loop sleeps.

        asyncio loses what it has just taken from its queue if KeyboardInterrupt is raised before
        that runs, and then waits at its end for a task that nobody wakes.
        """
        block_until(self._sleeps, "the loop sleeps")
        os.kill(self.process.pid, signal.SIGINT)

    def _sleeps(self) -> bool:
        before = self._switches()
        time.sleep(0.05)
        return "(sleeping)" in before[0] and before == self._switches()

    def _switches(self) -> list[str]:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return [line for line in status.splitlines() if line.startswith(("State", "voluntary"))]

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
    import aiopip, anyio
    def say(*words):
        # One write: what tasks write does not come between.
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""

EACH_KIND = pytest.mark.parametrize("kind", IN_SCRIPTS)


def interrupted(body: str) -> str:
    """A script of which Ctrl-C ends `main`, and which tells how its tasks have ended.

    Args:
        body: what `main` does; the tasks go into `started`.
    """
    return f"""{SAY}{IN_SCRIPT}
    started = []
    async def tick():
        # A signal that comes just before epoll_wait(2) does not end that: a gap of CPython's.
        while True:
            await asyncio.sleep(0.2)
    async def main():
        if sys.argv[1] == "asyncio":
            ticking = asyncio.create_task(tick())
{body}
    try:
        run(main)
    except KeyboardInterrupt:
        say("KeyboardInterrupt", [task.status and int(task.status) for task in started])
        raise
"""


INTERRUPTED = interrupted("""
        async with aiopip.Root(grace_s=float(sys.argv[2])) as root:
            tasks = started[:] = [await root.spawn(*sys.argv[3:]) for _ in range(3)]
            try:
                say("pids", *[task.pid for task in tasks])
                await anyio.sleep(1000)
            finally:
                say("interrupted")
""")


@EACH_KIND
def test_interrupt_terminates_the_tasks(started: list[Script], kind: str) -> None:
    script, pids = start(started, INTERRUPTED, kind, 1000, "sleep", "1000")
    script.interrupt()
    script.expect("KeyboardInterrupt [-15, -15, -15]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


@EACH_KIND
def test_interrupt_of_the_foreground_group_reaches_the_tasks_too(
    started: list[Script], kind: str
) -> None:
    script, pids = start(started, INTERRUPTED, kind, 1000, "sleep", "1000")
    os.killpg(script.process.pid, signal.SIGINT)
    script.expect("KeyboardInterrupt [-2, -2, -2]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


ENDURED = 2 if sys.version_info >= (3, 11) else 1
"""How many interrupts asyncio.run takes before it abandons its loop: then nobody could wait."""


TWICE = pytest.mark.skipif(
    ENDURED < 2, reason="asyncio.run of 3.10 abandons its loop at the second one"
)


@TWICE
@EACH_KIND
def test_second_interrupt_kills_at_once(
    started: list[Script], program: Programs, kind: str
) -> None:
    script, pids = start(started, INTERRUPTED, kind, 1000, program("stubborn"))
    script.expect("ready", 3)
    script.interrupt()
    script.expect("TERM", 3)
    script.expect("interrupted")
    script.interrupt()
    script.expect("KeyboardInterrupt [-9, -9, -9]")
    assert script.end()[0] == -signal.SIGINT
    assert all_gone(pids)


@EACH_KIND
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_interrupts_in_quick_succession_leave_no_task(
    started: list[Script], program: Programs, count: int, kind: str
) -> None:
    script, pids = start(started, INTERRUPTED, kind, 0.1, program("stubborn"))
    script.expect("ready", 3)
    script.interrupt()
    for _ in range(count - 1):
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
    + IN_SCRIPT
    + """
    told = []
    async def enter():
        root = aiopip.Root(grace_s=1000)
        await root.__aenter__()
        tasks = [await root.spawn("sleep", "1000") for _ in range(5)]
        say("pids", *[task.pid for task in tasks])
        told.append(True)
        return root
    async def exit_in_the_loop():
        root = await enter()
        sys.exit(3)
    async def exit_in_the_block():
        async with aiopip.Root() as root:
            tasks = [await root.spawn("sleep", "1000") for _ in range(5)]
            say("pids", *[task.pid for task in tasks])
            sys.exit(3)
    async def enter_and_stay():
        root = await enter()
        await anyio.sleep(1000)
    how = sys.argv[2]
    if how == "loop closed":
        root = run(enter)
    elif how == "loop open":
        import uvloop
        loop = uvloop.new_event_loop() if sys.argv[1] == "uvloop" else asyncio.new_event_loop()
        root = loop.run_until_complete(enter())
    elif how == "in the loop":
        run(exit_in_the_loop)
    elif how == "in the block":
        run(exit_in_the_block)
    elif how == "daemon thread":
        threading.Thread(target=run, args=[enter_and_stay], daemon=True).start()
        while not told:
            threading.Event().wait(0.001)
    elif how == "_exit":
        root = run(enter)
        os._exit(3)
    elif how == "exception":
        root = run(enter)
        raise SystemError("unhandled")
"""
)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("loop closed", 0),
        ("loop open", 0),
        ("in the loop", 3),
        ("in the block", 3),
        ("daemon thread", 0),
        ("_exit", 3),
        ("exception", 1),
    ],
)
@EACH_KIND
def test_exit_with_a_live_root_ends_its_tasks(
    started: list[Script], how: str, code: int, kind: str
) -> None:
    if (kind, how) == ("trio", "loop open"):
        pytest.skip("trio.run ends with its main task")
    script, pids = start(started, FORGOTTEN, kind, how)
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
