"""A Root as what starts the workers of its pools."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from aiopip._launch import Launch
from aiopip._loop import Called
from aiopip._pipes import Pipes
from aiopip._request import pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._core import Core
    from aiopip._crew import Order
    from aiopip._launch import Answer
    from aiopip._state import TaskState


class RootProcess:
    """A worker that is a task of the Root's."""

    __slots__ = ("_core", "_state")

    def __init__(self, core: Core, state: TaskState) -> None:
        self._core = core
        self._state = state

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._state.pid

    @property
    def pipid(self) -> int:
        """The PiP ID."""
        return self._state.pipid

    def kill(self) -> None:
        """Send SIGKILL, if it runs."""
        self._core.kill_now(self._state)

    def terminate(self) -> None:
        """Send SIGTERM, if it runs."""
        if self._state.status is None:
            self._core.signal_these([self._state], signal.SIGTERM)

    def acknowledge(self) -> None:
        """It has ended, and its memory may go."""
        self._core.collector.collect(self._state)


class RootHost:
    """Starts workers as tasks of a Root, which no `wait_any` is given."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def start(self, order: Order) -> None:
        """Start a worker.

        Raises:
            ClosedError: the Root is being left.
            SlotBusyError, NotExecutableError: it cannot be started.
        """
        core = self._core
        pipes = Pipes(order.program, None, None, order.stderr)
        request = pack(
            order.program,
            order.args,
            stdio=pipes.stdio,
            max_tasks=core.max_tasks,
            pass_fds=order.pass_fds,
            cpu=order.cpu,
            name=order.name,
        )

        def answered(answer: Answer) -> None:
            try:
                state = core.launcher.result(launch, answer)
            except Exception as error:  # noqa: BLE001  told to the crew
                core.collector.dismiss()
                order.started(error)
                return
            order.started(RootProcess(core, state))
            state.on_end = order.ended
            core.admit(state, pipes, awaited=True)

        launch = Launch(request, None, Called(answered))
        core.collector.expect()
        try:
            core.launcher.begin(launch)
        except BaseException:
            core.collector.dismiss()
            raise

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever the descriptor is readable."""
        self._core.loop.watch(fd, callback)

    def unwatch(self, fd: int) -> None:
        """End what `watch` began."""
        self._core.loop.unwatch(fd)
