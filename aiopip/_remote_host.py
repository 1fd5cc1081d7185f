"""A task that has pools, as what starts their workers: it asks its Root for them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from aiopip._errors import ClosedError, TaskEndedError
from aiopip._loop import Called
from aiopip._pipes import Pipes
from aiopip._placing import taken
from aiopip._request import pack
from aiopip._status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._crew import Order
    from aiopip._remote import Connection
    from aiopip._remote_errand import Errand

LOST = 0xFF00
"""The wait status of a worker of which nothing is known: it exited with 255, as asyncio has it."""


class RemoteProcess:
    """A worker that is a task of the Root, in the hands of the task that has asked for it."""

    __slots__ = ("_asked", "_errand")

    def __init__(self, asked: Connection, errand: Errand) -> None:
        self._asked = asked
        self._errand = errand

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._errand.pid

    @property
    def pipid(self) -> int:
        """The PiP ID."""
        return self._errand.pipid

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM, if it runs."""
        self._send(signal.SIGTERM)

    def _send(self, signum: int) -> None:
        with contextlib.suppress(TaskEndedError, ClosedError):  # the news is on its way
            self._asked.send_signal(self._errand, signum)

    def acknowledge(self) -> None:
        """It has ended, and its memory may go."""
        self._asked.collect(self._errand)


class RemoteHost:
    """Has the Root start workers, which it kills when this task, or its loop, has ended."""

    __slots__ = ("_asked",)

    def __init__(self, asked: Connection) -> None:
        self._asked = asked

    def start(self, order: Order) -> None:
        """Start a worker.

        Raises:
            ClosedError: the connection has ended.
            SpawnOptionError, CallError: it cannot be asked for.
        """
        asked = self._asked
        with Pipes(order.program, None, None, order.stderr) as pipes:
            request = pack(
                order.program,
                order.args,
                stdio=pipes.stdio,
                max_tasks=asked.max_tasks,
                env=os.environb,
                pass_fds=order.pass_fds,
                cpu=order.cpu,
                name=order.name,
            )

        def answered(_: None) -> None:
            error = asked.failure(errand)
            if error is not None:
                order.started(error)
                return
            order.started(RemoteProcess(asked, errand))
            errand.callbacks.append(
                lambda status: order.ended(status or ExitStatus(LOST, lost=True))
            )

        errand = asked.errand(request, Called(answered), bound=True)
        errand.keeps = order
        asked.begin(errand, *taken(request, bound=True))

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""
        self._asked.loop.watch(fd, callback)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._asked.loop.unwatch(fd)
