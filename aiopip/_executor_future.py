"""The future of a call of a `PoolExecutor`."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from aiopip._dispatch import Job
    from aiopip._engine import Engine

T = TypeVar("T")


class PoolFuture(Future[T]):
    """What `PoolExecutor.submit` returns: it can be cancelled until a worker begins the call.

    Attributes:
        job: the call, None when it is over, or was never made; set under the engine's lock.
        taken_back: whether it was cancelled; likewise.
    """

    def __init__(self, engine: Engine) -> None:
        """Made by `PoolExecutor.submit`."""
        super().__init__()
        self._engine = engine
        self.job: Job | None = None
        self.taken_back = False

    def cancel(self) -> bool:
        """Cancel the call, if no worker has begun it; whether it is cancelled."""
        if self._engine.cancel(self):
            self.tell_cancelled()
        return self.taken_back

    def tell_cancelled(self) -> None:
        """The call was taken back: tell who waits; internal."""
        super().cancel()
        self.set_running_or_notify_cancel()

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
