"""A pool: interpreters of their own that run functions, in the address space of their Root."""

from __future__ import annotations

import contextlib
import os
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from aiopip._crew import Crew, Plan, without_workers
from aiopip._dispatch import Job
from aiopip._errors import ClosedError, ForkedError, InvalidArgumentError, whole_number
from aiopip._ffi_calls import ANY, Calls
from aiopip._packing import pack_call
from aiopip._pool_map import PoolMap
from aiopip._pool_options import limit, positive, processors, setup
from aiopip._pool_room import Room
from aiopip._remote_errors import as_exception
from aiopip._statistics import PoolStatistics, WorkerStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Literal

    from typing_extensions import Self

    from aiopip._dispatch import Outcome
    from aiopip._interpreters import Workplace
    from aiopip._loop import Future
    from aiopip._parcel import Parcel

T = TypeVar("T")

NAME = "aiopip-worker"


class Pool:
    """Worker interpreters that run functions; made by `Root.pool`, and entered once.

    Each worker is a CPython of its own, with its own GIL and modules, in the address space of the
    Root: arguments and results of any size go by reference.  NumPy arrays, Arrow buffers and
    memoryviews are seen in place, by both sides; `aiopip.ref` has bytes, bytearray and array.array
    go so, too, and `aiopip.copy` has anything copied.  All else is pickled.

    What a call refers to is kept until it has ended, and as long as its worker has views of it.
    What a result refers to is kept as long as anybody here has views of it, also when its worker,
    or the pool, has ended.

    A worker that dies fails the call that it runs, with WorkerDiedError, and is replaced; no other
    call notices.  The pool is of no use any more (ClosedError) when a successor cannot be started,
    its initializer raises something, or it ends by itself before it is ready.

    Context variables are those of who awaits: they have their values behind `await pool.run(...)`,
    in what `map` iterates, and where a result is made by code of its own (`__setstate__`).  They
    are not sent to workers, where each has its default value; an argument is what travels.

    Leaving the block waits for the calls that are under way, those that were abandoned too, then
    ends the workers.  Leaving it by an exception, or being cancelled meanwhile, kills them; calls
    of other coroutines fail with ClosedError.

    Thread safety: loop thread only.
    """

    def __init__(
        self,
        place: Workplace,
        *,
        workers: int | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        cpu: int | Iterable[int] | Sequence[Iterable[int]] | None,
        max_calls_per_worker: int | None,
        max_pending: int | None,
        on_cancel: Literal["abandon", "kill"],
    ) -> None:
        """Made by `Root.pool`, which documents the arguments."""
        count = os.cpu_count() or 1 if workers is None else positive("workers", workers)
        if on_cancel not in ("abandon", "kill"):
            raise InvalidArgumentError(
                "on_cancel", f"{on_cancel!r} is neither 'abandon' nor 'kill'"
            )
        self._loop = place.loop
        self._host = place.host
        self._open_pools = place.pools
        self._kills = on_cancel == "kill"
        self._pid = os.getpid()
        room = limit("max_pending", max_pending)
        self._calls = Calls()
        plan = Plan(
            count,
            setup(initializer, initargs),
            limit("max_calls_per_worker", max_calls_per_worker),
            (),
            processors(cpu),
            NAME,
        )
        self._crew = Crew(place.host, self._calls, place.peer, plan, self._changed)
        self._dispatcher = self._crew.dispatcher
        self._state = "new"
        self._waiters: list[Future[None]] = []
        """Who waits for the crew: to be ready, idle, or gone."""
        self._room = Room(place.loop, room, self._dispatcher.__len__)
        self._done = self._failed = self._cancelled = 0

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return len(self._crew.seats)

    async def __aenter__(self) -> Self:
        """Start the workers, and wait until all of them are ready.

        Raises:
            WorkerDiedError: one has died before it was ready.
            ClosedError: the pool was entered before, or its Root is closed.
            SlotBusyError, OutOfMappingsError: there is no room for so many.
            Exception: what `initializer` has raised, its traceback in the worker for its cause.
        """
        if self._state != "new":
            raise ClosedError("this pool was entered before; make another one")
        self._state = "open"
        self._open_pools.add(self)
        self._host.watch(self._calls.fd, self._drain)
        try:
            self._crew.start()
            await self._until(lambda: self._crew.is_ready or self._crew.broken is not None)
        except BaseException as error:
            await self._kill(error)
            raise
        if self._crew.broken is not None:
            await self._kill(None)
            raise self._crew.broken
        if self._state != "open":
            raise ClosedError("the Root was closed while the pool was being entered")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop.gone or self._pid != os.getpid():
            return  # the Root's end is that of its workers, or they are our parent's
        if exc is not None:
            await self._kill(exc)
            return
        try:
            await self._until(lambda: not len(self._dispatcher) and not len(self._room))
            self.retire()
            await self._until(lambda: False)
        except BaseException as error:
            await self._kill(error)
            raise

    async def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a function in the worker that is free first.

        Args:
            function: found by its module and name in the worker; lambdas and closures go by value
                where cloudpickle is installed.
            args: its arguments.
            kwargs: its keyword arguments.  `out`, as NumPy's functions have it, is an array or
                buffer that is written in place, or several: what would be a copy is refused.

        Returns:
            What it returns.

        Raises:
            Exception: what it raises, with `RemoteTraceback` for its cause.
            RemoteError: it has raised something that does not pickle, or cannot be made here, or is
                no Exception: SystemExit, KeyboardInterrupt, CancelledError.
            NotPicklableError: an argument, the function or the result does not pickle.
            InvalidArgumentError: `out` would be copied, or is read only; the function is none.
            WorkerDiedError: its worker has died meanwhile; others are not concerned.
            ClosedError: the pool is closed, or was left by an exception meanwhile.

        Cancellation:
            A call that no worker has begun is removed.  One that runs is abandoned, and its result
            is dropped when it comes; with `on_cancel="kill"` its worker is killed and replaced.
        """
        return await self._run(lambda: ANY, function, args, kwargs)

    async def run_on(
        self, worker: int, function: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> T:
        """Run a function in one worker; before other calls that wait, behind what runs there.

        Args:
            worker: which one, 0 to workers - 1.  Has it died, its successor is meant.
            function: as for `run`, as are
            args: its arguments, and
            kwargs: its keyword arguments.
        """
        worker = whole_number("worker", worker)
        if not 0 <= worker < self.workers:
            raise InvalidArgumentError("worker", f"{worker} is not within 0 and {self.workers - 1}")
        return await self._run(lambda: self._number(worker), function, args, kwargs)

    async def broadcast(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> list[T]:
        """Run a function once in every worker.

        Returns:
            The results, by worker.

        Raises:
            Exception: as `run`: that of the first worker, by number, which has failed; all have
                ended by then.

        Cancellation:
            As `run`, for all.
        """
        self._check()
        parcel = pack_call(function, args, kwargs)
        started: list[tuple[Job, Future[Outcome]]] = []
        outcomes: list[Outcome] = []
        try:
            for seat in self._crew.seats:
                one = self._start(parcel, self._number(seat.index))
                started.append(one)
            for _, future in started:
                outcomes.append(await future)
        except BaseException:
            for job, _ in started:
                self.drop(job)
            raise
        try:
            return [outcome.get() for outcome in outcomes]
        finally:
            outcomes.clear()  # the traceback of an error of theirs refers to this frame
            started.clear()

    def map(
        self,
        function: Callable[[Any], T],
        iterable: Iterable[Any] | AsyncIterable[Any],
        /,
        *,
        ordered: bool = True,
        buffer: int | None = None,
        chunksize: int = 1,
    ) -> PoolMap[T]:
        """Run a function for each of some arguments, as an async iterator over the results.

            async for result in pool.map(function, arguments): ...

        Arguments are taken when there is room for them: no more than `buffer` of them are under
        way, or wait to be taken as results.

        Args:
            function: takes one argument; as for `run`.
            iterable: the arguments; one that is iterated with `async for` is fine, too, and is
                asked for the next ones whenever no result is there.
            ordered: whether results come in the order of the arguments; else as they are there.
            buffer: how many arguments are taken ahead of the results; by default four for each
                worker, and at least as many chunks.
            chunksize: how many arguments are handed to a worker at once.

        Returns:
            An async iterator, which can be used in `async with`, too: leaving that cancels what is
            under way, as `aclose()` does.

        Raises:
            Exception: from the iterator, what a call raises, as `run`; what is under way then is
                cancelled.  What the iterable raises, and NotPicklableError of an argument, comes
                behind the results of what was taken before.
        """
        self._check()
        return PoolMap(self, function, iterable, ordered, buffer, chunksize)

    def statistics(self) -> PoolStatistics:
        """What the pool and its workers do and have done."""
        jobs, seats = self._dispatcher.jobs, self._crew.seats
        return PoolStatistics(
            workers=tuple(
                WorkerStatistics(
                    pid=None if seat.process is None else seat.process.pid,
                    pipid=None if seat.process is None else seat.process.pipid,
                    ready=seat.ready,
                    calls=seat.calls,
                    busy_ns=seat.busy_ns,
                    ended=seat.ended,
                )
                for seat in seats
            ),
            pending=len(self._dispatcher) + len(self._room),
            abandoned=sum(job.abandoned for job in jobs.values()),
            done=self._done,
            failed=self._failed,
            cancelled=self._cancelled,
        )

    def __repr__(self) -> str:
        pending = len(self._dispatcher)
        return f"<aiopip.Pool {self._state} workers={self.workers} pending={pending}>"

    # Calls

    async def _run(
        self,
        target: Callable[[], int],
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> T:
        self._check()
        parcel = pack_call(function, args, kwargs)
        await self._room.enter()
        # `target` is asked behind the wait: the worker may have been replaced.
        job, future = self._start(parcel, target())
        try:
            outcome = await future
        except BaseException:
            self.drop(job)
            raise
        try:
            value: T = outcome.get()
            return value
        finally:
            del outcome, future, job  # the traceback of an error of theirs refers to this frame

    def _start(self, parcel: Parcel, target: int) -> tuple[Job, Future[Outcome]]:
        future: Future[Outcome] = self._loop.create_future()
        job = self.submit(parcel, partial(_settle, future), target)
        return job, future

    def submit(self, parcel: Parcel, deliver: Callable[[Outcome], None], target: int = ANY) -> Job:
        """Hand in a call, for `PoolMap`; internal."""

        def delivered(outcome: Outcome) -> None:
            self._crew.count(outcome)
            if outcome.error is None:
                self._done += 1
            else:
                self._failed += 1
                outcome = outcome._replace(error=as_exception(outcome.error))
            deliver(outcome)

        self._check()
        job = Job(parcel, delivered, target, copy_context())
        self._dispatcher.submit(job)
        return job

    def create_future(self) -> Future[None]:
        """A future of the pool's loop, for `PoolMap`; internal."""
        return self._loop.create_future()

    def drop_later(self, jobs: list[Job]) -> None:
        """Drop calls, in any thread and in the middle of anything; internal."""
        # RuntimeError: the loop has ended, and the workers with it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_from_thread(self._drop_all, jobs)

    def _drop_all(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.drop(job)

    def drop(self, job: Job) -> None:
        """Nobody waits for a call any more; internal."""
        if job.over or job.abandoned or self._loop.gone or self._pid != os.getpid():
            return
        self._cancelled += 1
        if self._dispatcher.cancel(job):
            self._advance()
            return
        job.abandoned = True
        job.deliver = self._crew.count
        number = self._calls.doom(job.number) if self._kills else -1
        if number >= 0:
            self._crew.kill_worker(number)

    def _advance(self) -> None:
        """A call is over, or something of the crew has changed: who waits for that goes on."""
        self._room.give()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _drain(self) -> None:
        try:
            self._dispatcher.drain()
        finally:
            self._advance()

    def _number(self, index: int) -> int:
        """The worker in a seat, as the native queue has it."""
        number = self._crew.seats[index].number
        if number < 0:
            raise self._crew.broken or ClosedError("the pool is closed")
        return number

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise ForkedError
        if self._state == "new":
            raise ClosedError("the pool is not entered yet: `async with root.pool() as pool:`")
        self._loop.check_thread()
        if self._crew.broken is not None:
            raise without_workers(self._crew.broken)
        if self._state != "open" or self._crew.ending:
            raise ClosedError("the pool is closed")

    # The end

    def _changed(self) -> None:
        """Something of the crew has changed."""
        broken = self._crew.broken
        if broken is not None and self._state == "open" and not self._crew.ending:
            self._crew.kill()
            self._dispatcher.fail_all(lambda: without_workers(broken))
        if self._state == "closing" and self._crew.is_gone:
            self._close()
        self._advance()

    async def _until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or the pool is closed."""
        while not reached() and self._state != "closed":
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def _kill(self, why: BaseException | None) -> None:
        """Kill the workers and close, whatever comes.

        Args:
            why: what is raised; behind GeneratorExit nothing may be waited for.

        Raises:
            BaseException: the cancellation that has come meanwhile, when they are gone.
        """
        if self._state == "closed" or self._loop.gone:
            return
        self._state = "closing"
        self._crew.kill()
        self._dispatcher.fail_all(lambda: ClosedError("the pool was left, and its workers killed"))
        self._changed()
        if isinstance(why, GeneratorExit):
            return
        try:
            await self._until(lambda: False)
        except GeneratorExit:
            raise
        except BaseException:
            while self._state == "closing":
                waiter: Future[None] = self._loop.create_future()
                self._waiters.append(waiter)
                await self._loop.settle(waiter)
            raise

    def _close(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        self._open_pools.discard(self)
        self._host.unwatch(self._calls.fd)
        self._dispatcher.close(lambda: ClosedError("the pool was closed"))
        self._room.close()

    def retire(self) -> None:
        """The Root is being left with the pool open: its workers end; internal."""
        if self._state == "open":
            self._state = "closing"
            self._crew.stop()
            self._changed()

    def abandon(self) -> None:
        """The Root was closed with the pool open: its workers are dead; internal."""
        self._crew.ending = True
        self._close()
        self._advance()

    def forsake(self) -> None:
        """The same, where the loop is gone, and no future may be touched; internal."""
        self._state = "closed"
        self._crew.forsake()


def _settle(future: Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
