"""What is behind a `PoolExecutor`: its workers, its thread, and its futures.

Everything is done under one lock, by whoever comes: threads that submit or cancel, and the thread
of the engine, which sleeps without it until a worker has something to say.  What users have hung on
futures is called behind the lock.  The engine refers to no executor, so that one which is dropped
can be noticed; a finaliser may run in the middle of anything, and takes no lock.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from concurrent.futures import Future, process
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from aiopip._crew import Crew, Plan
from aiopip._dispatch import Job
from aiopip._errors import ForkedError
from aiopip._ffi_calls import Calls
from aiopip._inheriting import make_inheriting_setup
from aiopip._remote_errors import RemoteTraceback
from aiopip._thread_host import Bell, ThreadHost
from aiopip._worker_errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._dispatch import Outcome
    from aiopip._pickling import Parcel

T = TypeVar("T")

NAME = "aiopip-worker"


class BrokenPoolError(WorkerDiedError, process.BrokenProcessPool):
    """A worker of a `PoolExecutor` has died, and the executor is of no use any more."""


class PoolFuture(Future[T]):
    """What `PoolExecutor.submit` returns: it can be cancelled until a worker begins the call."""

    def __init__(self, engine: Engine) -> None:
        """Made by `PoolExecutor.submit`."""
        super().__init__()
        self._engine = engine
        self._job: Job | None = None

    def attach(self, job: Job | None) -> None:
        """The call that it is of; internal."""
        self._job = job

    def cancel(self) -> bool:
        """Cancel the call, if no worker has begun it; whether it is cancelled."""
        job = self._job
        if job is None or self.done() or not self._engine.cancel(job):
            return self.cancelled()
        self.cancelled_by_engine()
        return True

    def cancelled_by_engine(self) -> None:
        """The call is removed; internal."""
        self._job = None
        super().cancel()
        self.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> T:
        """What the call returned; see `Future.result`."""
        if not self.done():
            timeout = self._engine.wait_for(self, timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised; see `Future.exception`."""
        if not self.done():
            timeout = self._engine.wait_for(self, timeout)
        return super().exception(timeout)

    def running(self) -> bool:
        """Whether a worker runs the call."""
        job = self._job
        return job is not None and not self.done() and self._engine.runs(job)


class Parts(NamedTuple):
    """What an engine has as long as it has workers."""

    host: ThreadHost
    calls: Calls
    crew: Crew


class Engine:
    """The workers and calls of one executor."""

    def __init__(
        self,
        max_workers: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_calls: int,
    ) -> None:
        """Take what workers are to be like; they are started by the first call."""
        self._max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs
        self._max_calls = max_calls
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._parts: Parts | None = None
        self._thread: threading.Thread | None = None
        self._is_shut = False
        self._is_forsaken = False
        self._ended: BaseException | None = None
        """Why there will be no workers any more."""
        self._futures: dict[Job, PoolFuture[Any]] = {}
        self._driver = Driver()
        self._settled: deque[tuple[PoolFuture[Any], Outcome]] = deque()

    # What executors and futures call

    def check(self) -> None:
        """Refuse a call where there will be no worker for it."""
        if self._pid != os.getpid():
            raise ForkedError
        if self._ended is not None:
            raise _again(self._ended)
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if process._global_shutdown:  # noqa: SLF001
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def submit(self, parcel: Parcel, future: PoolFuture[Any]) -> None:
        """Hand in a call."""
        job = Job(parcel, lambda outcome: self._deliver(job, outcome))
        future.attach(job)
        with self._lock:
            self.check()
            crew = (self._parts or self._open()).crew
            self._futures[job] = future
            try:
                crew.dispatcher.submit(job)
            except BaseException:
                del self._futures[job]
                raise
            if len(crew.dispatcher) > crew.occupied:
                crew.start_another()
        self._settle()

    def cancel(self, job: Job) -> bool:
        """Remove a call that no worker has begun; whether that could be done."""
        with self._lock:
            if job not in self._futures or self._parts is None:
                return False
            if not self._parts.crew.dispatcher.cancel(job):
                return False
            del self._futures[job]
        self._ring()
        return True

    def runs(self, job: Job) -> bool:
        """Whether a worker has begun a call, and has not ended it."""
        with self._lock:
            if self._parts is None or job not in self._futures or job.number < 0:
                return False
            return self._parts.calls.taker(job.number) >= 0

    def processes(self) -> dict[int, Any]:
        """The workers that are alive, by process ID."""
        with self._lock:
            seats = [] if self._parts is None else self._parts.crew.seats
            alive = [seat.process for seat in seats if seat.process is not None]
            return {process.pid: process for process in alive}

    def wait_for(self, future: PoolFuture[Any], timeout_s: float | None) -> float | None:
        """Wait for a future: what is left of the time then.

        The thread that waits takes the results itself, where no other one does: it is woken by the
        worker, and not by a thread that was.
        """
        parts, driver = self._parts, self._driver
        if parts is None or not driver.begin():
            return timeout_s
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        left_s = timeout_s
        try:
            self._set_watch(parts, False)
            while not future.done() and (left_s is None or left_s > 0):
                if driver.wait(parts.calls.fd, left_s):
                    with self._lock:
                        if self._parts is not None:
                            parts.crew.dispatcher.drain()
                self._settle()
                left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
        finally:
            self._set_watch(parts, True)
            driver.end()
        return left_s

    def _set_watch(self, parts: Parts, on: bool) -> None:
        """Have the engine's thread take results, or leave that to another one."""
        with self._lock:
            if self._parts is None:
                return  # it has ended meanwhile
            if on:
                parts.host.watch(parts.calls.fd, parts.crew.dispatcher.drain)
            else:
                parts.host.unwatch(parts.calls.fd)

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Take no more calls, and end when all have ended."""
        cancelled: list[PoolFuture[Any]] = []
        with self._lock:
            self._is_shut = True
            if cancel_futures and self._parts is not None:
                dispatcher = self._parts.crew.dispatcher
                jobs = [job for job in self._futures if dispatcher.cancel(job)]
                cancelled += [self._futures.pop(job) for job in jobs]
            thread = self._thread
        for future in cancelled:
            future.cancelled_by_engine()
        self._ring()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def end(self, how: Callable[[Crew], None]) -> None:
        """End the workers now."""
        with self._lock:
            self._is_shut = True
            if self._parts is not None:
                how(self._parts.crew)
        self._ring()

    def forsake(self) -> None:
        """Nobody has the executor any more; called in the middle of anything."""
        self._is_forsaken = True
        self._ring()

    def _ring(self) -> None:
        parts = self._parts
        if parts is not None and self._pid == os.getpid():
            parts.host.wakeup()

    # Under the lock

    def _open(self) -> Parts:
        setup, fds = make_inheriting_setup(self._initializer, self._initargs)
        plan = Plan(
            self._max_workers,
            setup,
            self._max_calls,
            fds,
            (),
            NAME,
            death=BrokenPoolError,
            fragile=True,
        )
        host = ThreadHost()
        try:
            calls = Calls()
            crew = Crew(host, calls, host.peer, plan, self._changed)
            host.watch(calls.fd, crew.dispatcher.drain)
            parts = Parts(host, calls, crew)
            thread = threading.Thread(target=self._run, args=(parts,), name="aiopip-executor")
            self._parts, self._thread = parts, thread
            thread.start()
        except BaseException:
            self._parts = self._thread = None
            host.close()
            raise
        # At the interpreter's exit it is woken, and joined, as the base class's threads are.
        process._threads_wakeups[thread] = host  # noqa: SLF001
        return parts

    def _deliver(self, job: Job, outcome: Outcome) -> None:
        future = self._futures.pop(job, None)
        if future is not None:
            self._settled.append((future, outcome))

    def _changed(self) -> None:
        crew = None if self._parts is None else self._parts.crew
        if crew is None or crew.broken is None or self._ended is not None:
            return
        self._ended = crew.broken
        crew.kill()
        crew.dispatcher.fail_all(lambda: _again(crew.broken))

    def _is_over(self, crew: Crew) -> bool:
        """Whether all workers are gone; they are ended when nothing is left to do."""
        done = self._is_shut or self._is_forsaken or process._global_shutdown  # noqa: SLF001
        if done and not crew.ending and not len(crew.dispatcher):
            crew.stop()
        if crew.ending and crew.is_gone:
            crew.dispatcher.fail_all(lambda: _broken("the workers were ended"))
            return True
        return False

    # The thread

    def _run(self, parts: Parts) -> None:
        host, calls, crew = parts
        over = False
        while not over:
            readable = host.wait()
            with self._lock:
                host.serve(readable)
                over = self._is_over(crew)
                if over:
                    self._ended = self._ended or RuntimeError("the executor has ended")
                    self._parts = None
                    host.unwatch(calls.fd)
                    host.close()
            self._settle()
        process._threads_wakeups.pop(threading.current_thread(), None)  # noqa: SLF001

    def _settle(self) -> None:
        """Set the futures whose calls have ended; without the lock."""
        settled = False
        while True:
            try:
                future, outcome = self._settled.popleft()
            except IndexError:
                break
            future.attach(None)
            if not future.set_running_or_notify_cancel():
                continue
            settled = True
            error = outcome.error
            if error is None:
                future.set_result(outcome.value)
                continue
            if isinstance(error.__cause__, RemoteTraceback):
                text = error.__cause__.tb
                error.__cause__ = process._RemoteTraceback(text)  # type: ignore[arg-type]  # noqa: SLF001
            future.set_exception(error)
        if settled:
            self._driver.tell()


class Driver:
    """The one thread, other than the engine's, that takes results while it waits for one."""

    __slots__ = ("_bell", "_ident", "_lock", "_poll")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident = 0
        self._bell: Bell | None = None
        self._poll = select.poll()

    def begin(self) -> bool:
        """Become it, if no other thread is."""
        if not self._lock.acquire(blocking=False):
            return False
        self._ident = threading.get_ident()
        if self._bell is None:
            self._bell = Bell()
            self._poll.register(self._bell.fd, select.POLLIN)
        return True

    def end(self) -> None:
        """Be it no more."""
        self._ident = 0
        self._lock.release()

    def tell(self) -> None:
        """Another thread has set futures: perhaps the one that is waited for."""
        if self._ident not in (0, threading.get_ident()) and self._bell is not None:
            self._bell.ring()

    def wait(self, fd: int, timeout_s: float | None) -> bool:
        """Sleep until the descriptor is readable, or somebody tells: whether it is the former."""
        self._poll.register(fd, select.POLLIN)
        ready = self._poll.poll(None if timeout_s is None else timeout_s * 1000)
        if self._bell is not None and any(one == self._bell.fd for one, _ in ready):
            self._bell.clear()
        return any(one == fd for one, _ in ready)


def _broken(text: str, cause: BaseException | None = None) -> Exception:
    error = process.BrokenProcessPool(text)
    error.__cause__ = cause
    return error


def _again(error: BaseException | None) -> BaseException:
    """An error for another call, of what has broken the executor."""
    if isinstance(error, BrokenPoolError):
        return BrokenPoolError(error.worker, error.status, error.stderr)
    if isinstance(error, RuntimeError):
        return error
    return _broken(f"a worker could not be started: {error}", error)
