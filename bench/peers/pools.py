"""Pools of workers: what each of them has to offer, and the executors of `concurrent.futures`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import multiprocessing
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from bench import usage
from bench.peers.base import Peer, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator


class Pool(Peer):
    """One way to have calls made beside this program.

    Attributes:
        copies: whether arrays are copied on their way.
    """

    copies = True

    @contextlib.asynccontextmanager
    async def surroundings(self) -> AsyncIterator[None]:
        """Have what is needed once in a program, whatever pools it has."""
        yield

    @abstractmethod
    def opened(self, workers: int) -> contextlib.AbstractAsyncContextManager[None]:
        """Have a pool of so many workers, which may be started by the first calls."""

    @abstractmethod
    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have a function called, and wait for its result."""

    def private_kib(self, pid: int) -> float:
        """The memory of a worker that it shares with nobody."""
        return usage.private_kib(pid)


class BlockingPool(Pool):
    """One whose calls need no event loop."""

    @contextlib.asynccontextmanager
    async def opened(self, workers: int) -> AsyncIterator[None]:
        with self.pool(workers):
            yield

    @abstractmethod
    def pool(self, workers: int) -> contextlib.AbstractContextManager[None]:
        """`Pool.opened`, without a loop."""

    @abstractmethod
    def call_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have a function called, and block until it has returned."""

    @abstractmethod
    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], chunk: int
    ) -> Iterable[Any]:
        """Have a function called for each item, so many items at a time; the results in order."""


class Executor(BlockingPool):
    """A `concurrent.futures.Executor`."""

    executor: concurrent.futures.Executor

    @abstractmethod
    def made(self, workers: int) -> concurrent.futures.Executor:
        """Make it."""

    @contextlib.contextmanager
    def pool(self, workers: int) -> Iterator[None]:
        with self.made(workers) as self.executor:
            yield

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, function, *args)

    def call_blocking(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(function, *args).result()

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], chunk: int
    ) -> Iterable[Any]:
        return self.executor.map(function, items, chunksize=chunk)


class ProcessPool(Executor):
    """`concurrent.futures.ProcessPoolExecutor`, with the start method that is the default."""

    name = "process-pool"
    about = "ProcessPoolExecutor"

    def made(self, workers: int) -> concurrent.futures.Executor:
        return concurrent.futures.ProcessPoolExecutor(workers)


class ProcessPoolBySpawn(Executor):
    """The same, whose workers are fresh interpreters, as aiopip's are."""

    name = "process-pool-spawn"
    about = "ProcessPoolExecutor (spawn)"

    def made(self, workers: int) -> concurrent.futures.Executor:
        context = multiprocessing.get_context("spawn")
        return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context)


class Loky(Executor):
    """`loky.get_reusable_executor`, by which joblib runs what it runs."""

    name = "loky"
    about = "loky"

    def missing(self) -> str:
        return without("loky")

    def made(self, workers: int) -> concurrent.futures.Executor:
        # It comes without types.
        made: concurrent.futures.Executor = importlib.import_module("loky").get_reusable_executor(
            workers
        )
        return made


class Interpreters(Executor):
    """`concurrent.futures.InterpreterPoolExecutor`."""

    name = "interpreters"
    about = "InterpreterPoolExecutor"

    def missing(self) -> str:
        if hasattr(concurrent.futures, "InterpreterPoolExecutor"):
            return ""
        return "there is one from Python 3.14 on"

    def made(self, workers: int) -> concurrent.futures.Executor:
        kind = getattr(concurrent.futures, "InterpreterPoolExecutor")  # noqa: B009  not in 3.10
        made: concurrent.futures.Executor = kind(workers)
        return made
