"""The future of a call of a `PoolExecutor`."""

from __future__ import annotations

from concurrent.futures import Future, process
from typing import TYPE_CHECKING, Any, TypeVar

from aiopip._remote_errors import RemoteTraceback
from aiopip._results import Unread

if TYPE_CHECKING:
    from aiopip._dispatch import Job, Outcome
    from aiopip._engine import Engine

T = TypeVar("T")


class PoolFuture(Future[T]):
    """What `PoolExecutor.submit` returns: it can be cancelled until a worker begins the call.

    Attributes:
        job, taken_back: see `Submission`.
    """

    def __init__(self, engine: Engine) -> None:
        """Made by `PoolExecutor.submit`."""
        super().__init__()
        self._engine = engine
        self.job: Job | None = None
        self.taken_back = False

    def cancel(self) -> bool:
        """Cancel the call, if no worker has begun it; whether it is cancelled."""
        self._engine.cancel(self)
        return self.taken_back

    def tell_cancelled(self) -> None:
        """The call was taken back: tell who waits; internal."""
        super().cancel()
        self.set_running_or_notify_cancel()

    def settle(self, outcome: Outcome) -> None:
        """The call has ended: tell who waits; internal."""
        if not self.set_running_or_notify_cancel():
            return
        value, error = read(outcome)
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)

    def result(self, timeout: float | None = None) -> T:
        """What the call returned; see `Future.result`.

        Raises:
            ForkedError: in a child by fork, to which no result comes.
        """
        if not self.done():
            self._engine.check_process()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised; see `Future.exception`.

        Raises:
            ForkedError: in a child by fork.
        """
        if not self.done():
            self._engine.check_process()
        return super().exception(timeout)

    def running(self) -> bool:
        """Whether a worker runs the call."""
        return not self.done() and self._engine.runs(self)


def read(outcome: Outcome) -> tuple[Any, BaseException | None]:
    """What a call returned, or what is to be raised."""
    value, error = outcome.value, outcome.error
    if isinstance(value, Unread):
        value, error = value.read()
    return value, None if error is None else as_process_pools_raise(error)


def as_process_pools_raise(error: BaseException) -> BaseException:
    """What a worker has raised, with the `__cause__` that it has of ProcessPoolExecutor."""
    if isinstance(error.__cause__, RemoteTraceback):
        text = str(error.__cause__)
        error.__cause__ = process._RemoteTraceback(text)  # type: ignore[arg-type]  # noqa: SLF001
    return error
