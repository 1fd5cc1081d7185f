"""One thread that waits for futexes in place of event loops, which cannot.

What is waited for is a `poll`: called again and again in that thread, it gives its result, or a
`Wait` with the words to sleep on.  The thread begins with the first that has to wait and ends with
the last, so a process that waits for nothing has no thread more.  A thread that may block waits
itself, by the same polls.
"""

from __future__ import annotations

import atexit
import errno
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from aiopip._errors import InvalidArgumentError, call_error
from aiopip._ffi import FOREVER, Bell, Word, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._loop import Loop

T = TypeVar("T")

EXIT_S = 1.0
"""How long the interpreter's exit waits for the thread, which ends at once."""


class Wait(NamedTuple):
    """A poll that has no result yet: the words that change before there is one."""

    words: list[Word]


class Job(Generic[T]):
    """Something that is waited for, and its result, which one side takes.

        thread                          who waits
        leaves the result here          says that it is cancelled
        looks: cancelled?               looks: a result?
        if so takes it, gives it back   if so takes it, gives it back

    Each writes first, then looks, so one of them finds the other's word; and a list's pop() gives
    the result once.  No lock is taken: a coroutine that nobody awaits any more is cancelled by the
    garbage collector, in any thread and between any two lines, those that hold a lock among them.

    Attributes:
        cancelled: whether nobody wants the result any more.
        error: what `poll` raised in place of a result.
    """

    __slots__ = ("_done", "_lost", "_poll", "_results", "cancelled", "error")

    def __init__(
        self,
        poll: Callable[[], T | Wait],
        done: Callable[[Job[T]], None],
        lost: Callable[[T], None],
    ) -> None:
        """Take what is called in the thread.

        Args:
            poll: tries once.
            done: called when there is a result, or an error.
            lost: called, in any thread, with a result that nobody wants.
        """
        self._poll = poll
        self._done = done
        self._lost = lost
        self._results: list[T] = []
        self.cancelled = False
        self.error: BaseException | None = None

    def look(self) -> list[Word] | None:
        """Try once, in the thread: the words to sleep on, None when it is over."""
        try:
            answer = self._poll()
        except BaseException as error:  # noqa: BLE001  raised where it is awaited
            self.error = error
        else:
            if isinstance(answer, Wait):
                return answer.words
            self._results.append(answer)
        return None

    def end(self) -> None:
        """Hand over, in the thread."""
        self._done(self)
        if self.cancelled:
            self.cancel()

    def cancel(self) -> None:
        """Nobody wants the result; if there is one it is given back."""
        self.cancelled = True
        try:
            result = self._results.pop()
        except IndexError:
            return
        self._lost(result)

    def result(self) -> T:
        """The result, once, or the error."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
            return self._results.pop()
        finally:
            del error  # its traceback refers to this frame


class Waiter:
    """The thread, and what it waits for."""

    def __init__(self) -> None:
        self._bell = Bell()
        # The garbage collector may run a `with` block's end, and so `add`, in the middle of `add`.
        self._lock = threading.RLock()
        self._jobs: list[Job[Any]] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, job: Job[T]) -> None:
        """Wait for something.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if self._thread is None and not self._stopped:
                self._start()
            self._jobs.append(job)
        self._bell.ring()

    def cancel(self, job: Job[T]) -> None:
        """Wait no more."""
        job.cancel()
        self._bell.ring()

    def stop(self) -> None:
        """End the thread, at the interpreter's exit."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._bell.ring()
        if thread is not None:
            thread.join(EXIT_S)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="aiopip-waiter", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._thread = None  # the next one tries again
            raise

    def _run(self) -> None:
        while (words := self._look()) is not None:
            wait(words)

    def _look(self) -> list[Word] | None:
        """Try all once: the words to sleep on, None when nothing is waited for.

        A function of its own: the thread, asleep, must not refer to a result, which would be a
        Region's memory that cannot go.
        """
        # First the bell's word, then a look at what there is: what comes later changes it.
        words = {self._bell.word(): None}
        jobs = self._next_jobs()
        if not jobs:
            return None
        for job in jobs:
            more = job.look()
            if more is not None:
                words.update(dict.fromkeys(more))
                continue
            self._remove(job)
            job.end()
        return list(words)

    def _next_jobs(self) -> list[Job[Any]]:
        with self._lock:
            for job in [job for job in self._jobs if job.cancelled]:
                self._jobs.remove(job)
            if self._stopped or not self._jobs:
                self._thread = None
                return []
            return self._jobs.copy()

    def _remove(self, job: Job[Any]) -> None:
        with self._lock:
            self._jobs.remove(job)
        # Behind the last one the thread ends; it must not sleep before that.
        self._bell.ring()


async def wait_in_thread(loop: Loop, poll: Callable[[], T | Wait], lost: Callable[[T], None]) -> T:
    """Wait for something without blocking the loop.

    Args:
        loop: the running one.
        poll: what gives the result; see above.
        lost: called, in any thread, with a result that came when its waiter was cancelled, or its
            loop closed.

    Raises:
        RuntimeError: no thread can be started.

    Cancellation:
        What had been got is given to `lost`.
    """
    future = loop.create_future()

    def wake(_: None) -> None:
        if not future.done():
            future.set_result(None)

    def done(job: Job[T]) -> None:
        try:
            loop.call_from_thread(wake, None)
        except RuntimeError:  # the loop is closed
            job.cancel()

    job = Job(poll, done, lost)
    the_waiter().add(job)
    try:
        await future
        return job.result()
    except BaseException:
        # Also GeneratorExit, of a coroutine whose loop was closed before it could go on.
        the_waiter().cancel(job)
        raise


def wait_here(poll: Callable[[], T | Wait], timeout_s: Any, what: str) -> T:
    """Wait for something in this thread, which sleeps meanwhile.

    Args:
        poll: what gives the result; see above.
        timeout_s: how long to wait; None: for ever.
        what: what has not happened then, as the error says it.

    Raises:
        TimeoutError: there was no result in that time (ETIMEDOUT).
        InvalidArgumentError: `timeout_s` is no number, whether it takes any time or not.
    """
    end_ns = _end_ns(timeout_s)
    while isinstance(answer := poll(), Wait):
        # EINTR: a signal; the interpreter runs its handler between here and there.
        if wait(answer.words, end_ns) == -errno.ETIMEDOUT:
            raise call_error(errno.ETIMEDOUT, f"{what} within {timeout_s} s")
    return answer


def _end_ns(timeout_s: Any) -> int:
    """When a time that is given in seconds is over, as `wait` takes it."""
    if timeout_s is None:
        return FOREVER
    if not isinstance(timeout_s, float | int) or math.isnan(timeout_s):
        raise InvalidArgumentError("timeout_s", f"{timeout_s!r} is no number of seconds")
    # Centuries are for ever, and do not fit into what the kernel takes.
    seconds = min(max(timeout_s, 0), 2**33)
    return FOREVER if seconds == 2**33 else time.monotonic_ns() + int(seconds * 1e9)


class _Process:
    """What is made once in a process."""

    waiter = Waiter()


def the_waiter() -> Waiter:
    """The waiter of this process."""
    return _Process.waiter


def _in_forked_child() -> None:
    _Process.waiter = Waiter()


def _at_exit() -> None:
    _Process.waiter.stop()


os.register_at_fork(after_in_child=_in_forked_child)
atexit.register(_at_exit)
