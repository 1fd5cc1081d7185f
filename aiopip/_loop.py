"""All that aiopip asks of an event loop.

Waiting in the package is `await future`, and what is done when that is interrupted stands under
`except BaseException`, since each kind of loop has a cancellation of its own.  One kind is one
module: `_loop_asyncio`, for uvloop too, and `_loop_trio`, which is imported where trio runs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from aiopip._errors import WrongThreadError

if TYPE_CHECKING:
    if sys.version_info < (3, 11):
        from exceptiongroup import BaseExceptionGroup
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")


T_contra = TypeVar("T_contra", contravariant=True)


class Settable(Protocol[T_contra]):
    """What the loop's thread sets: a future, or what is called in place of one that is awaited."""

    def done(self) -> bool:
        """Whether it was set, or the one who waited was interrupted."""

    def cancelled(self) -> bool:
        """Whether the one who waited was interrupted before it was set."""

    def set_result(self, result: T_contra, /) -> None:
        """Set it, and wake who waits; only when it is not done."""


class Future(Settable[T], Protocol[T]):
    """What one coroutine waits for, and the loop's thread sets."""

    def result(self) -> T:
        """What it was set to."""

    def __await__(self) -> Generator[Any, Any, T]: ...


class Called(Generic[T]):
    """What is called when it is set, where others wait for a future."""

    __slots__ = ("_call", "_done")

    def __init__(self, call: Callable[[T], None]) -> None:
        self._call = call
        self._done = False

    def done(self) -> bool:
        """Whether it was set."""
        return self._done

    def cancelled(self) -> bool:
        """Never: nobody waits."""
        return False

    def set_result(self, result: T, /) -> None:
        """Set it: call."""
        self._done = True
        self._call(result)


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Prevent it."""


class Body(ABC):
    """The body of a block, from `Loop.body()` until `leave`: it can be cancelled by itself."""

    @abstractmethod
    def cancel(self) -> None:
        """Cancel what the body waits for; without effect behind `leave`."""

    @abstractmethod
    def leave(self, error: BaseException | None) -> BaseException | None:
        """End the body, in the coroutine that began it.

        Args:
            error: what the body raised.

        Returns:
            What is left of it when the cancellation by `cancel` is taken away.
        """


class Loop(ABC):
    """The event loop that runs in this thread, from `running_loop()`.

    Attributes:
        create_future: makes a future, for one coroutine to wait for.
    """

    create_future: Callable[[], Future[Any]]

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def check_thread(self) -> None:
        """Raise WrongThreadError in a thread other than the loop's, and in another loop there."""
        if threading.get_ident() != self._thread:
            raise WrongThreadError
        if not self._is_none_or_this():
            raise WrongThreadError(
                "the Root belongs to another event loop than the one that runs here; use it in the "
                "loop in which it was entered"
            )

    @property
    @abstractmethod
    def is_current(self) -> bool:
        """Whether it is this loop that runs in this thread."""

    @abstractmethod
    def _is_none_or_this(self) -> bool:
        """Whether in this thread this loop runs, or none does."""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether the loop has ended: nothing will ever run in it again."""

    @abstractmethod
    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, in the loop, whenever the descriptor is readable."""

    @abstractmethod
    def when_writable(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back once, in the loop, when the descriptor is writable; one such call at a time."""

    @abstractmethod
    def unwatch(self, fd: int) -> None:
        """End what `watch` and `when_writable` began; before the descriptor is closed."""

    @abstractmethod
    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back once."""

    @abstractmethod
    def call_from_thread(self, callback: Callable[[Any], None], argument: Any) -> None:
        """Call back in the loop, from any thread or signal handler.

        Raises:
            RuntimeError: the loop has ended.
        """

    @abstractmethod
    def report(self, message: str, error: BaseException) -> None:
        """Tell of an error that nobody awaits."""

    @abstractmethod
    async def checkpoint(self) -> None:
        """What a call does that has nothing to wait for: where that is customary, let others run.

        Before anything was changed: it may be cancelled.
        """

    @abstractmethod
    async def until(self, future: Future[Any]) -> None:
        """Wait for a future, and leave it as it is when that is interrupted."""

    @contextlib.contextmanager
    def shield(self) -> Iterator[None]:
        """A block in which cancellation is not repeated.

        anyio's and trio's cancellation interrupts each wait from then on; who has taken note of it
        and has to wait nevertheless does so in here.  The cancel() of an asyncio task, and a
        KeyboardInterrupt, get through.
        """
        scope = anyio.CancelScope(shield=True)
        scope.__enter__()
        try:
            yield
        except GeneratorExit:
            # The coroutine is being closed, mostly when its task and its loop are gone: then there
            # is nothing to leave.
            with contextlib.suppress(RuntimeError):
                scope.__exit__(None, None, None)
            raise
        except BaseException as error:
            scope.__exit__(type(error), error, error.__traceback__)
            raise
        scope.__exit__(None, None, None)

    async def settle(self, future: Future[Any]) -> None:
        """Wait until a future is done, though this coroutine is cancelled, perhaps again.

        Raises:
            KeyboardInterrupt: one came meanwhile; the future is done all the same.
            GeneratorExit: the coroutine is being closed and may wait no more.
        """
        kept = None
        try:
            with self.shield():
                while not future.done():
                    kept = await self._interruption(future) or kept
            if kept is not None:
                raise kept
        finally:
            del kept  # its traceback refers to this frame

    async def _interruption(self, future: Future[Any]) -> BaseException | None:
        """Wait for a future; what interrupted that, unless it is the caller's cancellation."""
        try:
            await self.until(future)
        except GeneratorExit:
            raise
        except anyio.get_cancelled_exc_class():
            return None
        except BaseException as error:  # noqa: BLE001  raised by `settle`
            return error
        return None

    @abstractmethod
    def body(self) -> Body:
        """Begin the body of a block in the running coroutine."""

    async def outside(self, cancellation: BaseException) -> BaseException:
        """The cancellation from outside, where one from `Body.cancel` has come with it."""
        return cancellation

    @abstractmethod
    def join(
        self, interruption: BaseException, errors: BaseExceptionGroup[BaseException]
    ) -> BaseException:
        """What to raise where a block was interrupted and has errors, too.

        Args:
            interruption: a cancellation from outside, or a KeyboardInterrupt.
            errors: an exception group.
        """


def running_loop() -> Loop:
    """The running event loop of this thread.

    Raises:
        RuntimeError: none runs.
    """
    if "trio" in sys.modules:
        import sniffio

        if sniffio.current_async_library() == "trio":
            from aiopip._loop_trio import TrioLoop

            return TrioLoop()
    from aiopip._loop_asyncio import AsyncioLoop

    return AsyncioLoop()
