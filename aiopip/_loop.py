"""All that aiopip asks of an event loop, for asyncio (and uvloop, which has its interface).

Another kind of loop is another class with these methods, and a future with `set_result`, `done`,
`cancelled` and `result` that can be awaited.  Waiting in the rest of the package is `await future`,
and what is done when that is interrupted stands under `except BaseException`, since each kind of
loop has a cancellation of its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from aiopip._errors import WrongThreadError

if TYPE_CHECKING:
    from collections.abc import Callable

Future = asyncio.Future


class Loop:
    """The running event loop of this thread."""

    __slots__ = ("_loop", "_thread", "create_future")

    create_future: Callable[[], Future[Any]]

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.create_future = self._loop.create_future

    def check_thread(self) -> None:
        """Raise WrongThreadError in a thread other than the loop's, and in another loop there."""
        if threading.get_ident() != self._thread:
            raise WrongThreadError
        running = asyncio._get_running_loop()  # noqa: SLF001  the one that is None, and raises not
        if running is not None and running is not self._loop:
            raise WrongThreadError(
                "the Root belongs to another event loop than the one that runs here; use it in the "
                "loop in which it was entered"
            )

    @property
    def gone(self) -> bool:
        """Whether the loop was closed: nothing will ever run in it again."""
        return self._loop.is_closed()

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, in the loop, whenever the descriptor is readable."""
        self._loop.add_reader(fd, callback)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._loop.remove_reader(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back once; the result's `cancel()` prevents it."""
        return self._loop.call_later(delay_s, callback)

    def call_from_thread(self, callback: Callable[[Any], None], argument: Any) -> None:
        """Call back in the loop, from any thread; RuntimeError when it is closed."""
        self._loop.call_soon_threadsafe(callback, argument)

    def report(self, message: str, error: BaseException) -> None:
        """Hand an error that nobody awaits to the loop's exception handler."""
        self._loop.call_exception_handler({"message": message, "exception": error})

    async def settle(self, future: Future[Any]) -> BaseException | None:
        """Wait until a future is done, whatever comes.

        Args:
            future: it is not cancelled, and its result is left in it.

        Returns:
            The first cancellation, or KeyboardInterrupt, that came meanwhile: the caller raises it.

        Raises:
            GeneratorExit: the coroutine is being closed and may wait no more.
        """
        first = interruption = None
        try:
            while not future.done():
                interruption = await _wait(future)
                first = first or interruption
            return first
        finally:
            del first, interruption  # their tracebacks refer to frames that refer to them


async def _wait(future: Future[Any]) -> BaseException | None:
    try:
        # Unlike `await future`, this leaves the future alone when it is cancelled.
        await asyncio.wait([future])
    except GeneratorExit:
        raise
    except BaseException as interruption:  # noqa: BLE001  the caller of `settle` raises it
        return interruption
    return None
