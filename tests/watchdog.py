"""Finds library code that puts the thread of an event loop to sleep.

A thread of its own looks at the loop's several times within the bound.  It has blocked when it is
asleep at each look, has taken hardly any time of a CPU since the first one, and stands in the same
call of a function of the library.  A thread that waits for a CPU is not asleep, one that waits for
the kernel's memory locks is not in an interruptible sleep, and one that waits for Python's lock
goes on in between: so a busy machine blocks nobody.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

BOUND_S = 0.5
"""How long the library's code may sleep in the thread of a loop."""

LOOKS = 5
"""How often the watchdog looks within the bound."""

BUSY = 0.1
"""Above this share of a CPU a thread works rather than sleeps."""

LIBRARY = os.fspath(Path(aiopip.__file__).parent) + os.sep
TESTS = os.fspath(Path(__file__).parent) + os.sep

MAY_BLOCK = {
    ("_core.py", "abort"),  # Root.abort, and a block whose coroutine is closed: a second at most
    ("_lifetime.py", "open_core"),  # a probe is run as the first task
    ("_lock.py", "acquire_sync"),
}
"""Functions that are documented to block."""


class _Look(NamedTuple):
    """A thread that sleeps in the library."""

    frame: int  # its id: the frame itself would keep its variables alive
    code: CodeType
    at_s: float
    cpu_s: float


class Watchdog:
    """A thread that looks at others."""

    def __init__(self, bound_s: float = BOUND_S) -> None:
        self._bound_s = bound_s
        self._changed = threading.Condition()
        self._watched: tuple[int, int] | None = None
        self._blocked: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[str]]:
        """Watch this thread within the block; the stacks in which it slept are in the list."""
        blocked: list[str] = []
        with self._changed:
            self._watched = threading.get_ident(), threading.get_native_id()
            self._blocked = blocked
            self._changed.notify()
        try:
            yield blocked
        finally:
            with self._changed:
                self._watched = None
                self._changed.notify()

    def end(self) -> None:
        """End the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        first: _Look | None = None
        with self._changed:
            while not self._ended:
                if self._watched is None:
                    first = None
                    self._changed.wait()
                    continue
                now = _look(*self._watched)
                if first is None or now is None or (now.frame, now.code) != first[:2]:
                    first = now
                elif now.at_s - first.at_s >= self._bound_s:
                    if now.cpu_s - first.cpu_s < BUSY * (now.at_s - first.at_s):
                        self._blocked.append(_stack(self._watched[0]))
                    first = now
                self._changed.wait(self._bound_s / LOOKS)


def _look(thread: int, native: int) -> _Look | None:
    """The call of the library in which a thread sleeps, if it does."""
    stat = Path(f"/proc/self/task/{native}/stat").read_text()
    if stat.rpartition(")")[2].split()[0] != "S":
        return None
    found = _library_frame(sys._current_frames().get(thread))
    if found is None:
        return None
    cpu_s = time.clock_gettime(time.pthread_getcpuclockid(thread))
    return _Look(id(found), found.f_code, time.monotonic(), cpu_s)


def _library_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the library, unless it calls the test, or may block."""
    while frame is not None and not frame.f_code.co_filename.startswith(LIBRARY):
        if frame.f_code.co_filename.startswith(TESTS):
            return None
        frame = frame.f_back
    found = frame
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARY):
        code = frame.f_code
        if (code.co_filename.removeprefix(LIBRARY), code.co_name) in MAY_BLOCK:
            return None
        frame = frame.f_back
    return found


def _stack(thread: int) -> str:
    return "".join(traceback.format_stack(sys._current_frames().get(thread)))
