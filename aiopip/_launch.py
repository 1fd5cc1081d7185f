"""Spawns under way: from the request to the moment that their caller has the task.

An attempt (`Launch`) goes through these states; the last column says what happens when its caller
is cancelled there, or its Root is closed:

    waits for a slot    memory of an ended task has to go first    it leaves the queue
    submitted           the native core has it                     aiopip_cancel, then wait for
                                                                   FAILED or EXITED
    started, not taken  STARTED has set its future; its caller     SIGKILL, then wait for EXITED
                        is cancelled in the same iteration
    over                FAILED, or EXITED                          nothing is left to do

So a cancellation leaves spawn only when the child is dead and reaped.  Spawns that wait for any
slot are served in the order in which they came.
"""

from __future__ import annotations

import errno
import signal
from collections import deque
from typing import TYPE_CHECKING

from aiopip._errors import ClosedError, SlotBusyError, call_error
from aiopip._records import Failed, Failure
from aiopip._request import PIPID_ANY, SpawnRequest
from aiopip._spawn_errors import spawn_error
from aiopip._state import Member, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._ffi import Client
    from aiopip._group import TaskGroup
    from aiopip._loop import Future, Loop, Settable

Answer = TaskState | Failed | int | None


class Launch:
    """One spawn under way.

    Attributes:
        request: what to start.
        member: what the task will be in a group, if it will be of any.
        answered: a future, or what is called in its place; set when its caller may go on: a started
            task, what it failed at, minus the errno with which the core refused it, or None when
            the Root or the group was closed.
        state: the task, once the core has given it a slot.
        over: whether FAILED or EXITED has come.
        closing: whether its Root, or group, is being closed: a start is no good news any more.
    """

    __slots__ = ("_when_over", "answered", "closing", "member", "over", "request", "state")

    def __init__(
        self, request: SpawnRequest, member: Member | None, answered: Settable[Answer]
    ) -> None:
        self.request = request
        self.member = member
        self.answered = answered
        self.state: TaskState | None = None
        self.over = False
        self.closing = False
        self._when_over: Settable[None] | None = None

    def answer(self, answer: Answer) -> None:
        """Let the caller go on, unless it was cancelled or has its answer."""
        if not self.answered.done():
            self.answered.set_result(answer)

    def finish(self) -> None:
        """FAILED or EXITED has come."""
        self.over = True
        if self._when_over is not None and not self._when_over.done():
            self._when_over.set_result(None)

    def when_over(self, waiter: Settable[None]) -> None:
        """Have `finish` set a future, or call; asked for once, and not after it."""
        self._when_over = waiter


class Launcher:
    """The spawns of a Root that are under way."""

    __slots__ = ("_client", "_launches", "_live", "_loop", "_max_tasks", "_waiting", "closed")

    def __init__(
        self, client: Client, loop: Loop, live: dict[tuple[int, int], TaskState], max_tasks: int
    ) -> None:
        self._client = client
        self._loop = loop
        self._live = live
        self._max_tasks = max_tasks
        self._launches: dict[tuple[int, int], Launch] = {}
        self._waiting: deque[Launch] = deque()
        self.closed = False

    async def launch(
        self,
        request: SpawnRequest,
        member: Member | None,
        abandon: Callable[[TaskState], None],
    ) -> TaskState:
        """Start a program and wait until it has started; its end may have come, too, by then.

        Args:
            request: what to start.
            member: what the task will be in a group, if it will be of any.
            abandon: called with a task that was started, and has ended, and is nobody's.
        """
        answered: Future[Answer] = self._loop.create_future()
        launch = Launch(request, member, answered)
        self.begin(launch)
        try:
            answer = await answered
        except GeneratorExit:
            self.give_up(launch)  # the coroutine is being closed, and may not wait
            raise
        except BaseException:
            if self.give_up(launch):
                over: Future[None] = self._loop.create_future()
                launch.when_over(over)
                await self._loop.settle(over)
            if launch.state is not None:
                abandon(launch.state)
            raise
        return self.result(launch, answer)

    def begin(self, launch: Launch) -> None:
        """Start a program; `launch.answered` is set when that is done, or has failed.

        Raises:
            ClosedError: the Root is being left.
        """
        if self.closed:
            raise ClosedError
        behind = launch.request.pipid == PIPID_ANY and self._any_waits()
        result = -errno.EAGAIN if behind else self._submit(launch)
        if result == -errno.EAGAIN:
            self._waiting.append(launch)
        elif result < 0:
            launch.answer(result)

    def result(self, launch: Launch, answer: Answer) -> TaskState:
        """The task that was started, which is the caller's from here on; else the error."""
        if isinstance(answer, TaskState):
            self._launches.pop(answer.key, None)
            return answer
        request = launch.request
        if isinstance(answer, Failed) and answer.failure != Failure.CANCELLED:
            raise spawn_error(answer, request.program_text, request.path_text)
        if isinstance(answer, int):
            raise self._refused(answer, request)
        what = "Root" if launch.member is None or self.closed else "task group"
        raise ClosedError(f"the {what} was closed while the task was being started")

    def _refused(self, result: int, request: SpawnRequest) -> Exception:
        if result == -errno.EBUSY:
            wanted = None if request.pipid == PIPID_ANY else request.pipid
            return SlotBusyError(wanted, self._max_tasks)
        if result == -errno.ESRCH:
            return ClosedError()
        return call_error(-result, f"the native core refused to start {request.program_text!r}")

    def _any_waits(self) -> bool:
        return any(waiting.request.pipid == PIPID_ANY for waiting in self._waiting)

    def _submit(self, launch: Launch) -> int:
        result, pipid, generation = self._client.spawn(launch.request)
        if result < 0:
            return result
        request = launch.request
        launch.state = TaskState(
            pipid, generation, request.program_text, launch.member, request.given_name
        )
        if launch.member is not None:
            launch.member.group.live.add(launch.state)
        self._live[launch.state.key] = launch.state
        self._launches[launch.state.key] = launch
        return 0

    def give_up(self, launch: Launch) -> bool:
        """Undo as much as there is; True when an end has to be waited for."""
        state = launch.state
        if state is None:
            if launch in self._waiting:
                self._waiting.remove(launch)
            return False
        if launch.over:
            return False
        if state.pid:
            self._client.kill(state.pipid, state.generation, signal.SIGKILL)
        else:
            self._client.cancel(state.pipid, state.generation)
        return True

    def reclaimed(self) -> None:
        """A slot may be free: those who wait for one try again, in their order."""
        waiting, self._waiting = self._waiting, deque()
        any_blocked = False
        for launch in waiting:
            wants_any = launch.request.pipid == PIPID_ANY
            if launch.answered.done():
                continue  # cancelled, and has not run since
            result = -errno.EAGAIN if wants_any and any_blocked else self._submit(launch)
            if result == -errno.EAGAIN:
                any_blocked = any_blocked or wants_any
                self._waiting.append(launch)
            elif result < 0:
                launch.answer(result)

    def started(self, state: TaskState) -> None:
        """STARTED has come."""
        launch = self._launches[state.key]
        if launch.closing or launch.answered.cancelled():
            # aiopip_cancel() came while STARTED was on its way: make sure that it dies.
            self._client.kill(state.pipid, state.generation, signal.SIGKILL)
        else:
            launch.answer(state)

    def failed(self, record: Failed) -> None:
        """FAILED has come."""
        launch = self._launches.pop((record.pipid, record.generation), None)
        if launch is not None:
            launch.finish()
            launch.answer(record)

    def ended(self, state: TaskState) -> bool:
        """EXITED has come; whether the task was its caller's by then."""
        launch = self._launches.pop(state.key, None)
        if launch is None:
            return True
        launch.finish()
        # Without effect when STARTED has answered: its caller takes a task that has ended.
        launch.answer(None)
        return False

    def close(self) -> None:
        """Refuse new spawns and end those under way; their callers get ClosedError."""
        self.closed = True
        self._end(lambda _: True)

    def close_group(self, group: TaskGroup) -> None:
        """End a group's spawns that are under way; their callers get ClosedError."""
        self._end(lambda launch: launch.member is not None and launch.member.group is group)

    def _end(self, which: Callable[[Launch], bool]) -> None:
        for launch in [launch for launch in self._waiting if which(launch)]:
            self._waiting.remove(launch)
            launch.answer(None)
        for launch in filter(which, self._launches.values()):
            if not launch.answered.done() and not launch.closing:
                launch.closing = True
                self.give_up(launch)
