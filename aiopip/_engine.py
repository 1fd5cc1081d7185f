"""What is behind a `PoolExecutor`: its workers, and the thread that looks after them.

All that is known is changed under one lock, by whoever comes: threads that submit or cancel, and
the thread of the engine, which sleeps without it.  That thread alone starts workers and takes their
results, since it is never interrupted by a signal's handler, and calls behind the lock what users
have hung on futures.

The engine refers to no executor, so that one which is dropped can be noticed; that is told by a
finaliser, which may run in the middle of anything, and takes no lock.  In a child by fork nothing
is touched: descriptors are the parent's as well, and its threads are not there.
"""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import _base, process
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiopip._broken_pool import BrokenPoolError, broken_again
from aiopip._crew import Crew, Plan
from aiopip._dispatch import Job, Outcome
from aiopip._errors import ForkedError
from aiopip._ffi_calls import ANY, Calls
from aiopip._inheriting import make_inheriting_setup
from aiopip._main_module import check_not_importing
from aiopip._thread_host import ThreadHost
from aiopip._uninterrupted import Uninterrupted
from aiopip._worker_errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from aiopip._parcel import Parcel

NAME = "aiopip-worker"


class Parts(NamedTuple):
    """What an engine has as long as it has workers."""

    host: ThreadHost
    calls: Calls
    crew: Crew


class Submission(Protocol):
    """Who has submitted a call, and is told of its end.

    Attributes:
        job: the call, None when it is over, or was never made; set under the engine's lock.
        taken_back: whether it was cancelled; likewise.
    """

    job: Job | None
    taken_back: bool

    def settle(self, outcome: Outcome) -> None:
        """The call has ended; by the engine's thread, without the lock.

        The outcome's value is an `Unread`.
        """

    def tell_cancelled(self) -> None:
        """The call was taken back."""


class Engine:
    """The workers and calls of one executor."""

    def __init__(
        self,
        max_workers: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_calls: int,
    ) -> None:
        """Take what workers are to be like; the first call has them started."""
        self._max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs  # kept: workers see the semaphores in them where they are
        self._max_calls = max_calls
        self._pid = os.getpid()
        # The garbage collector may run a finaliser in the middle of anything that is done under it,
        # and that may shut this down.
        self._lock = threading.RLock()
        self._parts: Parts | None = None
        self._thread: threading.Thread | None = None
        self._owner: weakref.ref[Any] | None = None
        self._is_shut = self._is_forsaken = self._is_stopped = False
        self._broken: BaseException | None = None
        """What has made an end of it."""
        self._submissions: set[Submission] = set()
        self._settled: list[tuple[Submission, Outcome]] = []  # of the engine's thread

    # What executors and futures call

    def belong_to(self, owner: object) -> None:
        """Dropped without a shutdown, the owner has this end as one that did not wait.

        The weak reference is here and not there: one that is part of a cycle of garbage together
        with what it refers to calls nobody.
        """
        self._owner = weakref.ref(owner, self._forsake)

    def check(self) -> None:
        """Refuse a call where there will be no worker for it."""
        self.check_process()
        check_not_importing()
        if self._broken is not None:
            raise broken_again(self._broken)
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if process._global_shutdown:  # noqa: SLF001
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def submit(self, *calls: tuple[Parcel, Submission]) -> None:
        """Hand in calls, in their order; when one is refused, those before it are under way."""
        with Uninterrupted(), self._lock:
            self.check()
            crew = (self._parts or self._open()).crew
            try:
                for parcel, submission in calls:
                    if self._is_shut:  # by a finaliser in the midst
                        self.check()
                    self._hand_in(crew, parcel, submission)
            finally:
                if self._is_short_of_workers(crew):
                    self._ring()

    @property
    def is_broken(self) -> bool:
        """Whether there will be no worker any more, though nobody has shut it down."""
        return self._broken is not None

    def cancel(self, submission: Submission) -> bool:
        """Take back a call that no worker has begun, and say so; whether that was done now."""
        if self._pid != os.getpid():
            return False
        with Uninterrupted():
            with self._lock:
                parts, job = self._parts, submission.job
                if parts is None or job is None or not parts.crew.dispatcher.cancel(job):
                    return False
                self._take_back(submission)
            submission.tell_cancelled()
            self._ring_if_done()
        return True

    def check_process(self) -> None:
        """Refuse to wait in a child by fork, to which no result comes."""
        if self._pid != os.getpid():
            raise ForkedError

    def runs(self, submission: Submission) -> bool:
        """Whether a worker has begun a call, and has not ended it."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            job = submission.job
            if self._parts is None or job is None or job.number < 0:
                return False
            return self._parts.calls.taker(job.number) >= 0

    def processes(self) -> dict[int, Any]:
        """The workers that are alive, by process ID."""
        if self._pid != os.getpid():
            return {}
        with self._lock:
            seats = [] if self._parts is None else self._parts.crew.seats
            alive = [seat.process for seat in seats if seat.process is not None]
            return {process.pid: process for process in alive}

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Take no more calls, and end when all have ended."""
        if self._pid != os.getpid():
            return
        cancelled: list[Submission] = []
        with Uninterrupted():
            with self._lock:
                self._is_shut = True
                if cancel_futures and self._parts is not None:
                    taken_back = set(self._parts.crew.dispatcher.cancel_all())
                    cancelled = [one for one in self._submissions if one.job in taken_back]
                    for submission in cancelled:
                        self._take_back(submission)
                thread = self._thread
            self._ring()
            for submission in cancelled:
                submission.tell_cancelled()
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join()

    def end(self, how: Callable[[Crew], None]) -> None:
        """Cancel what no worker has begun, and end the workers now."""
        self.shutdown(wait=False, cancel_futures=True)
        if self._pid == os.getpid():
            with Uninterrupted():
                with self._lock:
                    if self._parts is not None:
                        how(self._parts.crew)
                self._ring()

    def _forsake(self, _: object) -> None:
        self._is_forsaken = True
        self._ring()

    def _ring(self) -> None:
        """Have the engine's thread look at everything."""
        parts = self._parts
        if parts is not None and self._pid == os.getpid():
            parts.host.wakeup()

    def _ring_if_done(self) -> None:
        if self._is_done:
            self._ring()

    @property
    def _is_done(self) -> bool:
        """Whether nobody will submit any more."""
        return self._is_shut or self._is_forsaken or process._global_shutdown  # noqa: SLF001

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
            thread = threading.Thread(
                target=self._run, args=(parts,), name="aiopip-executor", daemon=False
            )
            self._parts, self._thread = parts, thread
            thread.start()
        except BaseException:
            self._parts = self._thread = None
            host.close()
            raise
        # At the interpreter's exit it is woken, and joined, as the base class's threads are; the
        # exit that came before this line has not found it.
        process._threads_wakeups[thread] = host  # noqa: SLF001
        self._ring_if_done()
        return parts

    def _hand_in(self, crew: Crew, parcel: Parcel, submission: Submission) -> None:
        job = Job(parcel, partial(self._deliver, submission))
        # Before it is handed in: a finaliser that shuts this down in the midst finds it.
        submission.job = job
        self._submissions.add(submission)
        try:
            crew.dispatcher.submit(job)
        except BaseException:
            submission.job = None
            self._submissions.discard(submission)
            raise

    def _is_short_of_workers(self, crew: Crew) -> bool:
        """Whether there are more calls than workers, and may be more of these."""
        occupied = crew.occupied
        return (
            occupied < self._max_workers
            and len(crew.dispatcher) > occupied
            and not crew.ending
            and crew.broken is None
        )

    def _take_back(self, submission: Submission) -> None:
        submission.taken_back = True
        submission.job = None
        self._submissions.discard(submission)

    def _deliver(self, submission: Submission, outcome: Outcome) -> None:
        if submission not in self._submissions:
            return  # its submission was refused
        self._submissions.remove(submission)
        submission.job = None
        # Workers that were killed for another one's death: what they say of their own is our doing.
        if self._broken is not None and isinstance(outcome.error, WorkerDiedError):
            outcome = outcome._replace(error=broken_again(self._broken))
        self._settled.append((submission, outcome))

    def _changed(self) -> None:
        crew = None if self._parts is None else self._parts.crew
        if crew is not None and crew.broken is not None and self._broken is None:
            # Calls fail when all are dead, and write to nobody's memory any more: see `_advance`.
            self._broken = crew.broken
            crew.kill()

    def _advance(self, parts: Parts) -> bool:
        """Start workers, or end them: whether all is over."""
        host, _, crew = parts
        while self._is_short_of_workers(crew):
            crew.start_another()
        if self._is_done and not self._is_stopped and not len(crew.dispatcher):
            self._is_stopped = True
            crew.stop()
        if crew.ending:
            host.give_up()
        if not (crew.ending and crew.is_gone):
            return False
        why = self._broken or RuntimeError("the workers were ended")
        crew.dispatcher.fail_all(lambda: broken_again(why))
        self._is_shut = True
        self._close(parts)
        return True

    def _close(self, parts: Parts) -> None:
        self._parts = None
        parts.host.unwatch(parts.calls.fd)
        parts.host.close()

    # The thread

    def _run(self, parts: Parts) -> None:
        try:
            over = False
            while not over:
                readable = parts.host.wait()
                with self._lock:
                    parts.host.serve(readable)
                    over = self._advance(parts)
                self._settle()
                parts.host.collect()
        except BaseException as error:
            self._collapse(parts, error)
            raise
        finally:
            process._threads_wakeups.pop(threading.current_thread(), None)  # noqa: SLF001

    def _settle(self) -> None:
        """Set the futures whose calls have ended; without the lock.

        What a callback raises that is no Exception does not end the thread.
        """
        settled, self._settled = self._settled, []
        for submission, outcome in settled:
            try:
                submission.settle(outcome)
            except BaseException:  # noqa: BLE001, PERF203  told as concurrent.futures tells of others
                _base.LOGGER.exception("exception calling a callback of %r", submission)

    def _collapse(self, parts: Parts, error: BaseException) -> None:
        """An error of our own: nobody may wait for ever."""
        with self._lock:
            self._broken = self._broken or error
            for submission in list(self._submissions):
                self._deliver(submission, Outcome(None, broken_again(error), ANY))
            if self._parts is not None:
                self._close(parts)
        self._settle()
        parts.host.collect()
