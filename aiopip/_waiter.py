"""One thread that waits for futexes in place of event loops, which cannot.

What is waited for is a `poll`: called again and again in that thread, it gives its result, or a
`Wait` with the words to sleep on.  The thread begins with the first that has to wait and ends with
the last, so a process that waits for nothing has no thread more.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from aiopip._ffi import Bell, Word, wait

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
    """Something that is waited for.

    Attributes:
        poll: called in the thread.
        done: called in the thread with the result, once; not behind `cancel`.
        failed: called in its place with what `poll` has raised.
        cancelled: whether nobody wants the result any more.
    """

    __slots__ = ("cancelled", "done", "failed", "poll")

    def __init__(
        self,
        poll: Callable[[], T | Wait],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.poll = poll
        self.done = done
        self.failed = failed
        self.cancelled = False


class Waiter:
    """The thread, and what it waits for."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._lock = threading.Lock()
        self._jobs: list[Job[Any]] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, job: Job[T]) -> None:
        """Wait for something.

        Raises:
            RuntimeError: the interpreter is ending, and starts no threads any more.
        """
        with self._lock:
            if self._thread is None:
                if self._stopped:
                    raise RuntimeError("the interpreter is ending: nothing can be waited for")
                thread = threading.Thread(target=self._run, name="aiopip-waiter", daemon=True)
                # It waits for the lock before it looks what there is to do.
                thread.start()
                self._thread = thread
            self._jobs.append(job)
        self._bell.ring()

    def cancel(self, job: Job[T]) -> None:
        """Wait no more.  A result that is under way is still handed over."""
        job.cancelled = True
        self._bell.ring()

    def stop(self) -> None:
        """End the thread, at the interpreter's exit."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._bell.ring()
        if thread is not None:
            thread.join(EXIT_S)

    def _run(self) -> None:
        while True:
            # First the bell's word, then a look at what there is: what comes later changes it.
            words = [self._bell.word()]
            jobs = self._next_jobs()
            if not jobs:
                return
            for job in jobs:
                words += self._try(job)
            wait(words)

    def _try(self, job: Job[Any]) -> list[Word]:
        """Poll once: the words to sleep on, none when it is over."""
        try:
            answer = job.poll()
        except Exception as error:  # noqa: BLE001  it is handed to whom it concerns
            self._remove(job)
            job.failed(error)
            return []
        if isinstance(answer, Wait):
            return answer.words
        self._remove(job)
        job.done(answer)
        return []

    def _next_jobs(self) -> list[Job[Any]]:
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.cancelled]
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
        poll: what `Job.poll` is.
        lost: called with a result that came when its waiter was cancelled, or its loop closed.

    Cancellation:
        What had been got is given to `lost`.
    """
    future = loop.create_future()

    def deliver(result: T) -> None:
        if future.done():
            lost(result)
        else:
            future.set_result(result)

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def done(result: T) -> None:
        try:
            loop.call_from_thread(deliver, result)
        except RuntimeError:  # the loop is closed
            lost(result)

    def failed(error: Exception) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_from_thread(fail, error)

    job = Job(poll, done, failed)
    the_waiter().add(job)
    try:
        return await future  # type: ignore[no-any-return]
    except BaseException:
        the_waiter().cancel(job)
        if future.done() and not future.cancelled() and future.exception() is None:
            lost(future.result())
        raise


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
