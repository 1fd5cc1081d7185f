"""A task that asks its Root for tasks: its side of `_messages`.

There is one connection for each event loop of the process, from the first question in it on.  It
keeps no loop running; it is closed when that has ended, as soon as another loop asks, and when the
process ends.

A worker, or a function in a task, runs on the memory of this process: as long as it may, nothing of
what it uses is let go (`Errand.keeps`), whatever becomes of loop and connection.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from aiopip._channel import Channel
from aiopip._errors import (
    ClosedError,
    ForkedError,
    InvalidArgumentError,
    NotPermittedError,
    TaskEndedError,
    WouldBlock,
    WrongThreadError,
    call_error,
)
from aiopip._loop import running_loop
from aiopip._messages import Answer, Begun, Cancel, Collect, Finished, Refused, Rejected
from aiopip._pipes import lifted
from aiopip._remote_errand import Errand, Lodgers
from aiopip._remote_socket import connect, find

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from aiopip._ffi import Peer
    from aiopip._loop import Future, Loop, Settable
    from aiopip._messages import SocketRecord, Spawn
    from aiopip._pool import Pool
    from aiopip._python_tasks import PythonTasks
    from aiopip._request import SpawnRequest
    from aiopip._status import ExitStatus
    from aiopip._this_task import ThisTask

AT_ONCE = 32
"""How many spawns of a connection wait for their answer; the others wait here.  What is on its way
by SCM_RIGHTS counts against RLIMIT_NOFILE, and the Root starts one after the other anyway."""

PAUSE_S = 0.002
"""Between two attempts to connect, when the Root has many who wait for it: of that nobody tells."""

_UNKNOWN = "the connection to the Root ended before the end of {} was known"


class Connection:
    """What this process has asked for in one of its event loops.

    Attributes:
        loop: which one.
        max_tasks: how many tasks the Root may have alive.
        pools: those that are open: they end with the connection.
        closed: whether it is.
    """

    def __init__(self, loop: Loop, record: SocketRecord) -> None:
        """Connect.

        Raises:
            CallError: the Root cannot be asked; its errno and text say why.
        """
        self.loop = loop
        self.max_tasks = record.max_tasks
        self.pools: set[Pool] = set()
        self.closed = False
        self._record = record
        self._forked = False
        self._problem: Exception | None = None
        self._errands: dict[int, Errand] = {}
        self._numbers = itertools.count(1)
        self._waiting: deque[tuple[Errand, Spawn, Sequence[int]]] = deque()
        """Spawns whose turn has not come."""
        self._under_way: set[int] = set()
        """Those that were sent and not answered."""
        self._dropped: deque[Errand] = deque()
        """Those that nobody refers to any more, and whose end nobody has asked for."""
        self._python: PythonTasks | None = None
        self._channel: Channel | None = None
        self._open(connect(record))

    def _open(self, end: socket.socket | None) -> None:
        if end is None:
            self.loop.call_later(PAUSE_S, self._try_again)
        else:
            self._channel = Channel(self.loop, end, self._heard, self._unsent, self.close)
            self._go_on()

    def _try_again(self) -> None:
        if self.closed:
            return
        try:
            self._open(connect(self._record))
        except Exception as error:  # noqa: BLE001  told to all who have asked
            self._problem = error
            self.close()

    def check(self) -> None:
        """Refuse use in a forked child, behind the end, and in another loop."""
        if self._forked:
            raise ForkedError
        if self._problem is not None:
            raise self._problem
        if self.closed:
            raise ClosedError("the connection to the Root is closed, or the loop that had it")
        if not self.loop.is_current:
            raise WrongThreadError("the task was spawned in another event loop; use it there")

    def python(self, peer: Peer) -> PythonTasks:
        """The functions that tasks run for this loop.

        Args:
            peer: this process.
        """
        if self._python is None:
            from aiopip._python_tasks import PythonTasks

            self._python = PythonTasks(self.loop, peer)
        return self._python

    # Spawns

    def errand(self, request: SpawnRequest, answered: Settable[None], *, bound: bool) -> Errand:
        """A spawn to be begun.

        Args:
            request: what is to be started.
            answered: set when it has started, or `failure` says why not.
            bound: whether the task ends with this process, or the connection.
        """
        name = request.given_name or request.program_text.rpartition("/")[2]
        return Errand(next(self._numbers), request.program_text, name, answered, bound=bound)

    def begin(self, errand: Errand, spawn: Spawn, descriptors: Sequence[int]) -> None:
        """Have the Root start a task, when its turn comes.

        Args:
            errand: of `errand`.
            spawn: the message.
            descriptors: what goes with it, open until that is answered.
        """
        self.check()
        self._collect_dropped()
        self._errands[errand.number] = errand
        self._waiting.append((errand, spawn, descriptors))
        self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._channel is not None and len(self._under_way) < AT_ONCE:
            errand, spawn, descriptors = self._waiting.popleft()
            self._under_way.add(errand.number)
            self._channel.send(errand.number, spawn, descriptors)

    def failure(self, errand: Errand) -> Exception | None:
        """Why an errand was answered without a task; None when there is one."""
        error, errand.error = errand.error, None
        if error is None and not errand.pid:
            closed = "the Root was closed while the task was being started"
            return self._problem or ClosedError(closed)
        return error

    async def spawn(
        self, errand: Errand, answered: Future[None], spawn: Spawn, descriptors: Sequence[int]
    ) -> None:
        """Have the Root start a task, and wait until that is done.

        Args:
            errand: of `errand`.
            answered: as there.
            spawn: the message.
            descriptors: what goes with it.

        Cancellation:
            The task is killed and reaped before the cancellation leaves.
        """
        self.begin(errand, spawn, descriptors)
        try:
            await answered
        except GeneratorExit:
            self.cancel(errand)  # the coroutine is being closed, and may not wait
            raise
        except BaseException:
            self.cancel(errand)
            await self.settle(errand)
            raise
        error = self.failure(errand)
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback refers to this frame

    def cancel(self, errand: Errand) -> None:
        """Nobody wants a task any more that was being started."""
        if errand.disown is not None:
            errand.disown()
        waiting = [one for one in self._waiting if one[0] is errand]
        if waiting:
            self._waiting.remove(waiting[0])
            del self._errands[errand.number]
            errand.end()
        elif errand.is_over:
            # It has started and ended since the interruption, and before this ran.
            self.collect(errand)
        else:
            errand.is_collected = True
            self._send(errand, Cancel())

    async def settle(self, errand: Errand) -> None:
        """Wait until nothing is left of a task, whatever comes."""
        if not errand.is_over:
            over: Future[None] = self.loop.create_future()
            errand.waiters.append(over)
            await self.loop.settle(over)

    # Tasks

    async def wait(self, errand: Errand) -> ExitStatus:
        """Wait for the end of a task, and collect it."""
        if errand.status is None:
            self.check()
            waiter: Future[None] = self.loop.create_future()
            errand.waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in errand.waiters:
                    errand.waiters.remove(waiter)
                raise
        else:
            await running_loop().checkpoint()
        return self.wait_nowait(errand)

    def wait_nowait(self, errand: Errand) -> ExitStatus:
        """Collect a task whose end is known, or never will be."""
        if errand.status is None:
            if not errand.is_over:
                raise WouldBlock(f"{errand} has not ended")
            raise self._problem or ClosedError(_UNKNOWN.format(errand))
        self.collect(errand)
        return errand.status

    def collect(self, errand: Errand) -> None:
        """The end of a task was reported to somebody: its memory may go."""
        if errand.is_collected:
            return
        errand.is_collected = True
        if not self.closed and self.loop.is_current:
            self._say_collect(errand)
        else:
            self._dropped.append(errand)

    def drop(self, errand: Errand) -> None:
        """Nobody refers to a task's handle any more; in any thread, within anything."""
        if errand.is_collected or self.closed:
            return
        if errand.callbacks:
            errand.is_dropped = True  # they look at its memory first
            return
        errand.is_collected = True
        self._dropped.append(errand)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_from_thread(self._collect_dropped, None)

    def _collect_dropped(self, _: None = None) -> None:
        while self._dropped:
            self._say_collect(self._dropped.popleft())

    def _say_collect(self, errand: Errand) -> None:
        self._send(errand, Collect())
        if errand.is_over:
            self._errands.pop(errand.number, None)

    def _send(self, errand: Errand, message: object) -> None:
        if self._channel is not None:
            self._channel.send(errand.number, message)

    def send_signal(self, errand: Errand, signum: int) -> None:
        """Send a task a signal, by its pidfd: that needs no answer of the Root's."""
        if self._forked:
            raise ForkedError
        if errand.is_over and errand.status is None:
            raise self._problem or ClosedError(_UNKNOWN.format(errand))
        if errand.pidfd < 0:
            raise TaskEndedError(errand.name, errand.pipid)
        try:
            signal.pidfd_send_signal(errand.pidfd, signum)
        except ProcessLookupError:
            raise TaskEndedError(errand.name, errand.pipid) from None
        except PermissionError:
            problem = f"{errand} runs as another user, and takes no signals from us"
            raise NotPermittedError(problem) from None
        except (OSError, OverflowError):
            raise InvalidArgumentError("signal", f"{signum!r} is no signal") from None

    # What comes

    def _heard(self, number: int, message: Answer | None, descriptors: list[int]) -> None:
        self._collect_dropped()
        errand = self._errands.get(number)
        if isinstance(message, Rejected):
            self._problem = message.error
            self.close()
        elif errand is None or message is None:
            for descriptor in descriptors:
                os.close(descriptor)
            if errand is not None:
                # What is started cannot be signalled; the Root ends it, and says so.
                problem = "this task has no descriptor left for a task; raise RLIMIT_NOFILE"
                errand.error = call_error(errno.EMFILE, problem)
                self.cancel(errand)
        elif isinstance(message, Begun):
            errand.pipid, errand.generation, errand.pid = message
            errand.pidfd = lifted(descriptors[0]) if descriptors else -1
            self._answered(number)
            errand.answer()
        else:
            self._answered(number)
            self._ended(errand, message)

    def _answered(self, number: int) -> None:
        self._under_way.discard(number)
        self._go_on()

    def _ended(self, errand: Errand, message: Answer) -> None:
        if isinstance(message, Refused):
            errand.error = errand.error or message.error
            errand.is_collected = True
        elif isinstance(message, Finished):
            errand.status = message.status
        if errand.is_collected:
            self._errands.pop(errand.number, None)
        errand.end()
        if errand.is_dropped:
            self.collect(errand)

    def _unsent(self, number: int, error: OSError) -> None:
        self._answered(number)
        errand = self._errands.pop(number, None)
        if errand is not None:
            what = f"asking the Root for {errand.program!r} failed: {error.strerror}"
            errand.error = call_error(error.errno or errno.EIO, what)
            errand.end()

    # The end

    def close(self) -> None:
        """End it: nothing will be heard of what was asked for."""
        if self.closed:
            return
        self.closed = True
        if self._channel is not None:
            self._channel.close()
        self._waiting.clear()
        errands, self._errands = self._errands, {}
        _Process.lodgers.take_in(errands.values())
        if self.loop.gone:  # setting a future would call into it
            for pool in list(self.pools):
                pool.forsake()
            for errand in errands.values():
                errand.forsake()
            return
        # First those whose calls fail as those of something that is closed.
        for pool in list(self.pools):
            pool.abandon()
        if self._python is not None:
            self._python.close()
            self._python = None
        for errand in errands.values():
            errand.end()

    def leave(self) -> None:
        """The process ends: kill what is bound, and see to it that the rest is waited for."""
        self.closed = True
        if self._channel is not None:
            self._channel.forsake()
        _Process.lodgers.take_in(self._errands.values())

    def forsake(self) -> None:
        """This process is a forked child: close the descriptors, and nothing else."""
        self.closed = self._forked = True
        if self._channel is not None:
            self._channel.forsake()


class _Process:
    """The connections of this process."""

    lock: ClassVar = threading.Lock()
    connections: ClassVar[list[Connection]] = []
    lodgers: ClassVar = Lodgers()


def connection(me: ThisTask) -> Connection:
    """The connection of the running loop, made if there is none.

    Raises:
        CallError: the Root cannot be asked; its errno and text say why.
        RuntimeError: no event loop runs.
    """
    loop = running_loop()
    found = _found()
    if found is None:
        found = Connection(loop, find(me))
        with _Process.lock:
            _Process.connections.append(found)
    return found


def _found() -> Connection | None:
    """That of the running loop; those of loops that have ended are closed."""
    with _Process.lock:
        known, _Process.connections = _Process.connections, []
        for one in known:
            if one.loop.gone:
                one.close()
            if not one.closed:
                _Process.connections.append(one)
        _Process.lodgers.sweep()
        return next((one for one in _Process.connections if one.loop.is_current), None)


def _at_exit() -> None:
    for one in _Process.connections:
        one.leave()
    _Process.lodgers.wait()


def _in_forked_child() -> None:
    # Another thread may have held the lock, and there is no such thread here.
    _Process.lock = threading.Lock()
    known, _Process.connections = _Process.connections, []
    for one in known:
        one.forsake()
    _Process.lodgers.forsake()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_forked_child)
