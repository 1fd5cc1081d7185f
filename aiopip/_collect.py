"""Who learns of which end: wait(), wait_any(), and their twins that never wait.

A task is collected by the first of these that reports it.  `wait_any` gives uncollected tasks only,
each to one caller, in the order in which they ended; a task for which a `wait()` is pending when it
ends is that wait's.

What makes it hard is that an end is handed over by setting a future's result, and that the waiter
may be cancelled before it runs: then it reported nothing, and the end goes to the next one, or back
into the queue.  So a task is collected only when the waiter runs again, and until then it still
counts as one that is left.  Futures carry results only, never exceptions: an exception that nobody
fetches would be complained about, and one that is raised would form a cycle with its future.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from aiopip._errors import NoTasksError, WouldBlock
from aiopip._state import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._loop import Future, Loop
    from aiopip._status import ExitStatus
    from aiopip._task import Task

_end_order = attrgetter("end_order")
_Given = tuple[TaskState, "Task"]


class Collector:
    """The tasks of a Root that nobody has collected, and those who wait for them."""

    __slots__ = (
        "_closed",
        "_ended",
        "_ends",
        "_loop",
        "_on_collected",
        "_starting",
        "_waiting",
        "open",
    )

    def __init__(self, loop: Loop, on_collected: Callable[[TaskState], None]) -> None:
        self._loop = loop
        self._on_collected = on_collected
        self.open: dict[TaskState, Task] = {}
        """The tasks that run, or have ended and are not collected."""
        self._closed = False
        self._starting = 0
        self._ended: list[TaskState] = []
        self._ends = 0
        self._waiting: deque[Future[_Given | None]] = deque()

    def expect(self) -> None:
        """A spawn has begun: it counts as a task that is left, until `admit` or `dismiss`."""
        self._starting += 1

    def admit(self, state: TaskState, task: Task) -> None:
        """The spawn gives its caller the task; if that has ended by now, `end` follows."""
        self._starting -= 1
        self.open[state] = task

    def dismiss(self) -> None:
        """The spawn has failed, or was cancelled."""
        self._starting -= 1
        self._check_left()

    def end(self, state: TaskState) -> None:
        """Hand over the end of an admitted task."""
        self._ends += 1
        state.end_order = self._ends
        for waiter in state.waiters:
            # A cancelled one is still in the list when the end comes before it has run.
            if not waiter.done():
                waiter.set_result(None)
                state.reporting += 1
        state.waiters.clear()
        if not state.reporting:
            self._offer(state)

    def collect(self, state: TaskState) -> None:
        """The end has been reported.  Does nothing for a task that was collected before."""
        if state.collected:
            return
        state.collected = True
        self.open.pop(state, None)
        place = bisect_left(self._ended, state.end_order, key=_end_order)
        if place < len(self._ended) and self._ended[place] is state:
            del self._ended[place]
        self._on_collected(state)
        self._check_left()

    def collect_all(self) -> None:
        """Collect what has ended; the block's exit reports it."""
        for state in self._ended.copy():
            self.collect(state)

    def expect_end(self, state: TaskState) -> Future[None]:
        """A future that is set when the task ends, for one who collects it whatever comes."""
        waiter: Future[None] = self._loop.create_future()
        state.waiters.append(waiter)
        return waiter

    async def wait(self, state: TaskState) -> ExitStatus | None:
        """Wait for the end of an admitted task and collect it; None when it will not be known."""
        if state.status is None and not self._closed:
            waiter = self.expect_end(state)
            try:
                await waiter
            except BaseException:
                self._wait_interrupted(state, waiter)
                raise
            state.reporting = max(0, state.reporting - 1)
        else:
            await self._loop.checkpoint()
        self.collect(state)
        return state.status

    def _wait_interrupted(self, state: TaskState, waiter: Future[None]) -> None:
        if waiter in state.waiters:
            state.waiters.remove(waiter)
        elif not waiter.cancelled():
            # Woken by the end and cancelled before it ran: unless another wait() reports the end,
            # it is wait_any's.
            state.reporting = max(0, state.reporting - 1)
            if not state.reporting and not state.collected:
                self._offer(state)

    def wait_nowait(self, state: TaskState) -> ExitStatus:
        """Collect an ended task.

        Raises:
            WouldBlock: it has not ended.
        """
        if state.status is None:
            raise WouldBlock(f"{state} has not ended")
        self.collect(state)
        return state.status

    async def wait_any(self) -> Task:
        """Wait for the next end and collect it.

        Raises:
            NoTasksError: no task is left, or the last one was collected by somebody else meanwhile.
        """
        if self._ended or not self._left():
            await self._loop.checkpoint()
        if self._ended:
            return self.wait_any_nowait()
        if not self._left():
            raise NoTasksError
        waiter: Future[_Given | None] = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            given = await waiter
        except BaseException:
            self._wait_any_interrupted(waiter)
            raise
        if given is None:
            raise NoTasksError
        # A wait() may have collected it since it was handed over; it is this caller's all the same.
        state, task = given
        self.collect(state)
        return task

    def _wait_any_interrupted(self, waiter: Future[_Given | None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif not waiter.cancelled():
            # Handed a task and cancelled before it ran.
            given = waiter.result()
            if given is not None and not given[0].collected:
                self._offer(given[0])

    def wait_any_nowait(self) -> Task:
        """Collect the task that ended first of those that nobody has collected.

        Raises:
            WouldBlock: all that are left run.
            NoTasksError: none is left.
        """
        if self._ended:
            state = self._ended[0]
            task = self.open[state]
            self.collect(state)
            return task
        if self._left():
            raise WouldBlock("no task has ended that was not collected before")
        raise NoTasksError

    def give_up(self) -> None:
        """Wake all who wait: the Root is closed, and nothing will end any more."""
        self._closed = True
        for state in self.open:
            for waiter in state.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            state.waiters.clear()
        self.open.clear()
        self._check_left()

    def _offer(self, state: TaskState) -> None:
        if state.awaited:
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result((state, self.open[state]))
                return
        insort(self._ended, state, key=_end_order)

    def _left(self) -> bool:
        return bool(self.open or self._starting)

    def _check_left(self) -> None:
        if self._left():
            return
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
