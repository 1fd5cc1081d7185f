"""How tasks come to their end together: all of a Root, or those of a group."""

from __future__ import annotations

import enum
import signal
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aiopip._loop import Future, Loop, Timer


class Urgency(enum.IntEnum):
    """What is done that tasks end."""

    NONE = 0
    """Nothing: they end by themselves."""
    TERMINATE = 1
    """SIGTERM, and SIGKILL after the grace."""
    KILL = 2
    """SIGKILL."""


class Tasks(Protocol):
    """Those that are to end."""

    @property
    def idle(self) -> bool:
        """Whether none is left."""

    def refresh(self) -> None:
        """Learn of the ends that have come and were not heard of."""

    def signal_all(self, signum: int) -> None:
        """Send a signal to all that are left, and give up those that are being started."""


class Ending:
    """The end of some tasks, which can only become more urgent."""

    __slots__ = ("_grace_s", "_loop", "_tasks", "_timer", "_waiter", "urgency")

    def __init__(self, tasks: Tasks, loop: Loop, grace_s: float) -> None:
        # Whose end it is refers to this: together they would be a cycle.
        self._tasks: Tasks = weakref.proxy(tasks)
        self._loop = loop
        self._grace_s = grace_s
        self._timer: Timer | None = None
        self._waiter: Future[None] | None = None
        self.urgency = Urgency.NONE

    def urge(self, urgency: Urgency) -> None:
        """Do more for it, unless that much has been done."""
        if urgency <= self.urgency:
            return
        self.urgency = urgency
        if urgency is Urgency.KILL or not self._grace_s:
            self._kill()
        else:
            self._tasks.signal_all(signal.SIGTERM)
            self._tasks.signal_all(signal.SIGCONT)  # a stopped one gets the SIGTERM when it goes on
            self._timer = self._loop.call_later(self._grace_s, self._kill)

    def _kill(self) -> None:
        self._tasks.signal_all(signal.SIGKILL)

    def check(self) -> None:
        """One has ended: perhaps it was the last."""
        if self._waiter is not None and not self._waiter.done() and self._tasks.idle:
            self._waiter.set_result(None)

    async def wait(self, interrupted: bool) -> BaseException | None:
        """Wait until all have ended.  The first interruption terminates them, the next one kills.

        Args:
            interrupted: whether there was a first one before this call.

        Returns:
            The interruption that is for the caller to raise: the first one, unless a later one says
            more.

        Raises:
            GeneratorExit: the coroutine is being closed, and may wait no more.
        """
        first = interruption = None
        try:
            if interrupted:
                self.urge(Urgency.TERMINATE)
            else:
                first = await self._wait()
                if first is None:
                    return None
                self.urge(Urgency.TERMINATE)
            with self._loop.shield():
                while (interruption := await self._wait()) is not None:
                    first = weightier(first, interruption)
                    self.urge(Urgency.KILL)
            return first
        finally:
            self.stop()
            del first, interruption  # their tracebacks refer to frames that refer to them

    async def _wait(self) -> BaseException | None:
        """Wait until all have ended, or return what interrupts it."""
        try:
            self._tasks.refresh()
            while not self._tasks.idle:
                self._waiter = self._loop.create_future()
                await self._waiter
        except GeneratorExit:
            raise
        except BaseException as interruption:  # noqa: BLE001  the caller of `wait` raises it
            return interruption
        return None

    def stop(self) -> None:
        """Send no more signals: there is nobody left, or nobody who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def weightier(first: BaseException | None, second: BaseException | None) -> BaseException | None:
    """Which of two interruptions to raise: the first one, but for one that ends the program."""
    if first is None or (ends_program(second) and not ends_program(first)):
        return second
    return first


def ends_program(error: BaseException | None) -> bool:
    """Whether it is raised by itself, never in a group: whoever catches it looks for its type."""
    return isinstance(error, (KeyboardInterrupt, SystemExit))
