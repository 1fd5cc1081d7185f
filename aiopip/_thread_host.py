"""A client of the native core for an executor: starts its workers, with no event loop.

All methods are called under the executor's lock, but `wait`, in which its thread sleeps, `wakeup`
and `collect`.
"""

from __future__ import annotations

import errno
import select
import signal
import subprocess
from collections import deque
from typing import TYPE_CHECKING

from aiopip._bell import Bell
from aiopip._errors import ClosedError, NotPermittedError, call_error
from aiopip._exports import collect_released
from aiopip._ffi import BATCH
from aiopip._lifetime import open_default_client
from aiopip._records import Ended, Failed, Reclaimed, Released, Started
from aiopip._request import pack
from aiopip._spawn_errors import spawn_error
from aiopip._status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._crew import Order
    from aiopip._ffi import Client, Peer
    from aiopip._records import Record
    from aiopip._request import SpawnRequest

MAX_TASKS = 1024
"""How many slots the core has that an executor is the first to open."""

ABORT_MS = 1000

IN_A_TASK = (
    "a PoolExecutor cannot be opened by a task, as the workers of another one are; here "
    "`async with aiopip.this_task().root.pool()` has the root start workers"
)


class ThreadProcess:
    """A worker of an executor."""

    __slots__ = (
        "_acknowledges",
        "_client",
        "_generation",
        "ended",
        "order",
        "pid",
        "pipid",
        "request",
    )

    def __init__(self, client: Client, order: Order, request: SpawnRequest) -> None:
        self._client = client
        self._generation = 0
        self._acknowledges = False
        self.order = order
        self.request = request
        self.pid = 0
        self.pipid = -1
        self.ended = False

    def begin(self) -> int:
        """Ask the core to start it: 0, or minus an errno."""
        result, pipid, generation = self._client.spawn(self.request)
        if result == 0:
            self.pipid, self._generation = pipid, generation
        return result

    @property
    def key(self) -> tuple[int, int]:
        """What names it in events."""
        return self.pipid, self._generation

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""
        if not self.ended:
            self._client.kill(*self.key, signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM, if it runs."""
        if not self.ended:
            self._client.kill(*self.key, signal.SIGTERM)

    def has_ended(self, record: Ended) -> None:
        """Its end has come."""
        self.ended = True
        self._acknowledges = record.acknowledge

    def is_alive(self) -> bool:
        """Whether it runs, as multiprocessing's processes are asked."""
        return not self.ended

    def acknowledge(self) -> None:
        """It has ended, and its memory may go."""
        if self._acknowledges:
            self._acknowledges = False
            self._client.acknowledge(*self.key)


class ThreadHost:
    """Starts workers for one executor."""

    def __init__(self) -> None:
        """Open a client.

        Raises:
            NotPermittedError: this process is a task (EPERM).
            ForkedError, CallError: as for `Root`.
            OSError: no descriptors are left (EMFILE).
        """
        try:
            self._client = open_default_client(MAX_TASKS)
        except NotPermittedError:
            raise NotPermittedError(IN_A_TASK) from None
        self.peer: Peer = self._client.peer()
        self._processes: dict[tuple[int, int], ThreadProcess] = {}
        self._waiting: deque[ThreadProcess] = deque()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._has_releases = False
        try:
            self._bell = Bell()
            self._epoll = select.epoll()
            self.watch(self._client.fd(), self._drain)
            self.watch(self._bell.fd, self._bell.clear)
        except BaseException:
            self.peer.close()
            self._client.close()
            raise

    def start(self, order: Order) -> None:
        """Start a worker; see `_crew.Host`."""
        request = pack(
            order.program,
            order.args,
            stdio=(subprocess.DEVNULL, None, order.stderr),
            max_tasks=MAX_TASKS,
            pass_fds=order.pass_fds,
            cpu=order.cpu,
            name=order.name,
        )
        process = ThreadProcess(self._client, order, request)
        if self._waiting:
            self._waiting.append(process)
        else:
            self._begin(process)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back, in `serve`, whenever the descriptor is readable."""
        if fd not in self._callbacks:
            self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self) -> list[int]:
        """Sleep until something is readable, without the lock: what is."""
        return [fd for fd, _ in self._epoll.poll()]

    def wakeup(self) -> None:
        """Have `wait` return; any thread, without the lock, and behind `close`, too.

        By that name it is what ProcessPoolExecutor calls at the interpreter's exit.
        """
        self._bell.ring()

    def serve(self, readable: list[int]) -> None:
        """Call back for what is readable."""
        for fd in readable:
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback()

    def collect(self) -> None:
        """Let go of what Roots have withdrawn, which may be left by now; without the lock.

        What is let go may have a finaliser, which runs code of the user's.
        """
        if self._has_releases:
            self._has_releases = False
            collect_released(self.peer)

    def give_up(self) -> None:
        """Start none of those for which the core has had no room."""
        waiting, self._waiting = self._waiting, deque()
        for process in waiting:
            process.order.started(ClosedError("the executor ends"))

    def close(self) -> None:
        """Kill what is alive, and close."""
        self._client.abort(ABORT_MS)
        self._drain()
        self.peer.close()
        self._epoll.close()
        self._client.close()
        self._has_releases = True  # nobody else may be left to be told
        self._callbacks.clear()  # they refer to this, which has descriptors

    def _begin(self, process: ThreadProcess) -> None:
        result = process.begin()
        if result == -errno.EAGAIN:
            self._waiting.append(process)
        elif result < 0:
            number = -result
            process.order.started(call_error(number, "the core refused to start a worker"))
        else:
            self._processes[process.key] = process

    def _drain(self) -> None:
        count = BATCH
        while count == BATCH:
            records = self._client.drain()
            count = len(records)
            for record in records:
                self._handle(record)

    def _handle(self, record: Record) -> None:
        if isinstance(record, Started):
            process = self._processes[record.pipid, record.generation]
            process.pid = record.pid
            process.order.started(process)
        elif isinstance(record, Failed):
            process = self._processes.pop((record.pipid, record.generation))
            request = process.request
            process.order.started(spawn_error(record, request.program_text, request.path_text))
        elif isinstance(record, Ended):
            process = self._processes.pop((record.pipid, record.generation))
            process.has_ended(record)
            process.order.ended(
                ExitStatus(
                    record.wait_status,
                    record.usage,
                    record.started_ns,
                    record.ended_ns,
                    record.status_lost,
                )
            )
        elif isinstance(record, Reclaimed):
            waiting, self._waiting = self._waiting, deque()
            for process in waiting:
                self._begin(process)
        elif isinstance(record, Released):
            self._has_releases = True
