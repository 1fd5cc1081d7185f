"""Pools that are no executors: of multiprocessing, anyio and asyncio; and no pool at all."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import sys
from typing import TYPE_CHECKING, Any

import anyio.to_process

from bench.peers.base import Peer
from bench.peers.pools import BlockingPool, Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from multiprocessing.pool import Pool as MultiprocessingPool


class MpPool(BlockingPool):
    """`multiprocessing.Pool`, with the start method that is the default."""

    name = "mp-pool"
    about = "multiprocessing.Pool"
    _pool: MultiprocessingPool

    @contextlib.contextmanager
    def pool(self, workers: int) -> Iterator[None]:
        with multiprocessing.Pool(workers) as self._pool:
            yield

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._pool.apply_async(
            function,
            args,
            callback=lambda value: loop.call_soon_threadsafe(future.set_result, value),
            error_callback=lambda error: loop.call_soon_threadsafe(future.set_exception, error),
        )
        return await future

    def call_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return self._pool.apply(function, args)

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], chunk: int
    ) -> Iterable[Any]:
        return self._pool.imap(function, items, chunksize=chunk)


class ToProcess(Pool):
    """`anyio.to_process.run_sync`."""

    name = "to_process"
    about = "anyio.to_process"

    @contextlib.asynccontextmanager
    async def opened(self, workers: int) -> AsyncIterator[None]:
        self._limiter = anyio.CapacityLimiter(workers)
        yield

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await anyio.to_process.run_sync(function, *args, limiter=self._limiter)


class ToThread(Pool):
    """`asyncio.to_thread`, which has the GIL to share, and for that nothing to copy."""

    name = "to_thread"
    about = "asyncio.to_thread"
    copies = False

    @contextlib.asynccontextmanager
    async def opened(self, workers: int) -> AsyncIterator[None]:  # noqa: ARG002  they are the loop's
        yield

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)


class Bare(Peer):
    """No pool, but the same Python, run by `subprocess.Popen`: what a start and memory cost."""

    name = "bare"
    about = "python -c"

    def line(self, code: str) -> list[str]:
        """A command line that runs some code."""
        return [sys.executable, "-c", code]
