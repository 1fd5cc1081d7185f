"""A function over many arguments: `PoolExecutor.map`.

A future for each call would take more time than the call does: here they share one condition.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from itertools import islice
from typing import TYPE_CHECKING, Any

from aiopip._dispatch import Outcome
from aiopip._executor_future import as_process_pools_raise, read
from aiopip._ffi_calls import ANY
from aiopip._packing import pack_chunk, pack_submitted
from aiopip._worker_chunks import unpack_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from aiopip._dispatch import Job
    from aiopip._engine import Engine
    from aiopip._parcel import Parcel

AT_HAND = (list, range, tuple)
"""Of other iterables each item is handed in before the next is asked for: they may wait for it."""

BATCH = 8
"""How many chunks are handed in at once."""

GATHERED_S = 0.0002
"""For how long they are gathered: they may take long to pickle, and the first one waits for all."""


class _Chunk:
    """Some arguments under way, then what has come of them; a `Submission`.

    Attributes:
        outcome: None until the call has ended.
    """

    __slots__ = ("_mapping", "job", "outcome", "taken_back")

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self.job: Job | None = None
        self.taken_back = False
        self.outcome: Outcome | None = None

    def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._mapping.tell(self)

    def tell_cancelled(self) -> None:
        self.settle(Outcome(None, CancelledError(), ANY))


class Mapping:
    """The calls of one `map`."""

    def __init__(
        self,
        engine: Engine,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        chunksize: int,
        ahead: int | None,
    ) -> None:
        """Take what `PoolExecutor.map` was given; `fill` hands in the first of it.

        Args:
            engine: the workers.
            function: what is to be called.
            iterables: with what.
            chunksize: how many calls go to a worker at once.
            ahead: how many chunks are under way at the most; None: all.
        """
        self._engine = engine
        self._function = function
        self._batch = 1 if any(type(one) not in AT_HAND for one in iterables) else BATCH
        self._first = iter(iterables[0]) if len(iterables) == 1 else None
        self._rows = zip(*iterables, strict=False) if self._first is None else iter(())
        self._size = chunksize
        self._ahead = sys.maxsize if ahead is None else ahead
        self._chunks: deque[_Chunk] = deque()
        self._ended = threading.Condition()
        self._awaited: _Chunk | None = None

    def fill(self) -> None:
        """Hand in calls, up to the limit."""
        while len(self._chunks) < self._ahead:
            self._submit(min(self._batch, self._ahead - len(self._chunks)))

    def results(self, deadline: float | None, _keeps: object) -> Iterator[Any]:
        """Yield the results in order; closed, it cancels what no worker has begun.

        Args:
            deadline: by the monotonic clock; None: there is none.
            _keeps: what lives as long as the iterator.
        """
        try:
            while self._chunks:
                values, error = self._read(self._await(self._chunks[0], deadline))
                self._chunks.popleft()
                self.fill()
                values.reverse()
                while values:
                    yield values.pop()
                if error is not None:
                    try:
                        raise error
                    finally:
                        del error  # its traceback refers to this frame
        finally:
            while self._chunks:  # from the end: others need not move up
                self._engine.cancel(self._chunks.pop())

    def tell(self, chunk: _Chunk) -> None:
        """A call has ended; any thread."""
        # Who waits for it says so first, and looks then.
        if self._awaited is chunk:
            with self._ended:
                self._ended.notify()

    def _take(self) -> list[Sequence[Any]]:
        """The next rows, argument by argument; empty when there are none."""
        if self._first is not None:
            column = list(islice(self._first, self._size))
            return [column] if column else []
        return list(zip(*islice(self._rows, self._size), strict=True))

    def _submit(self, count: int) -> None:
        """Hand in up to so many chunks at once.

        The engine's thread comes for its lock in between, and each of the two that has to be woken
        takes longer than the rest of a small call.
        """
        until = time.monotonic() + GATHERED_S
        calls: list[tuple[Parcel, _Chunk]] = []
        chunks: list[_Chunk] = []
        while len(chunks) < count and (not chunks or time.monotonic() < until):
            columns = self._take()
            if not columns:
                self._ahead = 0  # what has ended is not asked again
                break
            if not chunks:
                self._engine.check()
            chunk = _Chunk(self)
            chunks.append(chunk)
            try:
                calls.append((self._pack(columns), chunk))
            except Exception as error:  # noqa: BLE001  raised where its results would come
                chunk.outcome = Outcome(None, error, ANY)
        if calls:
            self._engine.submit(*calls)
        self._chunks.extend(chunks)

    def _pack(self, columns: list[Sequence[Any]]) -> Parcel:
        if self._size > 1:
            return pack_chunk(self._function, columns)
        args = tuple(column[0] for column in columns)
        return pack_submitted(self._function, args, {})

    def _await(self, chunk: _Chunk, deadline: float | None) -> Outcome:
        outcome = chunk.outcome
        if outcome is not None:
            return outcome
        self._engine.check_process()
        with self._ended:
            self._awaited = chunk
            try:
                while (outcome := chunk.outcome) is None:
                    self._ended.wait(_left_s(deadline))
            finally:
                self._awaited = None
        return outcome

    def _read(self, outcome: Outcome) -> tuple[list[Any], BaseException | None]:
        value, error = read(outcome)
        if error is not None:
            return [], error
        if self._size == 1:
            return [value], None
        values, error = unpack_chunk(value)
        return values, None if error is None else as_process_pools_raise(error)


def _left_s(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise FutureTimeoutError
    return min(left_s, threading.TIMEOUT_MAX)
