"""What is behind a Root: the native client, its events, and the end of it all.

`drain` runs in the loop whenever the client's eventfd is readable, takes the events and hands each
to whom it concerns: `_launch` (spawns under way), `_collect` (who waits for ends), `_imports`,
`_events`, `_listing` and `_service` (who asks from outside).  All of it runs on the loop's thread,
so a piece of code without an `await` sees nothing change.
"""

from __future__ import annotations

import enum
import errno
import os
import select
import signal
import time
import warnings
import weakref
from collections import deque
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING

from aiopip._collect import Collector
from aiopip._ending import Ending
from aiopip._errors import (
    ClosedError,
    ForkedError,
    GroupNotFoundError,
    InvalidArgumentError,
    NotPermittedError,
    TaskEndedError,
    call_error,
)
from aiopip._events import Continued, Exited, Exported, Listeners, Stopped
from aiopip._exports import Exports
from aiopip._ffi import BATCH, Client
from aiopip._imports import Imports
from aiopip._launch import Launcher
from aiopip._listing import Listing
from aiopip._messages import SOCKET_NAME, socket_record
from aiopip._records import (
    Called,
    Ended,
    Failed,
    Halted,
    Published,
    Record,
    Released,
    Resumed,
    Started,
)
from aiopip._service import Service
from aiopip._status import ExitStatus
from aiopip._task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiopip._events import Event
    from aiopip._group import TaskGroup
    from aiopip._loop import Loop
    from aiopip._pipes import Pipes
    from aiopip._pool import Pool
    from aiopip._python_tasks import PythonTasks
    from aiopip._request import SpawnRequest
    from aiopip._state import Member, TaskState


ABORT_MS = 1000
"""How long an abort waits for killed tasks to be reaped."""


class Phase(enum.Enum):
    """The life of a Root, behind its opening."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "forked"


class Core:
    """The inside of one open Root."""

    def __init__(self, client: Client, loop: Loop, max_tasks: int, grace_s: float) -> None:
        self.client = client
        self.loop = loop
        self.max_tasks = max_tasks
        self.phase = Phase.OPEN
        self.live: dict[tuple[int, int], TaskState] = {}
        """The tasks that have a slot and have not ended, those under way too."""
        self.collector = Collector(loop, self.acknowledge)
        self.launcher = Launcher(client, loop, self.live, max_tasks)
        self.imports = Imports(client, loop)
        self.peer = client.peer()
        self.exports = Exports(self.peer, self.check)
        self.listeners = Listeners(loop, client.listen)
        self.ending = Ending(self, loop, grace_s)
        self.groups: weakref.WeakSet[TaskGroup] = weakref.WeakSet()
        """The groups that are open: they end with the Root, if it is aborted."""
        self.pools: set[Pool] = set()
        """Those that are open: they end with the Root."""
        self._python: PythonTasks | None = None
        self._records: deque[Record] = deque()
        self.service = Service(self)
        self.listing = Listing(client)
        try:
            if self.listing.path is not None:
                self.exports.announce(SOCKET_NAME, socket_record(self.listing.path, max_tasks))
            loop.watch(client.fd(), self.drain)
        except BaseException:
            loop.unwatch(client.fd())
            self.listing.close()
            self.exports.close()
            raise

    def check(self) -> None:
        """Refuse use after the end, in a forked child, and from another thread."""
        if self.phase is Phase.CLOSED:
            raise ClosedError
        if self.phase is Phase.FORKED:
            raise ForkedError
        self.loop.check_thread()

    async def spawn(
        self,
        request: SpawnRequest,
        pipes: Pipes,
        member: Member | None,
        awaited: bool = False,
        make: Callable[[Core, TaskState, Pipes], Task] = Task,
        on_end: Callable[[ExitStatus], None] | None = None,
    ) -> Task:
        """Start a task; `Root.spawn` has the contract.

        Args:
            request: what to start.
            pipes: our ends of its pipes.
            member: what it is in a group, if it is of any.
            awaited: whether the caller waits for its end, so that no `wait_any` is given it.
            make: the class of what is returned.
            on_end: called with the task's status, before that is reported to anybody.
        """
        self.collector.expect()
        try:
            state = await self.launcher.launch(request, member, self.acknowledge)
        except BaseException:
            self.collector.dismiss()
            raise
        state.on_end = on_end
        return self.admit(state, pipes, awaited, make)

    def admit(
        self,
        state: TaskState,
        pipes: Pipes,
        awaited: bool,
        make: Callable[[Core, TaskState, Pipes], Task] = Task,
    ) -> Task:
        """A task has been started, for somebody who has its Task from here on."""
        state.awaited = awaited
        task = make(self, state, pipes)
        self.collector.admit(state, task)
        for event in state.early:
            self.listeners.publish(event(task))
        state.early.clear()
        if state.status is not None:
            self._report(state, state.status)
        return task

    @property
    def python(self) -> PythonTasks:
        """The functions that tasks run."""
        if self._python is None:
            from aiopip._python_tasks import PythonTasks

            self._python = PythonTasks(self.loop, self.peer)
        return self._python

    def acknowledge(self, state: TaskState) -> None:
        """The end of a task has been reported to somebody, or is nobody's: its memory may go.

        Until then an import finds what the task exported before it ended.
        """
        if state.unacknowledged and self.phase in (Phase.OPEN, Phase.CLOSING):
            state.unacknowledged = False
            self.client.acknowledge(state.pipid, state.generation)

    def kill(self, state: TaskState, signum: int) -> None:
        """Send a signal to a task; `Task.send_signal` has the contract."""
        result = 0
        if state.status is None:
            self.check()
            result = self.client.kill(state.pipid, state.generation, signum)
        if state.status is not None or result == -errno.ESRCH:
            raise TaskEndedError(state.name, state.pipid)
        _check_sent(result, signum, str(state))

    def kill_group(self, group: int | TaskState, signum: int) -> None:
        """Send a signal to a process group; `Root.signal_group` has the contract."""
        number = group if isinstance(group, int) else self._group_of(group)
        if number <= 1:
            raise InvalidArgumentError("group", f"{number} is no process group's ID")
        if number == os.getpgrp():
            raise InvalidArgumentError(
                "group",
                f"{number} is this process's own group, and the signal would reach this process "
                "and others of its job; spawn with process_group=0, or use send_signal() or "
                "kill_all()",
            )
        result = self.client.kill_group(number, signum)
        if result == -errno.ESRCH:
            raise GroupNotFoundError(number)
        _check_sent(result, signum, f"process group {number}")

    def _group_of(self, state: TaskState) -> int:
        result = -errno.ESRCH
        if state.status is None:
            result = self.client.group(state.pipid, state.generation)
        if result < 0:
            raise TaskEndedError(state.name, state.pipid)
        return result

    def shares(self, state: TaskState) -> bool:
        """Whether a task is in this space; `Task.shared` has the contract."""
        if state.status is None and state.shared:
            self.check()
            state.shared = self.client.shares(state.pipid, state.generation) != 0
        return state.shared

    def kill_now(self, state: TaskState) -> None:
        """Kill a task, if it runs."""
        if state.status is None:
            self.signal_these([state], signal.SIGKILL)

    async def end_now(self, state: TaskState) -> None:
        """Kill a task, if it runs, and wait until it is reaped, whatever comes."""
        self.kill_now(state)
        if state.status is None and self.phase in (Phase.OPEN, Phase.CLOSING):
            await self.loop.settle(self.collector.expect_end(state))
        self.collector.collect(state)

    def kill_all(self, signum: int) -> None:
        """Send all live tasks a signal; `Root.kill_all` has the contract."""
        for state in self.live.values():
            self.client.kill(state.pipid, state.generation, signum)

    # Events

    def drain(self) -> None:
        """Take and dispatch all events that wait."""
        more = self.phase in (Phase.OPEN, Phase.CLOSING)
        while more:
            taken = self.client.drain()
            # Kept in a queue, for a KeyboardInterrupt that is raised in the middle of this must not
            # lose the rest of the batch: `leave` drains once more.
            self._records.extend(taken)
            more = len(taken) == BATCH
            while self._records:
                self._dispatch(self._records.popleft())
            self.listeners.settle()

    def _dispatch(self, record: Record) -> None:
        try:
            if isinstance(record, Ended):
                self._ended(record)
            elif isinstance(record, Started):
                self._started(record)
            elif isinstance(record, Failed):
                self._failed(record)
            elif isinstance(record, Published):
                self._exported(record)
            elif isinstance(record, Halted):
                self._publish(record, partial(Stopped, signal=Signals(record.signal)))
            elif isinstance(record, Resumed):
                self._publish(record, Continued)
            elif isinstance(record, Released):
                self.exports.collect()
            elif isinstance(record, Called):
                self.listing.serve(self.max_tasks, self.live.values(), self.service.admit)
            else:
                self.launcher.reclaimed()
        except Exception as error:  # noqa: BLE001  one bad event must not lose those behind it
            self.loop.report(f"aiopip: handling {record!r} failed", error)

    def _started(self, record: Started) -> None:
        state = self.live[record.pipid, record.generation]
        state.pid = record.pid
        self.launcher.started(state)

    def _failed(self, record: Failed) -> None:
        state = self.live.pop((record.pipid, record.generation))
        self.launcher.failed(record)
        self._left(state)

    def _exported(self, record: Published) -> None:
        state = self.live.get((record.pipid, record.generation))
        if state is not None:
            state.loaded = True
            self.imports.retry(state)
            self._publish(record, Exported)

    def _ended(self, record: Ended) -> None:
        state = self.live.pop((record.pipid, record.generation))
        state.status = status = ExitStatus(
            record.wait_status,
            record.usage,
            record.started_ns,
            record.ended_ns,
            record.status_lost,
        )
        state.loaded = record.loaded
        state.shared = not record.left
        if state.imports:  # their last chance comes before the memory goes
            self.imports.finish(state)
        state.unacknowledged = record.acknowledge
        if self.launcher.ended(state):
            self._report(state, status)
        self.service.gone(state.pid)
        self._left(state)
        if record.status_lost:
            warnings.warn(
                f"the status of {state} was taken by another wait in this process; 255 is reported",
                RuntimeWarning,
                stacklevel=1,
            )

    def _publish(
        self, record: Halted | Resumed | Published, event: Callable[[Task], Event]
    ) -> None:
        state = self.live.get((record.pipid, record.generation))
        if state is None or not self.listeners:
            return
        task = self.collector.open.get(state)
        if task is None:
            state.early.append(event)  # `spawn` has yet to make it
        else:
            self.listeners.publish(event(task))

    def _report(self, state: TaskState, status: ExitStatus) -> None:
        task = self.collector.open[state]
        if state.on_end is not None:
            on_end, state.on_end = state.on_end, None
            on_end(status)
        if self.listeners:
            self.listeners.publish(Exited(task, status))
        if state.member is not None:
            state.member.group.ended(task, state, status)
        self.collector.end(state)

    def _left(self, state: TaskState) -> None:
        """It is alive no more: perhaps it was the last."""
        if state.member is not None:
            state.member.group.left(state)
        self.ending.check()

    # The end

    @property
    def idle(self) -> bool:
        """Whether no task is alive."""
        return not self.live

    def refresh(self) -> None:
        """Take the events that wait; while the Root is being left, no task may be started."""
        self.drain()
        self.launcher.close()

    def signal_all(self, signum: int) -> None:
        """Send all live tasks a signal that is to end them."""
        self.signal_these(self.live.values(), signum)

    def signal_these(self, states: Iterable[TaskState], signum: int) -> None:
        """Send tasks a signal that is to end them, and note whom it has reached.

        Those that have ended unnoticed it does not reach (ESRCH).
        """
        if self.phase not in (Phase.OPEN, Phase.CLOSING):
            return  # with tasks that abort could not reap
        for state in states:
            if self.client.kill(state.pipid, state.generation, signum) == 0:
                state.signaled = True

    async def leave(self, failed: bool) -> None:
        """End the block: wait for all tasks, or end them; `Root.__aexit__` has the contract."""
        if self.loop.gone:  # the coroutine is being closed, behind its loop's end
            self.abort()
            return
        self.phase = Phase.CLOSING
        interruption = None
        try:
            self.refresh()
            for pool in list(self.pools):
                pool.retire()
            interruption = await self.ending.wait(failed)
            self._shut()
        except BaseException:
            # GeneratorExit: the coroutine is being closed, and may wait no more.  KeyboardInterrupt
            # is raised by a signal handler, between any two instructions, so between those of
            # `Ending` that catch it, too.
            if self.phase is not Phase.CLOSED:
                self.abort()
            raise
        try:
            if interruption is not None:
                raise interruption
        finally:
            del interruption  # its traceback refers to this frame

    def abort(self) -> int:
        """Kill and reap all tasks and close, blocking for ABORT_MS at the most.

        In a loop that is gone no future may be touched: setting one calls into its loop.

        Returns:
            The number of tasks that are left, in an uninterruptible sleep.
        """
        self.phase = Phase.CLOSING
        for state in self.live.values():
            state.signaled = True
        if not self.loop.gone:
            self.launcher.close()
        left = self.client.abort(ABORT_MS)
        if not self.loop.gone:
            self.drain()
        self._shut(busy_is_fine=left > 0)
        return left

    def block_until(self, ended: Callable[[], bool]) -> None:
        """Take events until killed tasks have ended, blocking for ABORT_MS at the most."""
        events = select.poll()
        events.register(self.client.fd(), select.POLLIN)
        deadline = time.monotonic() + ABORT_MS / 1000
        while not ended() and (left_s := deadline - time.monotonic()) > 0:
            events.poll(left_s * 1000)
            self.drain()

    def exit(self) -> None:
        """Kill and reap all tasks at the interpreter's exit; the memory goes with the process.

        The loop's thread may be alive, a daemon, so the client is not closed under it.
        """
        self.phase = Phase.CLOSED
        self.client.abort(ABORT_MS)
        self.listing.close()

    def _shut(self, busy_is_fine: bool = False) -> None:
        gone = self.loop.gone
        if not gone:
            self.loop.unwatch(self.client.fd())
        self.phase = Phase.CLOSED
        self.service.close()
        self.peer.close()
        result = self.client.close()
        self.listing.close()
        self.exports.close(tasks_left=result < 0)
        if gone:
            for pool in self.pools:
                pool.forsake()
        else:
            self.collector.collect_all()
            self.collector.give_up()
            self.listeners.close()
            for group in self.groups:
                group.abandon()
            for pool in list(self.pools):
                pool.abandon()
            if self._python is not None:
                self._python.close()
        self._python = None  # its descriptor goes, though somebody keeps the Root
        if result < 0 and not busy_is_fine:
            raise call_error(-result, "closing the native core failed")


def _check_sent(result: int, signum: int, to: str) -> None:
    if result == -errno.EINVAL:
        raise InvalidArgumentError("signal", f"{signum!r} is no signal")
    if result == -errno.EPERM:
        raise NotPermittedError(f"{to} runs as another user, and takes no signals from us")
    if result < 0:
        raise call_error(-result, f"sending signal {signum} to {to} failed")
