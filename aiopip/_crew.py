"""The workers of a pool: started, replaced when they end, ended with it.

Driven by calls alone: what `Host` starts calls back when it has started, when it has written to its
stderr and when it has ended.  So a pool in an event loop and an executor with a thread have the
same.  A seat is one of the N places of a pool, for one worker after the other; the native queue
knows workers by numbers, which differ.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from aiopip._dispatch import Dispatcher
from aiopip._errors import ClosedError, call_error
from aiopip._interpreter import command, where, whose
from aiopip._worker_errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopip._dispatch import Outcome
    from aiopip._ffi import Peer
    from aiopip._ffi_calls import Calls
    from aiopip._interpreter import Setup
    from aiopip._status import ExitStatus

TAIL_LINES = 20
"""How much of a worker's stderr is remembered for the error of its death."""

TAIL_BYTES = 4096

CHUNK_BYTES = 1 << 16
"""How much of its stderr is passed on at once: all that a pipe holds."""

MAX_CRASHES = 3
MAX_KILLS = 100
"""How many workers may die in a row before they are ready: by themselves, and by SIGKILL, which
somebody else has sent."""


class Process(Protocol):
    """A worker's process, as its host has it."""

    @property
    def pid(self) -> int:
        """The process ID."""

    @property
    def pipid(self) -> int:
        """The PiP ID."""

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""

    def terminate(self) -> None:
        """Send SIGTERM, if it runs."""

    def acknowledge(self) -> None:
        """It has ended, and its memory may go."""


class Order(NamedTuple):
    """A worker to be started.

    Attributes:
        program: the interpreter.
        args: its arguments.
        pass_fds: what it inherits, by the same numbers.
        stderr: its stderr.
        cpu: the processors that it may run on, None for those of the caller.
        name: its comm.
        started: called with its process, or with why there is none.
        ended: called with how it ended, behind `started`.
    """

    program: str
    args: Sequence[str]
    pass_fds: Sequence[int]
    stderr: int
    cpu: frozenset[int] | None
    name: str
    started: Callable[[Process | Exception], None]
    ended: Callable[[ExitStatus], None]


class Host(Protocol):
    """Who starts workers."""

    def start(self, order: Order) -> None:
        """Start one; `started` is called before or after this returns."""

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""


class Plan(NamedTuple):
    """What the workers of a pool are like.

    Attributes:
        workers: how many there are.
        setup: what each does first.
        max_calls: how many calls each runs before another one takes its seat; 0 for any number.
        fds: descriptors that each inherits.
        cpus: processors for each seat, in turn; empty: those of the caller.
        name: what they are called.
        death: the error for a call whose worker has died.
        fragile: whether the crew is broken by the first death.
    """

    workers: int
    setup: Setup
    max_calls: int
    fds: tuple[int, ...]
    cpus: Sequence[frozenset[int]]
    name: str
    death: type[WorkerDiedError] = WorkerDiedError
    fragile: bool = False


class Seat:
    """One of the places of a pool.

    Attributes:
        index: which one.
        number: of its worker in the native queue; -1 while it has none.
        process: the worker, None until it has started.
        ready: whether it waits for calls.
        doomed: whether it has to be killed.
        calls: how many calls have ended here.
        busy_ns: for how long they ran.
        ended: how many workers have ended here.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.number = -1
        self.process: Process | None = None
        self.ready = self.doomed = False
        self.calls = 0
        self.busy_ns = 0
        self.ended = 0
        self.stderr = -1
        self.tail = b""


class Crew:
    """The workers of one pool.

    Attributes:
        dispatcher: the calls.
        seats: all places.
        ending: whether the pool is ending: nobody is replaced any more.
        broken: why no worker can be had any more, None while that is well.
    """

    def __init__(
        self,
        host: Host,
        calls: Calls,
        peer: Peer,
        plan: Plan,
        changed: Callable[[], None],
    ) -> None:
        """Take what there is; `start` begins.

        Args:
            host: starts workers.
            calls: the queue.
            peer: this process.
            plan: what the workers are like.
            changed: called when a worker got ready, has ended, or the crew is broken.
        """
        self._host = host
        self._calls = calls
        self._owner = whose(peer)
        self._plan = plan
        self._changed = changed
        self._by_number: dict[int, Seat] = {}
        self.dispatcher = Dispatcher(calls, peer, self._is_up)
        self.seats = [Seat(index) for index in range(plan.workers)]
        self.ending = False
        self.broken: BaseException | None = None
        self._deaths: list[int] = []
        """The signals by which workers have died before they were ready, since one was ready."""
        self._was_ready = False
        """Whether all workers were ready once."""

    @property
    def is_ready(self) -> bool:
        """Whether every seat has a worker that waits for calls, or runs one, and is known."""
        return all(seat.ready and seat.process is not None for seat in self.seats)

    @property
    def occupied(self) -> int:
        """How many seats have a worker, or one on its way."""
        return len(self._by_number)

    @property
    def is_gone(self) -> bool:
        """Whether no worker is alive, nor on its way."""
        return not self._by_number

    def start(self) -> None:
        """Start all workers."""
        for seat in self.seats:
            if self.broken is None:
                self._start(seat)

    def start_another(self) -> None:
        """Start a worker in a seat that has none, if there is one."""
        for seat in self.seats:
            if seat.number < 0:
                self._start(seat)
                return

    def kill_worker(self, number: int) -> None:
        """Kill a worker of the native queue, as soon as it is known by its process."""
        seat = self._by_number[number]
        seat.doomed = True
        if seat.process is not None:
            seat.process.kill()

    def count(self, outcome: Outcome) -> None:
        """A call has ended."""
        seat = self._by_number.get(outcome.worker)
        if seat is not None:
            seat.calls += 1
            seat.busy_ns += max(outcome.ended_ns - outcome.started_ns, 0)

    def _is_up(self, number: int, error: BaseException | None) -> None:
        """A worker says that it is ready, or why it cannot be."""
        if error is not None:
            self._break(error)
            return
        self._by_number[number].ready = True
        self._deaths.clear()
        self._note_ready()

    def _note_ready(self) -> None:
        self._was_ready |= self.is_ready
        self._changed()

    def stop(self) -> None:
        """Have all workers end when they have done what they do."""
        self.ending = True
        for number in list(self._by_number):
            self._calls.stop_worker(number)

    def terminate(self) -> None:
        """Send all workers SIGTERM."""
        self.ending = True
        for seat in list(self._by_number.values()):
            if seat.process is not None:
                seat.process.terminate()

    def kill(self) -> None:
        """Kill all workers."""
        self.ending = True
        for seat in list(self._by_number.values()):
            if seat.process is not None:
                seat.process.kill()

    def _start(self, seat: Seat) -> None:
        number = self._calls.add_worker()
        if number < 0:
            self._break(call_error(-number, "making room for a worker failed"))
            return
        seat.number, seat.process, seat.ready, seat.doomed = number, None, False, False
        self._by_number[number] = seat
        try:
            program, args = command(self._arguments(number), self._plan.setup)
            seat.stderr, theirs = os.pipe2(os.O_CLOEXEC)
        except Exception as error:  # noqa: BLE001  told to who waits for the pool
            self._not_started(seat, error)
            return
        os.set_blocking(seat.stderr, False)
        cpus = self._plan.cpus
        try:
            self._host.watch(seat.stderr, lambda: self._relay(seat))
            self._host.start(
                Order(
                    program,
                    args,
                    (self._calls.fd, *self._plan.fds),
                    theirs,
                    cpus[seat.index % len(cpus)] if cpus else None,
                    self._plan.name,
                    lambda answer: self._started(seat, theirs, answer),
                    lambda status: self._ended(seat, status),
                )
            )
        except Exception as error:  # noqa: BLE001  likewise
            self._started(seat, theirs, error)

    def _arguments(self, number: int) -> str:
        calls, plan = self._calls, self._plan
        return (
            f"{calls.address},{number},{calls.fd},({where(plan.setup)}),{plan.max_calls},"
            f"{self._owner}"
        )

    def _started(self, seat: Seat, theirs: int, answer: Process | Exception) -> None:
        os.close(theirs)
        if isinstance(answer, Exception):
            self._not_started(seat, answer)
            return
        seat.process = answer
        if self.ending or seat.doomed:
            answer.kill()
        if seat.ready:  # which it may say before we are told which process it is
            self._note_ready()

    def _not_started(self, seat: Seat, error: Exception) -> None:
        left = self.dispatcher.bury(seat.number, lambda: without_workers(error))
        self._leave(seat)
        self._break(error)
        for job in left:
            self.dispatcher.lose(job, without_workers(error))

    def _ended(self, seat: Seat, status: ExitStatus) -> None:
        """A worker has ended: its calls are dealt with, and another one is started."""
        self._relay(seat)
        number, process = seat.number, seat.process
        tail = last_lines(seat.tail)
        lost = False

        def died() -> WorkerDiedError:
            nonlocal lost
            lost = True
            return self._plan.death(seat.index, status, tail)

        left = self.dispatcher.bury(number, died)
        was_ready = seat.ready  # which it may have said, and run its calls, in the last instant
        if process is not None:
            process.acknowledge()
        self._leave(seat)
        seat.ended += 1
        retired = was_ready and status == 0 and self._plan.max_calls and not lost
        if not self.ending and (
            (self._plan.fragile and not retired) or not (was_ready or self._may_try_again(status))
        ):
            self._break(died())
        if not self.ending and self.broken is None:
            self._start(seat)
        for job in left:
            if seat.number < 0:
                self.dispatcher.lose(job, died())
            else:
                job.target = seat.number
                self.dispatcher.submit(job)
        self._changed()

    def _may_try_again(self, status: ExitStatus) -> bool:
        """Whether the successor of a worker that was never ready may fare better.

        None does whose program ends by itself, nor a pool's first ones, for whose start somebody
        waits who can be told.  Who kills workers at random may hit one that starts.
        """
        if status.signal is None or not self._was_ready:
            return False
        self._deaths.append(status.signal)
        kills = self._deaths.count(signal.SIGKILL)
        return kills < MAX_KILLS and len(self._deaths) - kills < MAX_CRASHES

    def _leave(self, seat: Seat) -> None:
        """Nobody is in a seat any more."""
        self._by_number.pop(seat.number, None)
        seat.number, seat.process, seat.ready = -1, None, False
        seat.tail = b""
        self._close_stderr(seat)

    def _relay(self, seat: Seat) -> None:
        """Pass on what a worker has written to its stderr, and remember the last of it.

        No more than there was at one moment: who writes without end does not keep us here.
        """
        if seat.stderr < 0:
            return
        try:
            text = os.read(seat.stderr, CHUNK_BYTES)
        except BlockingIOError:
            return
        if not text:
            self._close_stderr(seat)
            return
        _write_all(2, text)
        seat.tail = (seat.tail + text)[-TAIL_BYTES:]

    def _close_stderr(self, seat: Seat) -> None:
        if seat.stderr >= 0:
            self._host.unwatch(seat.stderr)
            os.close(seat.stderr)
            seat.stderr = -1

    def forsake(self) -> None:
        """Close what is open, where no loop runs that could be told: the workers are dead."""
        self.ending = True
        for seat in self.seats:
            if seat.stderr >= 0:
                os.close(seat.stderr)
                seat.stderr = -1

    def _break(self, error: BaseException) -> None:
        """No worker can be had any more: the pool is of no use."""
        if self.broken is None:
            self.broken = error
        self._changed()


def without_workers(cause: BaseException) -> ClosedError:
    """The error for a call that no worker will run, one for each call."""
    error = ClosedError("the pool has no workers any more")
    error.__cause__ = cause
    return error


def last_lines(tail: bytes) -> str:
    """The end of what was written to stderr, whole lines of it."""
    return "".join(tail.decode(errors="replace").splitlines(keepends=True)[-TAIL_LINES:])


def _write_all(fd: int, text: bytes) -> None:
    """Write to our own stderr; what it does not take is lost, as it would be for the worker."""
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(fd, text) :]
