"""A task that has pools, as what starts their workers: it asks its Root for them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiopip._errors import TaskEndedError
from aiopip._remote_task import spawn
from aiopip._status import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._crew import Order
    from aiopip._loop import Loop
    from aiopip._remote_task import RemoteTask
    from aiopip._this_task import ThisTask

LOST = 0xFF00
"""The wait status of a worker of which nothing is known: it exited with 255, as asyncio has it."""


class RemoteProcess:
    """A worker that is a task of the Root, in the hands of the task that has asked for it."""

    __slots__ = ("_task",)

    def __init__(self, task: RemoteTask) -> None:
        self._task = task

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._task.pid

    @property
    def pipid(self) -> int:
        """The PiP ID."""
        return self._task.pipid

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""
        with contextlib.suppress(TaskEndedError):  # the news is on its way
            self._task.kill()

    def terminate(self) -> None:
        """Send SIGTERM, if it runs."""
        with contextlib.suppress(TaskEndedError):
            self._task.terminate()

    def acknowledge(self) -> None:
        """It has ended, and its memory may go."""
        self._task.acknowledge()


class RemoteHost:
    """Has the Root start workers, which it kills when this task, or its loop, has ended."""

    __slots__ = ("_loop", "_me")

    def __init__(self, me: ThisTask, loop: Loop) -> None:
        self._me = me
        self._loop = loop

    def start(self, order: Order) -> None:
        """Start a worker."""
        self._loop.start_soon(self._start, order)

    async def _start(self, order: Order) -> None:
        try:
            task = await spawn(
                self._me,
                order.program,
                tuple(order.args),
                bound=True,
                stderr=order.stderr,
                pass_fds=order.pass_fds,
                cpu=order.cpu,
                name=order.name,
            )
        except Exception as error:  # noqa: BLE001  told to the crew
            order.started(error)
            return
        order.started(RemoteProcess(task))
        task.on_end(lambda status: order.ended(status or ExitStatus(LOST, lost=True)))

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""
        self._loop.watch(fd, callback)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._loop.unwatch(fd)
