"""joblib's backend "aiopip": batches of calls through a `PoolExecutor` that is kept for the next.

It is to `PoolExecutor` what joblib's own `LokyBackend` is to loky's executor.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from joblib import cpu_count, register_parallel_backend
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
)

from aiopip._reused_executors import borrow, discard, give_back

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from aiopip._executor import PoolExecutor

IDLE_S = 300.0
"""How long workers are kept for the next call; loky's."""

_entered = False
"""Whether this process is a worker of ours."""


def register(name: str) -> None:
    """See `register_joblib`."""
    register_parallel_backend(name, lambda **options: AiopipBackend(name, **options))


def enter_worker(name: str, environment: dict[str, str]) -> None:
    """The initializer: limit the threads of native libraries, and know the backend by its name."""
    global _entered  # noqa: PLW0603  once, in a worker
    _entered = True
    os.environ.update(environment)
    register(name)
    if "numpy" in sys.modules:  # which the main module has imported: it has read the variables
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return
        threadpool_limits(int(environment["OMP_NUM_THREADS"]))


class AiopipBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # untyped
    """A backend of joblib; its methods are documented by `ParallelBackendBase`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, name: str, **options: Any) -> None:
        """Made by joblib, when it is chosen by its name."""
        super().__init__(**options)
        self._name = name
        self._executor: PoolExecutor | None = None
        self._idle_s = IDLE_S
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there are for an `n_jobs`; below 0 it counts from all processors."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(int(cpu_count()) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        idle_worker_timeout: float | None = None,
        **_hints: Any,
    ) -> int:
        """Have workers.

        What else joblib says, of files for large arrays mostly, is of no use here.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if _entered:
            raise FallbackToBackend(ThreadingBackend(nesting_level=self.nesting_level or 1))
        if idle_worker_timeout is None:
            idle_worker_timeout = self.backend_kwargs.get("idle_worker_timeout", IDLE_S)
        self._idle_s = float(idle_worker_timeout)
        environment = self._prepare_worker_env(n_jobs=n_jobs)
        self._executor = borrow(n_jobs, enter_worker, (self._name, environment))
        self.parallel = parallel
        return n_jobs

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None
    ) -> Future[Any]:
        """Have a worker run a batch."""
        if self._executor is None:
            raise RuntimeError("this joblib backend was terminated")
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """The results of a batch that has ended."""
        return future.result()

    def terminate(self) -> None:
        """Leave the workers to the next call."""
        if self._executor is not None:
            give_back(self._executor, self._idle_s)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Kill the workers: nobody wants to know what they do."""
        if self._executor is not None:
            discard(self._executor)
            self._executor = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)
