"""asyncio's subprocesses, of a Root: `Root.create_subprocess_exec` and `create_subprocess_shell`.

What they return is `asyncio.subprocess.Process` itself, with asyncio's own transport, protocol and
streams behind it: only the start of the process, its signals and its end are ours.  So all else is
as the running version of Python has it.  Imported on first use, since it imports asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal as signals
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.subprocess import Process, SubprocessStreamProtocol
from typing import IO, TYPE_CHECKING, Any, cast

from aiopip._errors import TaskEndedError, UnsupportedLoopError
from aiopip._loop_asyncio import AsyncioLoop
from aiopip._pipes import Pipes
from aiopip._spawn import start

if TYPE_CHECKING:
    from aiopip._core import Core
    from aiopip._descriptors import Stdio
    from aiopip._popen import Command
    from aiopip._state import TaskState
    from aiopip._task import Task

STATUS_UNKNOWN = 255
"""The returncode when the end will not be known, as asyncio has it."""


async def create(
    core: Core, command: Command, stdin: Stdio, stdout: Stdio, stderr: Stdio, limit: int
) -> Process:
    """Start a process; `Root.create_subprocess_exec` has the contract.

    Raises:
        UnsupportedLoopError: trio runs.
    """
    core.check()
    if not isinstance(core.loop, AsyncioLoop):
        raise UnsupportedLoopError
    asked = (stdin, stdout, stderr)
    with Pipes(command.program, *asked) as pipes:
        ends = _Ends(pipes, command.pipe_bytes)
        try:
            task = await start(core, None, command.program, command.args, pipes, **command.options)
        except BaseException:
            ends.close()
            raise
    return await _connect(core, task, (command.program, *command.args), asked, ends, limit)


async def _connect(
    core: Core,
    task: Task,
    args: tuple[Any, ...],
    asked: tuple[Stdio, Stdio, Stdio],
    ends: _Ends,
    limit: int,
) -> Process:
    """Give a process that runs its transport and its streams."""
    loop = asyncio.get_running_loop()
    protocol = SubprocessStreamProtocol(limit=limit, loop=loop)
    connected = loop.create_future()
    child = _Child(core, task, ends)
    # The base class notes which are PIPE, and hands `child` on to `_start`.
    transport = _Transport(
        loop,
        protocol,
        args,
        False,
        *cast("tuple[int, int, int]", asked),
        0,
        waiter=connected,
        child=child,
    )
    child.when_ended(transport.ended)
    try:
        await core.loop.until(connected)
        connected.result()
    except GeneratorExit:
        core.kill_now(task.state)  # its pipes are closed as it ends
        raise
    except BaseException:
        # It needs some iterations of the loop, and must not be left halfway: a file that a
        # transport is being made of can be closed by that transport only.
        await core.loop.settle(connected)
        transport.abandon()
        await core.end_now(task.state)
        raise
    return Process(transport, protocol, loop)


class _Ends:
    """Our ends of a process's pipes, as the files that asyncio's loops take."""

    def __init__(self, pipes: Pipes, pipe_bytes: int | None) -> None:
        self.files: list[IO[bytes] | None] = [None, None, None]
        for number, fd in pipes.detach().items():
            if pipe_bytes is not None:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, pipe_bytes)
            self.files[number] = os.fdopen(fd, "rb" if number else "wb", 0)

    def close(self) -> None:
        """Close those that nobody has taken."""
        for file in self.files:
            if file is not None:
                file.close()


class _Child:
    """What asyncio's transport wants of `subprocess.Popen`."""

    def __init__(self, core: Core, task: Task, ends: _Ends) -> None:
        self._core = core
        self._task = task
        self.pid = task.pid
        self.stdin, self.stdout, self.stderr = ends.files
        self.returncode: int | None = None

    @property
    def _state(self) -> TaskState:
        return self._task.state

    def when_ended(self, callback: Any) -> None:
        """Call back with the status, in the loop, when the process has ended, and collect it."""

        def report(_: object) -> None:
            self._core.collector.collect(self._state)
            status = self._state.status
            callback(STATUS_UNKNOWN if status is None else int(status))

        if self._state.status is None:
            ended = self._core.collector.expect_end(self._state)
            cast("asyncio.Future[None]", ended).add_done_callback(report)
        else:
            asyncio.get_running_loop().call_soon(report, None)

    def poll(self) -> int | None:
        """The status, None while it runs."""
        return self._task.returncode

    def send_signal(self, signal: int) -> None:
        """Send a signal; to one that has ended it does nothing, as in Popen."""
        with contextlib.suppress(TaskEndedError):
            self._task.send_signal(signal)

    def kill(self) -> None:
        """Send SIGKILL, also from a finaliser, in any thread, and when the Root is closed."""
        self._core.kill_now(self._state)


class _Stdin:
    """A pipe's transport with two habits of asyncio's that uvloop's has not.

    It takes what is written when it is closed, for nobody: `drain()` and `communicate()` count on
    it.  uvloop's raises RuntimeError, and is closed as soon as the program has closed its end.  And
    the end of the input closes it, when all has been written: uvloop's calls shutdown(2), which is
    for sockets.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def write(self, data: Any) -> None:
        if not self._pipe.is_closing():
            self._pipe.write(data)

    def writelines(self, lines: Any) -> None:
        self.write(b"".join(lines))

    def write_eof(self) -> None:
        self._pipe.close()


class _Transport(BaseSubprocessTransport):
    """asyncio's, of a process that has been started."""

    def _start(
        self,
        args: Any,  # noqa: ARG002  it runs already
        shell: bool,  # noqa: ARG002
        stdin: Any,  # noqa: ARG002
        stdout: Any,  # noqa: ARG002
        stderr: Any,  # noqa: ARG002
        bufsize: int,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        self._proc = kwargs["child"]

    def get_pipe_transport(self, fd: int) -> Any:
        pipe = super().get_pipe_transport(fd)
        if fd or pipe is None or isinstance(self._loop, asyncio.BaseEventLoop):
            return pipe
        return _Stdin(pipe)

    def ended(self, returncode: int) -> None:
        """The process has ended."""
        self._process_exited(returncode)

    def send_signal(self, signal: int) -> None:
        # The base class of Python 3.13 calls os.kill, which may reach another process: the PID is
        # free as soon as the native core has reaped.
        self._check_proc()
        if self._proc is not None:
            self._proc.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signals.SIGKILL)

    def abandon(self) -> None:
        """Close it, and the files of which no transport could be made."""
        child = self._proc
        if child is not None:
            for number, file in enumerate((child.stdin, child.stdout, child.stderr)):
                if file is not None and self._pipes.get(number) is None:
                    file.close()
        self.close()
