"""Calls on their way through a pool's queue, whoever owns it: what became of each, exactly once.

`Dispatcher` knows calls and workers by their numbers, and no event loop: a `Pool` calls it on its
loop's thread, an executor under its lock.  A call goes through these states:

    waits      the native queue is full                 `cancel` removes it
    handed in  a worker may claim it at any time        `cancel` takes it back, if none has
    claimed    a worker runs it                         its end comes: DONE, or LOST with it
    over       `deliver` was called, or it was cancelled

What a call's arguments point to is kept until no worker runs it, also when it is over before that
(`fail_all`), and for as long as its worker says that it still has views of it (KEEPS, RETURNED).
"""

from __future__ import annotations

import errno
from _pickle import loads
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopip._errors import call_error
from aiopip._ffi_calls import (
    ANY,
    BATCH,
    DONE,
    FAILED,
    KEEPS,
    LOST,
    READY,
    RETURNED,
    bytes_at,
)
from aiopip._remote_errors import unpack_error
from aiopip._results import found

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from aiopip._ffi import Peer
    from aiopip._ffi_calls import CallEvent, Calls
    from aiopip._parcel import Parcel
    from aiopip._results import Unread


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        value: what the function returned, None when it has failed.
        error: what it raised, or why there is no result; None when there is one.
        worker: the number of the worker that ran it, ANY when none did.
        started_ns: when it began, by CLOCK_MONOTONIC; 0 when it did not.
        ended_ns: when it ended.
    """

    value: Any
    error: BaseException | None
    worker: int
    started_ns: int = 0
    ended_ns: int = 0

    def get(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                del self  # the error's traceback refers to this frame
        return self.value


class Job:
    """One call.

    Attributes:
        parcel: function, arguments and keyword arguments.
        target: the worker that is to run it, ANY for whoever comes first.
        deliver: called once with how it ended, unless it was cancelled before it began.
        context: where its result is read, which may run code of the user's; None: not here, and
            the outcome has it as an `Unread`.
        number: the native queue's, -1 while it waits for room there.
        abandoned: whether nobody wants to know its value.
        over: whether it was delivered or cancelled; a worker may run it still.
    """

    __slots__ = ("abandoned", "context", "deliver", "number", "over", "parcel", "target")

    def __init__(
        self,
        parcel: Parcel,
        deliver: Callable[[Outcome], None],
        target: int = ANY,
        context: Context | None = None,
    ) -> None:
        self.parcel = parcel
        self.deliver = deliver
        self.target = target
        self.context = context
        self.number = -1
        self.abandoned = self.over = False


class Dispatcher:
    """The calls of one owner.

    Attributes:
        jobs: those that were handed in, by number.
        waiting: those that the native queue has no room for, by their targets, in their order.
    """

    def __init__(
        self, calls: Calls, peer: Peer, on_ready: Callable[[int, BaseException | None], None]
    ) -> None:
        """Take the queue.

        Args:
            calls: the native queue.
            peer: this process, which holds memory of workers.
            on_ready: called with a worker that is ready for calls, or with why it is not.
        """
        self._calls = calls
        self._peer = peer
        self._on_ready = on_ready
        self.jobs: dict[int, Job] = {}
        self.waiting: dict[int, OrderedDict[Job, None]] = {}
        self._in_hand: list[Job] = []
        self._refilling = False
        self._kept: dict[int, Parcel] = {}
        self._events: deque[CallEvent] = deque()
        """Taken and not handled yet: a KeyboardInterrupt in the midst of some loses no other."""

    def __len__(self) -> int:
        """How many calls are not over, those that were abandoned too."""
        return len(self.jobs) + sum(map(len, self.waiting.values()))

    def submit(self, job: Job) -> None:
        """Hand a call in.

        Raises:
            CallError: there is no memory for it (ENOMEM).
        """
        if (job.target not in self.waiting and self._push(job)) or _is_over(job):
            return
        self.waiting.setdefault(job.target, OrderedDict())[job] = None

    def cancel(self, job: Job) -> bool:
        """Remove a call that no worker has begun; whether that could be done."""
        if job.over:
            return False
        if job.number < 0:
            # In a finaliser it may be just about to be handed in: see `_push`.
            queue = self.waiting.get(job.target, OrderedDict())
            queue.pop(job, None)
            if not queue:
                self.waiting.pop(job.target, None)
        elif self._calls.revoke(job.number):
            del self.jobs[job.number]
        else:
            return False
        job.over = True
        self._refill()
        return True

    def refuse(self, job: Job, error: BaseException) -> None:
        """Fail a call that no worker has begun."""
        if self.cancel(job):
            job.over = False
            _deliver(job, Outcome(None, error, ANY))

    def cancel_all(self) -> list[Job]:
        """Remove every call that no worker has begun: which those were."""
        removed = [job for queue in self.waiting.values() for job in queue]
        self.waiting.clear()
        handed_in = [
            job for job in self.jobs.values() if not job.over and self._calls.revoke(job.number)
        ]
        for job in handed_in:
            del self.jobs[job.number]
        removed += handed_in
        for job in removed:
            job.over = True
        return removed

    def drain(self) -> None:
        """Take what workers have said, and hand it on.

        Raises:
            Exception: what the first of those that are told has raised; all others were told.
        """
        more = True
        while more:
            taken = self._calls.drain()
            more = len(taken) == BATCH
            self._events.extend(taken)
            self._handle_all()
            if self.waiting:
                self._refill()

    def bury(self, worker: int, died: Callable[[], BaseException]) -> list[Job]:
        """A worker has ended: deliver what it has left.

        Args:
            worker: its number, which is free behind this.
            died: makes the error for a call that it was running.

        Returns:
            The calls for it alone that it has not begun, in their order.
        """
        self.drain()
        left: list[Job] = []
        more = True
        while more:
            events = self._calls.bury(worker)
            more = len(events) == BATCH
            for event in events:
                if event.kind in (DONE, READY, RETURNED):
                    self._events.append(event)
                    continue
                job = self.jobs.pop(event.call, None)
                if event.kind == LOST:
                    outcome = Outcome(None, died(), worker, event.started_ns)
                    if job is not None:
                        _deliver(job, outcome)
                elif job is not None and not job.over:
                    job.number = -1
                    left.append(job)
            self._handle_all()
        left += self.waiting.pop(worker, ())
        return left

    def lose(self, job: Job, error: BaseException) -> None:
        """Fail a call that `bury` has given back."""
        _deliver(job, Outcome(None, error, ANY))

    def fail_all(self, make: Callable[[], BaseException]) -> None:
        """Fail every call that is not over.

        Those that run may run for a while: workers that were killed are not dead at once.  What
        their arguments refer to is kept until `bury`, or `close`.
        """
        removed = self.cancel_all()
        for job in removed:
            job.over = False
        for job in [*self.jobs.values(), *removed]:
            _deliver(job, Outcome(None, make(), ANY))

    def close(self, make: Callable[[], BaseException]) -> None:
        """Fail every call that is not over, and keep nothing any more: no worker is alive."""
        self.fail_all(make)
        self.jobs.clear()
        self._in_hand.clear()
        self._kept.clear()

    def _push(self, job: Job) -> bool:
        # KeyboardInterrupt may be raised between any two lines, and so when a worker may have begun
        # a call that is not written down: what that points to is kept, and its end is nobody's.
        if _is_over(job):
            return True
        self._in_hand.append(job)
        number = self._calls.push(job.target, job.parcel.data, job.parcel.table)
        if number >= 0:
            job.number = number
            self.jobs[number] = job
            if _is_over(job) and self._calls.revoke(number):
                self.jobs.pop(number, None)
        self._in_hand.remove(job)
        if number < 0 and number != -errno.EAGAIN:
            raise call_error(-number, "handing a call to the pool failed")
        return number >= 0

    def _refill(self) -> None:
        """Hand in what had to wait for room; a finaliser in the midst leaves it to this."""
        if self._refilling:
            return
        self._refilling = True
        try:
            for target, queue in list(self.waiting.items()):
                self._refill_from(queue)
                if not queue and self.waiting.get(target) is queue:
                    del self.waiting[target]
        finally:
            self._refilling = False

    def _refill_from(self, queue: OrderedDict[Job, None]) -> None:
        while queue:
            job = next(iter(queue))
            try:
                if not self._push(job):
                    return
                queue.pop(job, None)
            except OSError as error:
                queue.pop(job, None)
                _deliver(job, Outcome(None, error, ANY))

    def _handle_all(self) -> None:
        failed = None
        while self._events:
            try:
                self._handle(self._events.popleft())
            # One bad event must not lose those behind it.
            except Exception as error:  # noqa: BLE001, PERF203
                failed = failed or error
        if failed is not None:
            raise failed

    def _handle(self, event: CallEvent) -> None:
        if event.kind == DONE:
            self._done(event)
        elif event.kind == RETURNED:
            self._kept.pop(event.call, None)
        elif event.kind == READY:
            self._on_ready(event.worker, _why_not(event) if event.flags & FAILED else None)

    def _done(self, event: CallEvent) -> None:
        job = self.jobs.pop(event.call, None)
        if job is None:
            self._calls.release(event.call)
            return
        if event.flags & KEEPS:
            self._kept[event.call] = job.parcel
        value: Any = None
        error: BaseException | None = None
        if job.abandoned or job.over:
            self._calls.release(event.call)
        elif job.context is None:
            try:
                value = self._found(event, job.parcel)
            except Exception as raised:  # noqa: BLE001  no memory: it must end all the same
                error = raised
        else:
            value, error = job.context.run(self._read, event, job.parcel)
        _deliver(job, Outcome(value, error, event.worker, event.started_ns, event.ended_ns))
        del error  # its traceback may refer to this frame

    def _found(self, event: CallEvent, arguments: Parcel) -> Unread:
        return found(self._calls, event, self._peer, arguments, self._kept.values())

    def _read(self, event: CallEvent, arguments: Parcel) -> tuple[Any, BaseException | None]:
        if event.table_bytes:
            return self._found(event, arguments).read()
        try:
            value = loads(bytes_at(event.data, event.data_bytes))
            return (None, unpack_error(value)) if event.flags & FAILED else (value, None)
        except BaseException as raised:  # noqa: BLE001  by an object's own code: the caller's
            return None, raised
        finally:
            self._calls.release(event.call)


def _is_over(job: Job) -> bool:
    """Whether a call was cancelled, which a finaliser may do between any two lines."""
    return job.over


def _why_not(event: CallEvent) -> BaseException:
    """Why a worker is not ready."""
    try:
        return unpack_error(loads(bytes_at(event.data, event.data_bytes)))
    except Exception as error:  # noqa: BLE001  an object's own code raises it
        return error


def _deliver(job: Job, outcome: Outcome) -> None:
    if not job.over:
        job.over = True
        job.deliver(outcome)
