"""A function over many arguments: `Pool.map`, with arguments taken as results are."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiopip._packing import check_function
from aiopip._pickling import dump, name_unpicklable
from aiopip._pool_options import positive
from aiopip._remote_errors import as_exception
from aiopip._worker_chunks import run_chunk, unpack_chunk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from typing_extensions import Self

    from aiopip._dispatch import Job, Outcome
    from aiopip._loop import Future
    from aiopip._pool import Pool

T = TypeVar("T")

AHEAD = 4
"""Chunks for each worker that are under way by default."""


class _Chunk:
    """Some arguments under way, then their results.

    Attributes:
        job: the call, None when it has ended: then its arguments may go.
        results: None until there are some.
        error: what the argument behind the last of them has raised.
    """

    __slots__ = ("error", "job", "results")

    def __init__(self) -> None:
        self.job: Job | None = None
        self.results: Iterator[Any] | None = None
        self.error: BaseException | None = None


class PoolMap(Generic[T]):
    """The results of a function for some arguments; made by `Pool.map`."""

    def __init__(
        self,
        pool: Pool,
        function: Callable[[Any], T],
        iterable: Iterable[Any] | AsyncIterable[Any],
        ordered: bool,
        buffer: int | None,
        chunksize: int,
    ) -> None:
        """Made by `Pool.map`, which documents the arguments."""
        self._under_way: deque[_Chunk] = deque()
        check_function(function)
        self._pool = pool
        self._function = function
        self._size = positive("chunksize", chunksize)
        ahead = AHEAD * pool.workers * self._size
        limit = ahead if buffer is None else positive("buffer", buffer)
        self._limit = max(limit // self._size, 1)
        self._ordered = ordered
        self._later: AsyncIterator[Any] | None = None
        self._now: Iterator[Any] = iter(())
        if isinstance(iterable, AsyncIterable):
            self._later = aiter(iterable)
        else:
            self._now = iter(iterable)
        self._exhausted = False
        self._failed: BaseException | None = None
        self._ended: deque[_Chunk] = deque()
        self._results: Iterator[T] = iter(())
        self._error: BaseException | None = None
        self._waiter: Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for result in self._results:
            return result
        try:
            while self._error is None:
                await self._fill()
                if not self._under_way and not self._ended:
                    break
                chunk = await self._next()
                self._results, self._error = chunk.results or iter(()), chunk.error
                for result in self._results:
                    return result
        except BaseException:
            self.cancel()
            raise
        error = self._error or StopAsyncIteration()
        self.cancel()
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    async def aclose(self) -> None:
        """Cancel what is under way, as `Pool.run` does; the iteration is over."""
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """What `aclose` does; internal."""
        self._exhausted = True
        for job in self._jobs():
            self._pool.drop(job)
        self._under_way.clear()
        self._ended.clear()
        self._results, self._error, self._failed = iter(()), None, None

    def __del__(self) -> None:
        # The iteration was broken off: `async for` does not close what it iterates.
        jobs = self._jobs()
        if jobs:
            self._pool.drop_later(jobs)

    def _jobs(self) -> list[Job]:
        return [chunk.job for chunk in self._under_way if chunk.job is not None]

    async def _fill(self) -> None:
        """Hand in arguments, up to the limit.

        Those that have to be waited for are asked for only while no result is there.
        """
        while (
            not self._exhausted
            and len(self._under_way) + len(self._ended) < self._limit
            and (self._later is None or not self._is_next())
        ):
            taken: list[Any] = []
            try:
                await self._take(taken)
            except Exception as error:  # noqa: BLE001  of the iterable: raised below
                self._fail(error)
            # What was taken before an error counts, and its results come first.
            if taken:
                try:
                    self._submit(taken)
                except Exception as error:  # noqa: BLE001  what does not pickle: likewise
                    self._fail(error)
        if self._failed is not None and not self._under_way and not self._ended:
            failed, self._failed = self._failed, None
            try:
                raise failed
            finally:
                del failed  # likewise

    def _fail(self, error: Exception) -> None:
        self._exhausted = True
        self._failed = error

    async def _take(self, into: list[Any]) -> None:
        if self._later is None:
            into.extend(islice(self._now, self._size))  # those before an error are there
            self._exhausted = len(into) < self._size
            return
        async for argument in self._later:
            into.append(argument)
            if len(into) == self._size:
                return
        self._exhausted = True

    def _submit(self, arguments: list[Any]) -> None:
        chunk = _Chunk()
        call: Any
        if self._size == 1:
            call = self._function, (arguments[0],), {}
        else:
            call = run_chunk, (self._function, arguments), {}
        try:
            parcel = dump(call)
        except Exception as error:
            raise name_unpicklable(self._function, tuple(arguments), {}, error) from error
        # Calls do not keep what iterates over them: nobody may have it any more.
        chunk.job = self._pool.submit(parcel, partial(_deliver, weakref.ref(self), chunk))
        self._under_way.append(chunk)

    def settle(self, chunk: _Chunk, outcome: Outcome) -> None:
        """A call has ended; internal."""
        chunk.job = None
        if outcome.error is not None:
            chunk.error = outcome.error
            chunk.results = iter(())
        elif self._size == 1:
            chunk.results = iter((outcome.value,))
        else:
            results, error = unpack_chunk(outcome.value)
            chunk.error = None if error is None else as_exception(error)
            chunk.results = iter(results)
        if not self._ordered:
            self._under_way.remove(chunk)
            self._ended.append(chunk)
        waiter = self._waiter
        if waiter is not None and not waiter.done() and self._is_next():
            waiter.set_result(None)

    def _is_next(self) -> bool:
        """Whether the chunk is there whose results come next."""
        if not self._ordered:
            return bool(self._ended)
        return bool(self._under_way) and self._under_way[0].results is not None

    async def _next(self) -> _Chunk:
        while not self._is_next():
            self._waiter = self._pool.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return (self._under_way if self._ordered else self._ended).popleft()


def _deliver(mapping: weakref.ref[PoolMap[Any]], chunk: _Chunk, outcome: Outcome) -> None:
    found = mapping()
    if found is not None:
        found.settle(chunk, outcome)
