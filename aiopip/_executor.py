"""An executor whose workers are interpreters in this process's address space."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from concurrent.futures import Future, process
from typing import TYPE_CHECKING, Any, TypeVar

from aiopip._crew import Crew
from aiopip._engine import Engine
from aiopip._executor_future import PoolFuture
from aiopip._executor_map import Mapping
from aiopip._packing import pack_submitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


class PoolExecutor(process.ProcessPoolExecutor):
    """A `concurrent.futures.ProcessPoolExecutor` whose workers share this process's memory.

    Each worker is a Python interpreter of its own, a task of the native core, with its own GIL.
    Arguments and results go by reference as those of `Root.pool` do: NumPy arrays of any size are
    seen in place.  All else is as documented for ProcessPoolExecutor, of which it is a subclass,
    since libraries ask for that; workers are started when there are calls for them, as those of
    the "spawn" method are.

    It needs no event loop, and no Root; there may be one besides, and more executors.

    Args:
        max_workers: how many workers there are at the most; as many as processors by default.
        mp_context: kept for those who look at it; how workers are started is not a choice.
        initializer: called in each worker before its first call.
        initargs: with what; queues and locks of multiprocessing may be among it.
        max_tasks_per_child: how many calls a worker runs before another one takes its place.

    Raises:
        NotPermittedError: from `submit`, in a task: use `this_task().root.pool()` there (EPERM).

    Thread safety: any thread.

    Source: `concurrent.futures.ProcessPoolExecutor`
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        # Not super().__init__(): it would make queues and semaphores that nobody uses.
        if max_workers is None:
            max_workers = os.cpu_count() or 1
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._max_workers = max_workers
        self._mp_context = mp.get_context("spawn") if mp_context is None else mp_context
        self._initializer: Any = initializer
        self._initargs = initargs
        self._max_tasks_per_child = max_tasks_per_child
        self._engine = Engine(max_workers, initializer, initargs, max_tasks_per_child or 0)
        self._engine.belong_to(self)

    @property
    def _processes(self) -> dict[int, Any]:  # type: ignore[override]
        """The workers that are alive, by process ID, as the base class has it."""
        return self._engine.processes()

    @property
    def is_broken(self) -> bool:
        """Whether a worker has died, or none can be had: no call is taken any more; internal."""
        return self._engine.is_broken

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a worker call a function; see `Executor.submit`.

        Raises:
            RuntimeError: the executor was shut down, or the interpreter ends.
            BrokenPoolError: a worker has died.
        """
        engine = self._engine
        engine.check()
        future: PoolFuture[T] = PoolFuture(engine)
        try:
            parcel = pack_submitted(fn, args, kwargs)
        except Exception as error:  # noqa: BLE001  told by the future, as of ProcessPoolExecutor
            future.set_exception(error)
        else:
            engine.submit((parcel, future))
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Have workers call a function for the items of iterables; see `Executor.map`.

        Args:
            fn: the function.
            iterables: its arguments; taken now, all of them unless there is a `buffersize`.
            timeout: in seconds, from now: for how long results are waited for.
            chunksize: how many calls go to a worker at once.
            buffersize: how many chunks are under way at the most, those whose results were not
                asked for yet included; of Python 3.14, here of all.

        Returns:
            An iterator over the results, in order; what a call has raised is raised where its
            result would come, and ends it.

        Raises:
            ValueError: `chunksize` or `buffersize` is below 1.
            RuntimeError, BrokenPoolError: as for `submit`.
            TimeoutError: from the iterator.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else time.monotonic() + timeout
        mapping = Mapping(self._engine, fn, iterables, chunksize, buffersize)
        mapping.fill()
        # Calls will be submitted as long as somebody iterates: this is not dropped before that.
        return mapping.results(deadline, None if buffersize is None else self)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when all calls have ended; see `Executor.shutdown`."""
        self._engine.shutdown(wait, cancel_futures)

    def terminate_workers(self) -> None:
        """Send the workers SIGTERM: calls that run fail with BrokenPoolError, others are cancelled.

        Source: `ProcessPoolExecutor.terminate_workers` of Python 3.14
        """
        self._engine.end(Crew.terminate)

    def kill_workers(self) -> None:
        """Kill the workers: calls that run fail with BrokenPoolError, others are cancelled.

        Source: `ProcessPoolExecutor.kill_workers` of Python 3.14
        """
        self._engine.end(Crew.kill)
