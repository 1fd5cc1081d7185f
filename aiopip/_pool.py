"""A pool: interpreters of their own that run functions, in the address space of their Root."""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from aiopip._crew import Crew, Plan
from aiopip._dispatch import Job
from aiopip._errors import ClosedError, InvalidArgumentError, whole_number
from aiopip._ffi_calls import ANY, Calls
from aiopip._interpreter import make_setup
from aiopip._pickling import check_written, dump, name_unpicklable
from aiopip._pool_map import PoolMap
from aiopip._statistics import PoolStatistics, WorkerStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Literal

    from typing_extensions import Self

    from aiopip._dispatch import Outcome
    from aiopip._interpreters import Workplace
    from aiopip._loop import Future
    from aiopip._pickling import Parcel

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

    Leaving the block waits for the calls that are under way, then ends the workers.  Leaving it by
    an exception, or being cancelled meanwhile, kills them; calls of other coroutines fail with
    ClosedError.

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
        count = os.cpu_count() or 1 if workers is None else whole_number("workers", workers)
        if count < 1:
            raise InvalidArgumentError("workers", f"{count} is none at all")
        if on_cancel not in ("abandon", "kill"):
            raise InvalidArgumentError(
                "on_cancel", f"{on_cancel!r} is neither 'abandon' nor 'kill'"
            )
        self._loop = place.loop
        self._host = place.host
        self._open_pools = place.pools
        self._max_pending = _limit("max_pending", max_pending)
        self._kills = on_cancel == "kill"
        self._calls = Calls()
        plan = Plan(
            count,
            make_setup(initializer, initargs),
            _limit("max_calls_per_worker", max_calls_per_worker),
            (),
            _seats(cpu),
            NAME,
        )
        self._crew = Crew(place.host, self._calls, place.peer, plan, self._changed)
        self._dispatcher = self._crew.dispatcher
        self._state = "new"
        self._waiters: list[Future[None]] = []
        """Who waits for the crew: to be ready, idle, or gone."""
        self._queue: deque[Future[None]] = deque()
        """Who waits for room, where `max_pending` is reached."""
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
        except BaseException:
            await self._end(kill=True)
            raise
        if self._crew.broken is not None:
            await self._end(kill=True)
            raise self._crew.broken
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._state != "open":
            return
        try:
            if exc_type is None:
                await self._until(lambda: not self._dispatcher.jobs and not self._queue)
        except BaseException:
            await self._end(kill=True)
            raise
        await self._end(kill=exc_type is not None)

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
            RemoteError: it has raised something that does not pickle.
            NotPicklableError: an argument, the function or the result does not pickle.
            WorkerDiedError: its worker has died meanwhile; others are not concerned.
            ClosedError: the pool is closed, or was left by an exception meanwhile.

        Cancellation:
            A call that no worker has begun is removed.  One that runs is abandoned, and its result
            is dropped when it comes; with `on_cancel="kill"` its worker is killed and replaced.
        """
        return await self._run(ANY, function, args, kwargs)

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
        return await self._run(self._number(worker), function, args, kwargs)

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
        parcel = self._pack(function, args, kwargs)
        futures = [self._start(parcel, self._number(seat.index)) for seat in self._crew.seats]
        outcomes = [await self._ended(*one) for one in self._each(futures)]
        return [outcome.get() for outcome in outcomes]

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
            iterable: the arguments; one that is iterated with `async for` is fine, too.
            ordered: whether results come in the order of the arguments; else as they are there.
            buffer: how many arguments are taken ahead of the results; by default four for each
                worker, and at least as many chunks.
            chunksize: how many arguments are handed to a worker at once.

        Returns:
            An async iterator, which can be used in `async with`, too: leaving that cancels what is
            under way, as `aclose()` does.

        Raises:
            Exception: from the iterator, what a call raises, as `run`; what is under way then is
                cancelled.
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
            pending=len(self._dispatcher) + len(self._queue),
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
        self, target: int, function: Callable[..., T], args: tuple[Any, ...], kwargs: Any
    ) -> T:
        self._check()
        parcel = self._pack(function, args, kwargs)
        if self._max_pending and len(self._dispatcher) >= self._max_pending:
            await self._room()
        outcome = await self._ended(*self._start(parcel, target))
        value: T = outcome.get()
        return value

    def _pack(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
        if "out" in kwargs:
            check_written("out", kwargs["out"])
        try:
            return dump((function, args, kwargs))
        except Exception as error:
            raise name_unpicklable(function, args, kwargs, error) from error

    def _start(self, parcel: Parcel, target: int) -> tuple[Job, Future[Outcome]]:
        future: Future[Outcome] = self._loop.create_future()
        job = self.submit(parcel, partial(_settle, future), target)
        return job, future

    async def _ended(self, job: Job, future: Future[Outcome]) -> Outcome:
        try:
            return await future
        except BaseException:
            self.drop(job)
            raise

    def _each(self, started: list[tuple[Job, Future[Outcome]]]) -> Any:
        """One after the other; those that were not come to are dropped."""
        left = deque(started)
        try:
            while left:
                yield left.popleft()
        finally:
            for job, _ in left:
                self.drop(job)

    def submit(self, parcel: Parcel, deliver: Callable[[Outcome], None], target: int = ANY) -> Job:
        """Hand in a call, for `PoolMap`; internal."""

        def delivered(outcome: Outcome) -> None:
            self._count(outcome)
            deliver(outcome)

        job = Job(parcel, delivered, target)
        self._dispatcher.submit(job)
        return job

    def create_future(self) -> Future[None]:
        """A future of the pool's loop, for `PoolMap`; internal."""
        return self._loop.create_future()

    def drop(self, job: Job) -> None:
        """Nobody waits for a call any more; internal."""
        if self._state == "closed":
            return
        self._cancelled += 1
        if self._dispatcher.cancel(job):
            self._advance()
            return
        job.abandoned = True
        number = self._calls.taker(job.number) if self._kills and job.number >= 0 else -1
        if number >= 0 and (process := self._crew.seat_of(number).process) is not None:
            process.kill()

    async def _room(self) -> None:
        """Wait for room, each in his turn."""
        turn: Future[None] = self._loop.create_future()
        self._queue.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._queue:
                self._queue.remove(turn)
            else:
                self._advance()  # it had its turn, and does not use it
            raise
        self._check()

    def _advance(self) -> None:
        """A call is over: there may be room for those who wait for that."""
        room = self._max_pending - len(self._dispatcher)
        while self._queue and room > 0:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
        self._wake()

    def _count(self, outcome: Outcome) -> None:
        self._crew.count(outcome)
        if outcome.error is None:
            self._done += 1
        else:
            self._failed += 1

    def _drain(self) -> None:
        self._dispatcher.drain()
        self._advance()

    def _number(self, index: int) -> int:
        """The worker in a seat, as the native queue has it."""
        number = self._crew.seats[index].number
        if number < 0:
            raise self._crew.broken or ClosedError("the pool is closed")
        return number

    def _check(self) -> None:
        if self._state != "open":
            raise ClosedError(
                f"the pool is {'closed' if self._state != 'new' else 'not entered yet'}"
            )
        self._loop.check_thread()
        if self._crew.broken is not None:
            raise ClosedError("the pool has no workers any more") from self._crew.broken

    # The end

    def _changed(self) -> None:
        """Something of the crew has changed."""
        broken = self._crew.broken
        if broken is not None and self._state == "open" and not self._crew.ending:
            self._crew.kill()
            self._dispatcher.fail_all(lambda: _closed("the pool has no workers any more", broken))
        self._advance()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def _end(self, kill: bool) -> None:
        """End the workers and close, whatever comes."""
        if self._state == "closed":
            return
        self._state = "closing"
        if kill:
            self._crew.kill()
        else:
            self._crew.stop()
        try:
            if not kill:
                await self._until(lambda: self._crew.is_gone)
        except BaseException:
            self._crew.kill()
            raise
        finally:
            await self._settled()
            self._close()

    async def _settled(self) -> None:
        """Wait until all workers are gone, through cancellations."""
        while not self._crew.is_gone and self._state == "closing":
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await self._loop.settle(waiter)

    def _close(self) -> None:
        if self._state == "closed":
            return
        self._state = "closed"
        self._open_pools.discard(self)
        self._host.unwatch(self._calls.fd)
        self._dispatcher.fail_all(lambda: ClosedError("the pool was closed"))
        queue, self._queue = self._queue, deque()
        for turn in queue:
            if not turn.done():
                turn.set_result(None)
        self._wake()

    def retire(self) -> None:
        """The Root is being left with the pool open: its workers end; internal."""
        if self._state == "open":
            self._crew.stop()

    def abandon(self) -> None:
        """The Root was closed with the pool open: its workers are dead; internal."""
        self._crew.ending = True
        self._close()


def _closed(text: str, cause: BaseException) -> ClosedError:
    error = ClosedError(text)
    error.__cause__ = cause
    return error


def _settle(future: Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _limit(name: str, value: int | None) -> int:
    """A number from 1 on; 0 where there is no limit."""
    if value is None:
        return 0
    value = whole_number(name, value)
    if value < 1:
        raise InvalidArgumentError(name, f"{value} is less than 1; None is for no limit")
    return value


def _seats(cpu: Any) -> tuple[frozenset[int], ...]:
    """The processors of each seat, in turn: one set for all, or a sequence of sets."""
    if cpu is None:
        return ()
    if isinstance(cpu, int):
        return (frozenset({cpu}),)
    given = list(cpu)
    if given and not all(isinstance(one, int) for one in given):
        return tuple(frozenset([one] if isinstance(one, int) else one) for one in given)
    return (frozenset(given),)
