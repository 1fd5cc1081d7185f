"""A task that was spawned by a task: `this_task().root.spawn(...)`."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from anyio.abc import Process

from aiopip._errors import TaskEndedError, whole_number
from aiopip._pipes import Pipes
from aiopip._placing import taken
from aiopip._remote import connection
from aiopip._request import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Unpack

    from aiopip._descriptors import Stdio
    from aiopip._loop import Future
    from aiopip._pipes import ReceivePipe, SendPipe
    from aiopip._python_tasks import Work
    from aiopip._region import Region
    from aiopip._remote import Connection
    from aiopip._remote_errand import Errand
    from aiopip._request import StrOrBytesPath
    from aiopip._spawn import PlainOptions
    from aiopip._status import ExitStatus
    from aiopip._this_task import ThisTask


class RemoteTask(Process):
    """A task of the Root, in the hands of the task that has asked for it.

    Made by `this_task().root.spawn`.  The Root starts, reaps and ends it as any other: it is no
    child of the task that asked, and goes on when that ends.  It is an `anyio.abc.Process`.

    Dropping it leaves the task running.

    Thread safety: the thread of the event loop in which it was spawned, but for the properties.
    """

    def __init__(self, me: ThisTask, asked: Connection, errand: Errand, pipes: Pipes) -> None:
        """Made by `RemoteRoot.spawn`."""
        self._me = me
        self._connection = asked
        self._errand = errand
        self._stdin, self._stdout, self._stderr = pipes.stdin, pipes.stdout, pipes.stderr

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._errand.pid

    @property
    def pipid(self) -> int:
        """The PiP ID, 0 to max_tasks - 1; free for another task once this one's memory is gone."""
        return self._errand.pipid

    @property
    def name(self) -> str:
        """The name: the last part of the program's path, unless spawn was given another one."""
        return self._errand.name

    @property
    def program(self) -> str:
        """What was started, as it was given to spawn."""
        return self._errand.program

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
        """How the task ended, None while that is not known here; looking does not collect it."""
        return self._errand.status

    @property
    def returncode(self) -> int | None:
        """The status as a plain int, as subprocess has it; None while it is not known here."""
        return None if self._errand.status is None else int(self._errand.status)

    async def wait(self) -> ExitStatus:
        """Wait until the task has ended, and collect it.

        Any number may wait at once, and again later: all get the same status.

        Returns:
            The status: 0, 3, or -15 for SIGTERM.

        Raises:
            ClosedError: the Root is closed, or the loop in which it was spawned has ended, and the
                status is not known.
            ForkedError: this process is a child of the one that spawned it, made by fork().

        Cancellation:
            The task goes on, uncollected.

        Thread safety: loop thread only.

        Source: `pip_wait(3)`, wait(2)
        """
        return await self._connection.wait(self._errand)

    def wait_nowait(self) -> ExitStatus:
        """Collect the task if it is known here that it has ended.

        Returns:
            The status.

        Raises:
            WouldBlock: it runs (EAGAIN).
            ClosedError: as `wait`.

        Source: `pip_trywait(3)`
        """
        if self._errand.status is None:
            self._connection.check()
        return self._connection.wait_nowait(self._errand)

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
            self._kill_now()
            raise
        except BaseException:
            self._kill_now()
            await self._connection.settle(self._errand)
            self.acknowledge()
            raise

    def _kill_now(self) -> None:
        if not self._errand.is_over:
            with contextlib.suppress(TaskEndedError):  # the end is on its way
                self.kill()

    def send_signal(self, signal: int) -> None:
        """Send the task a signal.

        Args:
            signal: its number, or a member of `signal.Signals`.

        Raises:
            TaskEndedError: the task has ended (ESRCH, ProcessLookupError).
            InvalidArgumentError: there is no such signal.
            NotPermittedError: the task runs as another user (EPERM).
            ClosedError: as `wait`.

        Source: `pip_kill(3)`, pidfd_send_signal(2)
        """
        self._connection.send_signal(self._errand, whole_number("signal", signal))

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

        What was exported before its end is found until that was reported: by `wait()` and its like.

        Args:
            name: 1 to 255 bytes of UTF-8.

        Returns:
            The Region; what C exported has no type, see `Region.cast`.

        Raises:
            ImportCanceledError: the task ended without the export, or its memory is gone
                (ECANCELED).
            InvalidArgumentError: the name has no bytes or too many.
            ForkedError: this process is a child of the one that spawned it, made by fork().

        Cancellation:
            Nothing is held.

        Source: `pip_named_import(3)`
        """
        return await self._me.import_of(self._errand.pipid, self._errand.generation, name)

    def on_end(self, callback: Callable[[ExitStatus | None], None]) -> None:
        """Call back in the loop, once, when the end is known; internal.

        At once when it is.  With None when it never will be.  This does not collect the task.
        """
        if self._errand.is_over:
            callback(self._errand.status)
        else:
            self._errand.callbacks.append(callback)

    def acknowledge(self) -> None:
        """Collect the task, whether it has ended or not: then its memory may go; internal."""
        self._connection.collect(self._errand)

    @property
    def generation(self) -> int:
        """Which use of its slot the task is; internal."""
        return self._errand.generation

    def __repr__(self) -> str:
        state = "running" if self.status is None else f"ended {self.status!r}"
        return f"<aiopip.RemoteTask {self.name!r} pipid={self.pipid} pid={self.pid} {state}>"

    def __str__(self) -> str:
        return str(self._errand)

    def __del__(self) -> None:
        self._connection.drop(self._errand)


async def spawn(
    me: ThisTask,
    program: StrOrBytesPath,
    args: Sequence[StrOrBytesPath],
    *,
    bound: bool = False,
    work: Work[Any] | None = None,
    make: Callable[[ThisTask, Connection, Errand, Pipes], RemoteTask] = RemoteTask,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    **options: Unpack[PlainOptions],
) -> RemoteTask:
    """Have the Root start a program; `RemoteRoot.spawn` has the contract.

    Args:
        me: this task.
        program: what to start.
        args: its arguments.
        bound: whether the Root kills it when this process has ended, or the connection of this loop
            was closed.
        work: the function that it runs, if it is for one.
        make: the class of what is returned.
        stdin: may be PIPE here, as may
        stdout: this, and
        stderr: this.
        options: the others.
    """
    asked = connection(me)
    with Pipes(program, stdin, stdout, stderr) as pipes:
        if options.get("env") is None:
            options["env"] = os.environb
        request = pack(program, args, stdio=pipes.stdio, max_tasks=asked.max_tasks, **options)
        answered: Future[None] = asked.loop.create_future()
        errand = asked.errand(request, answered, bound=bound)
        if work is not None:
            errand.keeps, errand.disown = work, work.disown
            errand.callbacks.append(work.over)
        await asked.spawn(errand, answered, *taken(request, bound))
        return make(me, asked, errand, pipes)
