"""What a task's status says."""

# The compiler runs while the loop has nothing else to do.
# ruff: noqa: ASYNC221

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support import pipe, ready

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs

FATAL = [
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2"),
    *("PIPE", "ALRM", "TERM", "XCPU", "XFSZ", "VTALRM", "PROF", "SYS", "STKFLT"),
]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 63, 64, 126, 127, 128, 137, 143, 200, 254, 255])
async def test_exit_codes_arrive(root: aiopip.Root, program: Programs, code: int) -> None:
    status = await (await root.spawn(program("code"), str(code))).wait()
    assert status == code
    assert (status.exited, status.exit_code) == (True, code)
    assert (status.signaled, status.signal, status.core_dumped) == (False, None, False)
    assert os.waitstatus_to_exitcode(status.wait_status) == code
    assert not status.lost


async def test_exit_codes_beyond_a_byte_wrap(root: aiopip.Root, program: Programs) -> None:
    assert await (await root.spawn(program("code"), "256")).wait() == 0
    assert await (await root.spawn(program("code"), "-1")).wait() == 255


@pytest.mark.parametrize("name", FATAL)
async def test_fatal_signals_arrive(root: aiopip.Root, program: Programs, name: str) -> None:
    number = getattr(signal, f"SIG{name}", 16)
    task = await root.spawn(program("pause"))
    task.send_signal(number)
    status = await task.wait()
    assert status == -number
    assert (status.signaled, status.signal) == (True, number)
    assert (status.exited, status.exit_code) == (False, None)


@pytest.mark.parametrize("number", [34, 35, 50, 64])
async def test_fatal_real_time_signals_arrive(
    root: aiopip.Root, program: Programs, number: int
) -> None:
    task = await root.spawn(program("pause"))
    task.send_signal(number)
    assert (await task.wait()).signal == number


@pytest.mark.parametrize(
    ("how", "number"),
    [("segv", 11), ("abort", 6), ("fpe", 8), ("ill", 4), ("bus", 7), ("stack", 11)],
)
async def test_faults_end_their_task_alone(
    root: aiopip.Root, program: Programs, how: str, number: int
) -> None:
    sibling = await ready(root, program("pause"), "7")
    status = await (await root.spawn(program("fault"), how)).wait()
    assert status == -number
    assert not status.core_dumped
    sibling.send_signal(signal.SIGUSR1)
    assert await sibling.wait() == 7


async def test_stopped_and_continued_task_ends_as_any(root: aiopip.Root, program: Programs) -> None:
    task = await ready(root, program("pause"), "5")
    task.send_signal(signal.SIGSTOP)
    task.send_signal(signal.SIGUSR1)
    task.send_signal(signal.SIGCONT)
    assert await task.wait() == 5
    stopped = await root.spawn(program("pause"))
    stopped.send_signal(signal.SIGSTOP)
    stopped.kill()
    assert await stopped.wait() == -9


async def test_signals_to_an_ended_task_are_errors(root: aiopip.Root) -> None:
    task = await root.spawn("true")
    await task.wait()
    for send in (task.kill, task.terminate, lambda: task.send_signal(0)):
        with pytest.raises(aiopip.TaskEndedError) as caught:
            send()
        assert isinstance(caught.value, ProcessLookupError)


async def test_signal_that_is_none_is_refused(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000")
    with pytest.raises(aiopip.InvalidArgumentError, match="signal"):
        task.send_signal(65)
    task.send_signal(0)
    task.kill()
    assert await task.wait() == -9


async def test_times_lie_around_the_run(root: aiopip.Root) -> None:
    before = time.monotonic_ns()
    task = await root.spawn("sleep", "0.05")
    status = await task.wait()
    after = time.monotonic_ns()
    assert before <= status.started_ns < status.ended_ns <= after


async def test_usage_is_the_tasks_and_its_childrens(root: aiopip.Root) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    own = (await (await root.spawn(sys.executable, "-c", burn)).wait()).rusage
    assert 0.2 < own.ru_utime + own.ru_stime < 3
    line = ("sh", "-c", '"$0" -c "$1"; true', sys.executable, burn)
    childs = (await (await root.spawn(*line)).wait()).rusage
    assert 0.2 < childs.ru_utime + childs.ru_stime < 3
    idle = (await (await root.spawn("true")).wait()).rusage
    assert idle.ru_utime + idle.ru_stime < 0.2
    assert idle.ru_minflt > 0


async def test_missing_library_is_as_under_exec(
    root: aiopip.Root, program: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ld.so ends the task with 127 before aiopip's library is there."""
    folder = program("zero").parent
    subprocess.run(
        ["gcc", "-shared", "-o", "libabsent.so", "-xc", "/dev/null"], cwd=folder, check=True
    )
    path = program("zero", f"-L{folder}", "-Wl,--no-as-needed", "-labsent")
    (folder / "libabsent.so").unlink()
    task = await root.spawn(path, stderr=subprocess.DEVNULL)
    assert await task.wait() == 127
    assert task.loaded is False
    good = await root.spawn(program("zero"))
    assert await good.wait() == 0
    assert good.loaded is True
    assert root.statistics().unloaded == 1


async def test_exit_runs_atexit_and_flushes_and_quick_exit_does_not(root: aiopip.Root) -> None:
    source = """if True:
        import atexit, os, sys
        atexit.register(print, "at exit")
        print("written", end=" ")
        if sys.argv[1] == "quick": os._exit(4)
    """
    for how, code, expected in (("slow", 0, b"written at exit"), ("quick", 4, b"")):
        async with pipe() as made:
            line = (sys.executable, "-c", source, how)
            env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
            task = await root.spawn(*line, stdout=made.writer, env=env)
            assert await made.line() == expected
        assert await task.wait() == code


async def test_any_thread_may_end_a_task(root: aiopip.Root) -> None:
    source = """if True:
        import os, threading
        threading.Thread(target=os._exit, args=(9,)).start()
        threading.Event().wait()
    """
    assert await (await root.spawn(sys.executable, "-c", source)).wait() == 9
