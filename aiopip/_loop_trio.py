"""trio as aiopip's event loop; imported only where it runs."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import trio

from aiopip._loop import Body, Future, Loop, Timer

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

T = TypeVar("T")


class TrioFuture(Generic[T]):
    """A future in trio's terms: a task that is rescheduled."""

    __slots__ = ("_cancelled", "_results", "_task")

    def __init__(self) -> None:
        self._results: list[T] = []
        self._cancelled = False
        self._task: trio.lowlevel.Task | None = None

    def done(self) -> bool:
        return self._cancelled or bool(self._results)

    def cancelled(self) -> bool:
        return self._cancelled

    def result(self) -> T:
        return self._results[0]

    def set_result(self, result: T, /) -> None:
        self._results.append(result)
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._results:
            try:
                yield from self._sleep(self._cancel).__await__()
            except GeneratorExit:  # of a coroutine that is closed; nobody has called `_cancel`
                self._task, self._cancelled = None, not self._results
                raise
        return self._results[0]

    async def wait(self) -> None:
        """Sleep until it is set; an interruption leaves it as it is."""
        await self._sleep(self._abort)

    async def _sleep(self, abort: Callable[[Any], trio.lowlevel.Abort]) -> None:
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _cancel(self, raise_cancel: object) -> trio.lowlevel.Abort:
        # Before the task has run: what comes until then must not be handed to it.
        self._cancelled = True
        return self._abort(raise_cancel)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class TrioLoop(Loop):
    """The running trio.run()."""

    def __init__(self) -> None:
        super().__init__()
        self.create_future = TrioFuture
        self._token = trio.lowlevel.current_trio_token()
        self._gone = False
        self._watched: dict[int, object] = {}
        """The descriptors that are watched, each with what is its watch's alone: behind an
        `unwatch` the same number may be another descriptor's."""

    @property
    def is_current(self) -> bool:
        """Whether it is the trio.run() that runs in this thread."""
        return trio.lowlevel.in_trio_run() and (trio.lowlevel.current_trio_token() is self._token)

    def _is_none_or_this(self) -> bool:
        return not trio.lowlevel.in_trio_run() or (
            trio.lowlevel.current_trio_token() is self._token
        )

    @property
    def gone(self) -> bool:
        """Whether trio.run() has ended, or is about to: its system tasks are the last to go."""
        return self._gone

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Wait in a system task, which belongs to no nursery of the user's."""
        self._watched[fd] = watch = object()
        trio.lowlevel.spawn_system_task(self._watch, fd, watch, callback, name="aiopip")

    async def _watch(self, fd: int, watch: object, callback: Callable[[], None]) -> None:
        try:
            while self._watched.get(fd) is watch:
                await trio.lowlevel.wait_readable(fd)
                self._call(callback)
        except trio.ClosedResourceError:
            pass  # `unwatch`
        finally:
            # System tasks are the last to be cancelled: when trio.run() ends.
            self._gone |= self._watched.get(fd) is watch

    def when_writable(self, fd: int, callback: Callable[[], None]) -> None:
        watch = self._watched.get(fd)
        trio.lowlevel.spawn_system_task(self._when_writable, fd, watch, callback, name="aiopip")

    async def _when_writable(self, fd: int, watch: object, callback: Callable[[], None]) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # `unwatch`
            if self._watched.get(fd) is watch:
                await trio.lowlevel.wait_writable(fd)
                self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001  of a system task it would crash trio
            self.report("aiopip: a callback failed", error)

    def unwatch(self, fd: int) -> None:
        self._watched.pop(fd, None)
        trio.lowlevel.notify_closing(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(_later, scope, delay_s, callback, name="aiopip")
        return scope

    def call_from_thread(self, callback: Callable[[Any], None], argument: Any) -> None:
        self._token.run_sync_soon(callback, argument)

    def report(self, message: str, error: BaseException) -> None:
        """Log it: trio has no handler for errors that nobody awaits."""
        logging.getLogger("aiopip").error(message, exc_info=error)

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    async def until(self, future: Future[Any]) -> None:
        await cast("TrioFuture[Any]", future).wait()

    def body(self) -> Body:
        return TrioBody()

    def join(
        self, interruption: BaseException, errors: BaseExceptionGroup[BaseException]
    ) -> BaseException:
        """Both, in a group: what is cancelled takes the cancellation out of it.

        What ends the program is no part of a group, and has the errors for its cause.
        """
        if not isinstance(interruption, trio.Cancelled):
            interruption.__cause__ = errors
            return interruption
        both = [*errors.exceptions, interruption]
        return BaseExceptionGroup(errors.message, both)


class TrioBody(Body):
    """A body within a cancel scope."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._scope.__enter__()
        self._left = False

    def cancel(self) -> None:
        if not self._left:
            self._scope.cancel()

    def leave(self, error: BaseException | None) -> BaseException | None:
        self._left = True
        traceback = None if error is None else error.__traceback__
        try:
            swallowed = self._scope.__exit__(type(error) if error else None, error, traceback)
        except BaseException as rest:  # noqa: BLE001  the group without the cancellations in it
            return rest
        return None if swallowed else error


async def _later(scope: trio.CancelScope, delay_s: float, callback: Callable[[], None]) -> None:
    with scope:
        await trio.sleep(delay_s)
        callback()
