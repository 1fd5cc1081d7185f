"""aiopip's pools: the one of a Root, and the executor."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bench.peers.pools import Executor, Pool

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncIterator, Callable, Iterable

    import aiopip


class OursPool(Pool):
    """`Root.pool`."""

    name = "pool"
    about = "aiopip pool"
    copies = False
    root: aiopip.Root
    _pool: aiopip.Pool

    @contextlib.asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        # By name: what is imported when it is used first would be a part of the first pool's start.
        from aiopip import Pool, Root  # noqa: F401

        async with Root() as self.root:
            yield

    @contextlib.asynccontextmanager
    async def opened(self, workers: int) -> AsyncIterator[None]:
        async with self.root.pool(workers) as self._pool:
            yield

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._pool.run(function, *args)

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], chunk: int
    ) -> AsyncIterator[Any]:
        """As `BlockingPool.map`, but to be iterated over in the loop."""
        return self._pool.map(function, items, chunksize=chunk)

    def private_kib(self, pid: int) -> float:
        """Of the one address space, what is the worker's own."""
        (worker,) = (task for task in self.root.tasks.values() if task.pid == pid)
        return worker.memory().anonymous_bytes / 1024


class OursExecutor(Executor):
    """`aiopip.PoolExecutor`."""

    name = "executor"
    about = "aiopip.PoolExecutor"
    copies = False

    @contextlib.asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        from aiopip import PoolExecutor  # noqa: F401  likewise

        yield

    def made(self, workers: int) -> concurrent.futures.Executor:
        import aiopip

        return aiopip.PoolExecutor(workers)
