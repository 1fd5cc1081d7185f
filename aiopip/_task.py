"""A task as its users see it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from anyio.abc import Process

from aiopip import _looking
from aiopip._errors import ClosedError, whole_number
from aiopip._region import Region

if TYPE_CHECKING:
    from aiopip._core import Core
    from aiopip._memory import TaskMemory
    from aiopip._pipes import Pipes, ReceivePipe, SendPipe
    from aiopip._processes import TaskStatistics
    from aiopip._state import TaskState
    from aiopip._status import ExitStatus


class Task(Process):
    """A PiP task: a process of its own in the address space of its Root.

    Made by `Root.spawn` and `TaskGroup.spawn`.  Dropping it leaves the task running; the Root waits
    for it.  It is an `anyio.abc.Process`: `async with task:` closes its pipes and waits for it.

    Thread safety: the Root's loop thread only, but for the properties.
    """

    def __init__(self, core: Core, state: TaskState, pipes: Pipes) -> None:
        """Made by `Root.spawn`."""
        self._core = core
        self._state = state
        self._stdin, self._stdout, self._stderr = pipes.stdin, pipes.stdout, pipes.stderr

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._state.pid

    @property
    def pipid(self) -> int:
        """The PiP ID, 0 to max_tasks - 1; free for another task once this one's memory is gone."""
        return self._state.pipid

    @property
    def name(self) -> str:
        """The name: the last part of the program's path, unless spawn was given another one."""
        return self._state.name

    @property
    def program(self) -> str:
        """What was started, as it was given to spawn."""
        return self._state.program

    @property
    def stdin(self) -> SendPipe | None:
        """The pipe to its stdin, when that was asked for: `stdin=subprocess.PIPE`."""
        return self._stdin

    @property
    def stdout(self) -> ReceivePipe | None:
        """The pipe from its stdout, when that was asked for."""
        return self._stdout

    @property
    def stderr(self) -> ReceivePipe | None:
        """The pipe from its stderr, when that was asked for."""
        return self._stderr

    @property
    def status(self) -> ExitStatus | None:
        """How the task ended, None while it runs; looking does not collect it."""
        return self._state.status

    @property
    def returncode(self) -> int | None:
        """The status as a plain int, as subprocess has it; None while the task runs."""
        return None if self._state.status is None else int(self._state.status)

    @property
    def loaded(self) -> bool | None:
        """Whether aiopip's library was loaded into the task; None while that is not known.

        A task that ended before its ld.so came so far (a missing library), or in which it cannot
        be loaded (musl), has False: it was an ordinary task but for exports.
        """
        return self._state.loaded

    @property
    def shared(self) -> bool:
        """Whether the task is in the Root's address space, which it leaves by execve(2).

        After the task's end: whether it was until then.
        """
        return self._core.shares(self._state)

    async def wait(self) -> ExitStatus:
        """Wait until the task has ended, and collect it.

        Any number may wait at once, and again later: all get the same status.

        Returns:
            The status: 0, 3, or -15 for SIGTERM.

        Raises:
            ClosedError: the Root was aborted, and the task could not be reaped in time.

        Cancellation:
            The task goes on.  It stays uncollected, unless another wait reported it.

        Thread safety: loop thread only.

        Source: `pip_wait(3)`, wait(2)
        """
        state = self._state
        if state.status is None:
            self._core.check()
        status = await self._core.collector.wait(state)
        if status is None:
            raise ClosedError(f"the Root was closed before the end of {state} was known")
        return status

    async def aclose(self) -> None:
        """Close the pipes and wait for the end.

        Raises:
            ClosedError: as `wait`.

        Cancellation:
            The task is killed and reaped before the cancellation leaves.

        Source: `anyio.abc.Process`
        """
        for end in (self._stdin, self._stdout, self._stderr):
            if end is not None:
                end.hang_up()
        try:
            await self.wait()
        except GeneratorExit:
            self._core.kill_now(self._state)
            raise
        except BaseException:
            await self._core.end_now(self._state)
            raise

    def wait_nowait(self) -> ExitStatus:
        """Collect the task if it has ended.

        Returns:
            The status.

        Raises:
            WouldBlock: it runs (EAGAIN).

        Source: `pip_trywait(3)`
        """
        if self._state.status is None:
            self._core.check()
        return self._core.collector.wait_nowait(self._state)

    def send_signal(self, signal: int) -> None:
        """Send the task a signal.

        Args:
            signal: its number, or a member of `signal.Signals`.

        Raises:
            TaskEndedError: the task has ended (ESRCH, ProcessLookupError).
            InvalidArgumentError: there is no such signal.
            NotPermittedError: the task runs as another user (EPERM).

        Source: `pip_kill(3)`, pidfd_send_signal(2)
        """
        self._core.kill(self._state, whole_number("signal", signal))

    def terminate(self) -> None:
        """Send SIGTERM; raises as `send_signal`."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; raises as `send_signal`."""
        self.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGSTOP, which no program can ignore; raises as `send_signal`."""
        self.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT: the task goes on if it is stopped; raises as `send_signal`."""
        self.send_signal(signal.SIGCONT)

    async def named_import(self, name: str) -> Region:
        """Import what the task exports under a name, once it has.

        An import that is called before the task's end is reported (the task is collected: by
        `wait()`, `wait_any()` or their like) finds what was exported before that end.  So the
        memory of a task that has exported something, and its slot, stay until then; what was
        exported with `keep=True` stays until its first import was released.

        Args:
            name: 1 to 255 bytes of UTF-8.

        Returns:
            The Region: of the type and shape that a Python task gave it, and of what C exported an
            address alone, see `Region.cast`.  What it shows stays mapped, also beyond the task's
            end: the array, and of what C exported all of the task's memory.

        Raises:
            ImportCanceledError: the task ended without the export, or its memory is gone
                (ECANCELED).
            InvalidArgumentError: the name has no bytes or too many.
            ClosedError: the Root is closed.

        Cancellation:
            Nothing is held.

        Thread safety: loop thread only.

        Source: `pip_named_import(3)`
        """
        self._core.check()
        return Region(await self._core.imports.wait(self._state, name), self)

    def named_import_nowait(self, name: str) -> Region:
        """Import what the task has exported under a name by now.

        Raises:
            WouldBlock: it has not (EAGAIN).
            ImportCanceledError, InvalidArgumentError, ClosedError: as `named_import`.

        Source: `pip_named_tryimport(3)`
        """
        self._core.check()
        return Region(self._core.imports.import_nowait(self._state, name), self)

    def memory(self) -> TaskMemory:
        """How much memory the task has: its own part of the space, which no other tool tells.

        A look takes some tens of microseconds; on a kernel before 6.7 milliseconds, and the more
        the more tasks are alive.

        Raises:
            TaskEndedError: the task has ended (ESRCH, ProcessLookupError).
            CallError: /proc does not tell (EACCES, PermissionError: when a task has changed its
                user, the whole space must not be looked at).
            ClosedError: the Root is closed.

        Thread safety: loop thread only.

        Source: ioctl_pagemap_scan(2), smaps of proc(5)
        """
        return _looking.memory(self._core, self._state)

    def statistics(self) -> TaskStatistics:
        """What the task does at this moment, and the time that it has spent on processors.

        Of a task that has ended, `status.rusage` has the whole.

        Raises:
            TaskEndedError: the task has ended (ESRCH, ProcessLookupError).
            ClosedError: the Root is closed.

        Thread safety: loop thread only.

        Source: stat of proc(5)
        """
        return _looking.statistics(self._core, self._state)

    def signal_group(self, signal: int) -> None:
        """Send the task's process group a signal, for `Root.signal_group`; internal."""
        self._core.kill_group(self._state, signal)

    @property
    def state(self) -> TaskState:
        """What its Root knows of it; internal."""
        return self._state

    def belongs_to(self, core: object) -> bool:
        """Whether it is a task of the Root with this core; internal."""
        return self._core is core

    def __repr__(self) -> str:
        state = "running" if self.status is None else f"ended {self.status!r}"
        return f"<aiopip.Task {self.name!r} pipid={self.pipid} pid={self.pid} {state}>"

    def __str__(self) -> str:
        return str(self._state)
