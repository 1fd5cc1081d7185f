"""asyncio as aiopip's event loop, and uvloop, which has its interface."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from aiopip._loop import Body, Future, Loop, Timer

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "aiopip: cancelled by a task group"
"""The message of our cancellations, by which Python 3.10 tells them from others."""


class AsyncioLoop(Loop):
    """The running asyncio loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future

    @property
    def is_current(self) -> bool:
        """Whether it is the running loop."""
        return asyncio._get_running_loop() is self._loop  # noqa: SLF001  as below

    def _is_none_or_this(self) -> bool:
        running = asyncio._get_running_loop()  # noqa: SLF001  the one that is None, and raises not
        return running is None or running is self._loop

    @property
    def gone(self) -> bool:
        """Whether it was closed."""
        return self._loop.is_closed()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(fd, callback)

    def when_writable(self, fd: int, callback: Callable[[], None]) -> None:
        def call() -> None:
            self._loop.remove_writer(fd)
            callback()

        self._loop.add_writer(fd, call)

    def unwatch(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay_s, callback)

    def call_from_thread(self, callback: Callable[[Any], None], argument: Any) -> None:
        self._loop.call_soon_threadsafe(callback, argument)

    def report(self, message: str, error: BaseException) -> None:
        """Hand it to the loop's exception handler."""
        self._loop.call_exception_handler({"message": message, "exception": error})

    async def checkpoint(self) -> None:
        """Nothing: an asyncio coroutine that need not wait goes on."""

    async def until(self, future: Future[Any]) -> None:
        # Unlike `await future`, this leaves the future alone when it is cancelled.
        # It is one of asyncio's, from `create_future`.
        await asyncio.wait([future])

    def body(self) -> Body:
        return AsyncioBody(self._loop)

    async def outside(self, cancellation: BaseException) -> BaseException:
        # Two cancellations in one iteration are one CancelledError, with the message of the first
        # one.  The scopes of anyio know theirs by the message; they cancel again until they are
        # left, so one is to be had here.
        if _is_ours(cancellation):
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
            except asyncio.CancelledError as again:
                if cancellation.__cause__ is not None:
                    again.__cause__ = cancellation.__cause__  # see `join`
                return again
        return cancellation

    def join(
        self, interruption: BaseException, errors: BaseExceptionGroup[BaseException]
    ) -> BaseException:
        """The interruption, which is never swallowed nor wrapped, with the errors for its cause.

        It may have those of a group within for its cause already.
        """
        before = interruption.__cause__
        if isinstance(before, BaseExceptionGroup):
            errors = errors.derive([*errors.exceptions, before])
        interruption.__cause__ = errors
        return interruption


class AsyncioBody(Body):
    """A body that is cancelled once, by Task.cancel(), as that of asyncio.TaskGroup is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a task group needs an asyncio task to run in")
        self._loop = loop
        self._task: asyncio.Task[Any] | None = task
        self._requested = False
        self._cancelling = 0
        if sys.version_info >= (3, 11):
            self._cancelling = task.cancelling()

    def cancel(self) -> None:
        if self._task is None or self._requested:
            return
        if asyncio.current_task(self._loop) is not None:
            # The body runs right now, or has started an eager task that does, and may be about to
            # end: the cancellation must not come behind that, where nobody takes it for ours.
            self._loop.call_soon(self.cancel)
            return
        self._requested = True
        self._task.cancel(OURS)

    def leave(self, error: BaseException | None) -> BaseException | None:
        """Take our cancellation away, unless somebody else has cancelled the task as well."""
        task, self._task = self._task, None
        if not self._requested or task is None:
            return error
        if sys.version_info >= (3, 11):
            from_outside = task.uncancel() > self._cancelling
        else:
            from_outside = not _is_ours(error)
        if from_outside or not isinstance(error, asyncio.CancelledError):
            return error
        # What a block within this one had to say when our cancellation came: see `join`.
        return error.__cause__ if isinstance(error.__cause__, BaseExceptionGroup) else None


def _is_ours(error: BaseException | None) -> bool:
    """Whether a CancelledError has our message.

    One that went through another task is made anew there, before Python 3.11 without the message
    and with the first one for its context.
    """
    while isinstance(error, asyncio.CancelledError):
        if error.args == (OURS,):
            return True
        error = error.__context__ if sys.version_info < (3, 11) else None
    return False
