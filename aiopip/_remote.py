"""A task that asks its Root for tasks: its side of `_messages`.

There is one connection for each event loop of the process, from the first spawn in it on.  It keeps
no loop running; it is closed when that has ended, as soon as another loop asks, and when the
process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import os
import signal
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, ClassVar

import anyio

from aiopip._channel import Channel
from aiopip._errors import (
    CallError,
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
from aiopip._messages import (
    SOCKET_NAME,
    VERSION,
    Answer,
    Begun,
    Cancel,
    Collect,
    Finished,
    Refused,
    Rejected,
    read_record,
    task_address,
)
from aiopip._pipes import lifted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopip._loop import Future, Loop
    from aiopip._messages import SocketRecord, Spawn
    from aiopip._status import ExitStatus
    from aiopip._this_task import ThisTask

AT_ONCE = 32
"""How many spawns of a connection wait for their answer; the others wait here.  What is on its way
by SCM_RIGHTS counts against RLIMIT_NOFILE, and the Root starts one after the other anyway."""

PAUSE_S = 0.002
"""Between two attempts to connect, when the Root has many who wait for it: of that nobody tells."""

_UNKNOWN = "the connection to the Root ended before the end of {} was known"


class Errand:
    """A spawn that the Root does for this task, and the task that came of it.

    Attributes:
        number: what names it in messages.
        program: what is started, as it was given.
        name: what the task is called.
        pipid: its PiP ID.
        generation: which use of the slot; the two name a task for ever.
        pid: its process ID.
        pidfd: a descriptor that signals it, -1 when it has ended.
        status: how it ended, None while that is not known.
        answered: set when it has started or failed, or the connection has ended.
        error: what it failed at.
        is_over: whether nothing will be heard of it any more.
        is_collected: whether the Root need not keep it.
        waiters: who waits until it is over.
        callbacks: what is called then.
    """

    __slots__ = (
        "answered",
        "callbacks",
        "error",
        "generation",
        "is_collected",
        "is_over",
        "name",
        "number",
        "pid",
        "pidfd",
        "pipid",
        "program",
        "status",
        "waiters",
    )

    def __init__(self, number: int, program: str, name: str, answered: Future[None]) -> None:
        self.number = number
        self.program = program
        self.name = name
        self.answered = answered
        self.pipid = self.generation = self.pid = 0
        self.pidfd = -1
        self.status: ExitStatus | None = None
        self.error: Exception | None = None
        self.is_over = False
        self.is_collected = False
        self.waiters: list[Future[None]] = []
        self.callbacks: list[Callable[[ExitStatus | None], None]] = []

    def answer(self) -> None:
        """Let who spawns go on."""
        if not self.answered.done():
            self.answered.set_result(None)

    def forsake(self) -> None:
        """Nothing will be heard of it any more, and nobody can be told: the loop has ended."""
        self.is_over = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def end(self) -> None:
        """Nothing will be heard of it any more."""
        self.forsake()
        self.answer()
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback(self.status)

    def __str__(self) -> str:
        return f"task {self.name!r} (PiP ID {self.pipid}, process {self.pid})"


class Connection:
    """What this process has asked for in one of its event loops.

    Attributes:
        loop: which one.
        max_tasks: how many tasks the Root may have alive.
        closed: whether it is.
    """

    def __init__(self, loop: Loop, end: socket.socket, max_tasks: int) -> None:
        self.loop = loop
        self.max_tasks = max_tasks
        self.closed = False
        self._forked = False
        self._problem: Exception | None = None
        self._errands: dict[int, Errand] = {}
        self._numbers = itertools.count(1)
        self._turns = anyio.Semaphore(AT_ONCE)
        self._dropped: deque[Errand] = deque()
        """Those that nobody refers to any more, and whose end nobody has asked for."""
        self._channel = Channel(loop, end, self._heard, self._unsent, self.close)

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

    async def spawn(
        self, program: str, name: str, spawn: Spawn, descriptors: Sequence[int]
    ) -> Errand:
        """Have the Root start a task, and wait until that is done.

        Cancellation:
            The task is killed and reaped before the cancellation leaves.
        """
        async with self._turns:
            self.check()
            self._collect_dropped()
            answered: Future[None] = self.loop.create_future()
            errand = Errand(next(self._numbers), program, name, answered)
            self._errands[errand.number] = errand
            self._channel.send(errand.number, spawn, descriptors)
            try:
                await answered
            except GeneratorExit:
                self._cancel(errand)  # the coroutine is being closed, and may not wait
                raise
            except BaseException:
                self._cancel(errand)
                await self.settle(errand)
                raise
            error, errand.error = errand.error, None
            try:
                if error is not None:
                    raise error
                if not errand.pid:
                    raise self._problem or ClosedError(
                        "the Root was closed while the task was being started"
                    )
                return errand
            finally:
                del error  # its traceback refers to this frame

    def _cancel(self, errand: Errand) -> None:
        if errand.is_over:
            # It has started and ended since the interruption, and before this ran.
            self.collect(errand)
        else:
            errand.is_collected = True
            self._channel.send(errand.number, Cancel())

    async def settle(self, errand: Errand) -> None:
        """Wait until nothing is left of a task, whatever comes."""
        if not errand.is_over:
            over: Future[None] = self.loop.create_future()
            errand.waiters.append(over)
            await self.loop.settle(over)

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
            self._channel.send(errand.number, Collect())
            if errand.is_over:
                self._errands.pop(errand.number, None)
        else:
            self._dropped.append(errand)

    def drop(self, errand: Errand) -> None:
        """Nobody refers to a task's handle any more; in any thread, within anything."""
        if errand.is_collected or self.closed:
            return
        errand.is_collected = True
        self._dropped.append(errand)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_from_thread(self._collect_dropped, None)

    def _collect_dropped(self, _: None = None) -> None:
        while self._dropped:
            errand = self._dropped.popleft()
            self._channel.send(errand.number, Collect())
            if errand.is_over:
                self._errands.pop(errand.number, None)

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
                self._cancel(errand)
        elif isinstance(message, Begun):
            errand.pipid, errand.generation, errand.pid = message
            errand.pidfd = lifted(descriptors[0]) if descriptors else -1
            errand.answer()
        else:
            self._ended(errand, message)

    def _ended(self, errand: Errand, message: Answer) -> None:
        if isinstance(message, Refused):
            errand.error = errand.error or message.error
            errand.is_collected = True
        elif isinstance(message, Finished):
            errand.status = message.status
        if errand.is_collected:
            self._errands.pop(errand.number, None)
        errand.end()

    def _unsent(self, number: int, error: OSError) -> None:
        errand = self._errands.pop(number, None)
        if errand is not None:
            what = f"asking the Root for {errand.program!r} failed: {error.strerror}"
            errand.error = call_error(error.errno or errno.EIO, what)
            errand.end()

    def close(self) -> None:
        """End it: nothing will be heard of what was asked for."""
        if self.closed:
            return
        self.closed = True
        self._channel.close()
        errands, self._errands = self._errands, {}
        for errand in errands.values():
            if self.loop.gone:
                errand.forsake()  # setting a future would call into its loop
            else:
                errand.end()

    def forsake(self) -> None:
        """This process is a forked child: close the descriptor, and nothing else."""
        self.closed = self._forked = True
        self._channel.forsake()


class _Process:
    """The connections of this process."""

    lock: ClassVar = threading.Lock()
    connections: ClassVar[list[Connection]] = []


async def connection(me: ThisTask) -> Connection:
    """The connection of the running loop, made if there is none.

    Raises:
        CallError: the Root cannot be asked; its errno and text say why.
    """
    while (found := _found()) is None:
        record = _record(me)
        end = _connected(record)
        if end is None:
            await anyio.sleep(PAUSE_S)
            continue
        found = Connection(running_loop(), end, record.max_tasks)
        with _Process.lock:
            _Process.connections.append(found)
        break
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
        return next((one for one in _Process.connections if one.loop.is_current), None)


def _record(me: ThisTask) -> SocketRecord:
    try:
        region = me.named_import_nowait(me.root, SOCKET_NAME)
    except WouldBlock:
        raise call_error(
            errno.ENOTCONN,
            "the Root cannot be asked: it has no socket, since neither $XDG_RUNTIME_DIR nor /tmp "
            "had a folder for it that is its user's alone, or it is no aiopip.Root",
        ) from None
    with region:
        record = read_record(bytes(region.view()))
    if record.version != VERSION:
        raise call_error(
            errno.EPROTO,
            "the Root's aiopip is of another version than this task's, and cannot be asked; "
            "install the same release in both environments",
        )
    return record


def _connected(record: SocketRecord) -> socket.socket | None:
    """A connection; None when too many wait for one."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        made.bind(task_address())
        made.connect(record.path)
    except BlockingIOError:
        made.close()
        return None
    except OSError as error:
        made.close()
        raise _cannot_connect(error, record) from None
    return made


def _cannot_connect(error: OSError, record: SocketRecord) -> CallError:
    path = os.fsdecode(record.path)
    if error.errno == errno.EACCES:
        return NotPermittedError(
            f"the Root cannot be asked by its socket {path!r}: this task runs as another user than "
            "its Root, which starts nothing for it",
            path,
        )
    why = {
        errno.ENOENT: "; was it removed, or has this task another root folder or mounts?",
        errno.EMFILE: "; raise RLIMIT_NOFILE",
    }.get(error.errno or 0, "")
    what = f"the Root cannot be asked by its socket {path!r}: {error.strerror}{why}"
    return call_error(error.errno or errno.EIO, what, path)


def _at_exit() -> None:
    for one in _Process.connections:
        one.forsake()


def _in_forked_child() -> None:
    # Another thread may have held the lock, and there is no such thread here.
    _Process.lock = threading.Lock()
    known, _Process.connections = _Process.connections, []
    for one in known:
        one.forsake()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_forked_child)
