"""Python programs as tasks: how they end and what they write, as ordinary processes do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from integration.pythons import Ran, alike, as_task, environment, python, script
from support import pipe

if TYPE_CHECKING:
    from pathlib import Path

    import aiopip

# Exit

EXITS = {
    "0": (0, ""),
    "3": (3, ""),
    "255": (255, ""),
    "256": (0, ""),
    "-1": (255, ""),
    "2**31 + 7": (7, ""),
    "2**64": (255, None),  # 3.13 adds words of its own
    "-2**70": (255, None),
    "None": (0, ""),
    "True": (1, ""),
    "False": (0, ""),
    "'words'": (1, "words\n"),
    "1.0": (1, "1.0\n"),
    "(4, 5)": (1, "(4, 5)\n"),
    "''": (1, "\n"),
}


@pytest.mark.parametrize("value", EXITS)
async def test_exit_with_a_value(root: aiopip.Root, value: str) -> None:
    status, words = EXITS[value]
    ran = await alike(root, *python(f"import sys; sys.exit({value})"))
    assert (ran.status, ran.out) == (status, b"")
    assert words is None or ran.err.decode() == words


SILENT_ENDS = {
    "_exit": ("import os; os._exit(7)", 7),
    "_exit, cut": ("import os; os._exit(0x1ff)", 255),
    "abort": ("import os; os.abort()", -signal.SIGABRT),
    "SIGTERM": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "SIGKILL": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "realtime signal": ("import os, signal; os.kill(os.getpid(), 40)", -40),
    "SystemExit in a thread": (
        "import sys, threading; threading.Thread(target=sys.exit, args=(5,)).start()",
        0,
    ),
    "_exit in a thread": (
        """
        import os, threading
        threading.Thread(target=os._exit, args=(5,)).start()
        threading.Event().wait()
        """,
        5,
    ),
    "exit between others' threads": (
        """
        import sys, threading
        for _ in range(4):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        sys.exit(6)
        """,
        6,
    ),
}


@pytest.mark.parametrize(("source", "status"), SILENT_ENDS.values(), ids=SILENT_ENDS)
async def test_end_without_words(root: aiopip.Root, source: str, status: int) -> None:
    assert await alike(root, *python(source)) == Ran(status, b"", b"")


LOUD_ENDS = {
    "exception": ("def f(): return 1 / 0\nf()", 1, "ZeroDivisionError: division by zero\n"),
    "chained": (
        "try: {}['key']\nexcept KeyError as cause: raise OSError(2, 'none') from cause",
        1,
        "FileNotFoundError: [Errno 2] none\n",
    ),
    "no syntax": ("def (", 1, "SyntaxError: invalid syntax\n"),
    "recursion": (
        "def f(): f()\nf()",
        1,
        "RecursionError: maximum recursion depth exceeded\n",
    ),
    "no memory": ("bytearray(1 << 62)", 1, "MemoryError\n"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt\n"),
    "SIGINT": (
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()",
        -signal.SIGINT,
        "KeyboardInterrupt\n",
    ),
    "exception in a thread": (
        """
        import threading
        threading.Thread(target=lambda: [][1], name="worker").start()
        """,
        0,
        "IndexError: list index out of range\n",
    ),
    "excepthook": (
        "import sys; sys.excepthook = lambda kind, *_: print(kind, file=sys.stderr); 1 / 0",
        1,
        "<class 'ZeroDivisionError'>\n",
    ),
    "exception in __del__": (
        """
        class Bad:
            def __del__(self):
                raise ValueError("late")
        bad = Bad()
        """,
        0,
        "ValueError: late\n",
    ),
    "exception in atexit": (
        "import atexit; atexit.register(lambda: [][1])",
        0,
        "IndexError: list index out of range\n",
    ),
    "fatal error": (
        "import faulthandler; faulthandler._fatal_error_c_thread()",
        -signal.SIGABRT,
        None,
    ),
    "fault": ("import faulthandler; faulthandler.enable(); faulthandler._sigsegv()", -11, None),
    "stack overflow": (
        "import faulthandler; faulthandler.enable(); faulthandler._stack_overflow()",
        -11,
        None,
    ),
    "dump of all threads": (
        """
        import faulthandler, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        faulthandler.dump_traceback_later(0.5, exit=True)  # behind the next line
        threading.Event().wait()
        """,
        1,
        None,
    ),
}


@pytest.mark.parametrize(("source", "status", "last"), LOUD_ENDS.values(), ids=LOUD_ENDS)
async def test_end_with_a_report(
    root: aiopip.Root, tmp_path: Path, source: str, status: int, last: str | None
) -> None:
    """The same report, with the lines of the script."""
    ran = await alike(root, *script(tmp_path / "program.py", source))
    assert (ran.status, ran.out) == (status, b"")
    if last is None:
        assert b"(most recent call first)" in ran.err
    else:
        assert ran.err.endswith(last.encode())


# Finalisation

AT_EXIT = """
    import atexit, os, sys, threading, weakref
    class Thing:
        def __init__(self, name):
            self.name = name
        def __del__(self):
            print("del", self.name)
    for number in range(3):
        atexit.register(print, "atexit", number)
    thing, watched = Thing("global"), Thing("watched")
    weakref.finalize(watched, print, "finalize")
    cycle = [Thing("in a cycle")]
    cycle.append(cycle)
    def generate():
        try:
            yield
        finally:
            print("generator")
    running = generate()
    next(running)
    go = threading.Event()
    def late():
        go.wait()
        print("thread")
    threading.Thread(target=late).start()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.stdout.write("no newline:")
    go.set() if sys.argv[1] != "early" else None
"""

FINALISED = {"thread", "atexit 2", "atexit 1", "atexit 0", "finalize", "generator"}

EXIT_WAYS = {
    "end": ("", 0),
    "sys.exit": ("sys.exit(4)", 4),
    "exception": ("raise LookupError", 1),
    "interrupt": ("raise KeyboardInterrupt", -2),
    "exit in atexit": ("atexit.register(sys.exit, 9)", 0),
}


@pytest.mark.parametrize(("last", "status"), EXIT_WAYS.values(), ids=EXIT_WAYS)
async def test_exit_finalises(root: aiopip.Root, last: str, status: int) -> None:
    """Threads are joined, then atexit in reverse, then finalisers, then what is left of modules."""
    ran = await alike(root, *python(AT_EXIT + f"    {last}\n", "late"))
    assert ran.status == status
    lines = ran.out.decode().removeprefix("no newline:").splitlines()
    assert lines[0] == "thread"
    assert lines[1:].index("atexit 2") < lines[1:].index("atexit 0")
    assert set(lines) >= FINALISED
    assert {"del global", "del watched"} <= set(lines)


async def test_immediate_exit_finalises_nothing(root: aiopip.Root) -> None:
    ran = await alike(root, *python(AT_EXIT + "    os._exit(8)\n", "early"))
    assert ran == Ran(8, b"", b"")


async def test_fork_without_exec_finalises_in_both(root: aiopip.Root) -> None:
    source = """
        import atexit, os, sys
        parent = os.getpid()
        atexit.register(lambda: print("atexit", os.getpid() == parent))
        child = os.fork()
        if child == 0:
            sys.exit(3)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert await alike(root, *python(source)) == Ran(
        0, b"atexit False\nchild 3\natexit True\n", b""
    )


# What is written

WRITES = "import os, sys; print('out', end=''); print('err', file=sys.stderr)"

FLUSHES = {
    "end": ("-c", WRITES, b"out"),
    "_exit": ("-c", WRITES + "; os._exit(0)", b""),
    "unbuffered": ("-uc", WRITES + "; os._exit(0)", b"out"),
    "much": ("-c", WRITES + "; print('x\\n' * 20_000, end='')", b"out" + b"x\n" * 20_000),
}


@pytest.mark.parametrize("to", ["file", "pipe"])
@pytest.mark.parametrize(("option", "source", "written"), FLUSHES.values(), ids=FLUSHES)
async def test_stdout_is_flushed_at_exit(
    root: aiopip.Root, to: str, option: str, source: str, written: bytes
) -> None:
    if to == "file":
        ran = await alike(root, sys.executable, option, source)
        assert ran == Ran(0, written, b"err\n")
        return
    async with pipe() as made:
        line = (sys.executable, option, source)
        task = await root.spawn(
            *line, stdout=made.writer, stderr=subprocess.DEVNULL, env=environment()
        )
        lines = [await made.line()]
        while lines[-1]:
            lines.append(await made.line())
        assert await task.wait() == 0
    assert b"\n".join(lines) == written + b"\n" * (bool(written) and written[-1:] != b"\n")


@pytest.mark.parametrize("target", ["broken pipe", "/dev/full"])
@pytest.mark.parametrize(
    ("option", "source", "status"),
    [("-c", "print('x')", 120), ("-c", "print('x', flush=True)", 120), ("-uc", "print('x')", 1)],
    ids=["at exit", "at once", "unbuffered"],
)
async def test_stdout_that_takes_nothing(
    root: aiopip.Root, target: str, option: str, source: str, status: int
) -> None:
    if target == "broken pipe":
        reader, full = os.pipe()
        os.close(reader)
    else:
        full = os.open(target, os.O_WRONLY)
    try:
        ran = await alike(root, sys.executable, option, source, stdout=full)
    finally:
        os.close(full)
    expected = "BrokenPipeError" if target == "broken pipe" else "No space left on device"
    assert ran.status == status
    assert expected.encode() in ran.err


async def test_logging_of_threads(root: aiopip.Root, tmp_path: Path) -> None:
    """To stderr and to a file, whole lines each."""
    source = """
        import logging, sys, threading
        handlers = [logging.StreamHandler(), logging.FileHandler(sys.argv[1], "w")]
        form = "%(levelname)s %(threadName)s %(message)s"
        logging.basicConfig(level="INFO", handlers=handlers, format=form)
        def work():
            for number in range(50):
                logging.info("line %d", number)
        threads = [threading.Thread(target=work, name=f"t{n}") for n in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """
    expected = sorted(f"INFO t{n} line {line}" for n in range(8) for line in range(50))
    path = tmp_path / "log"
    ran = await as_task(root, *python(source, path))
    assert (ran.status, ran.out) == (0, b"")
    assert sorted(ran.err.decode().splitlines()) == expected
    assert sorted(path.read_text().splitlines()) == expected
