"""A program run to its end: `Root.run`.  Input goes in and both outputs come out at once."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
from typing import TYPE_CHECKING, Protocol, cast

import anyio
import anyio.abc

from aiopip._errors import InvalidArgumentError, TaskFailed, TaskTimeoutError, seconds
from aiopip._pipes import Pipes

if TYPE_CHECKING:
    from typing_extensions import Buffer, Unpack

    from aiopip._core import Core
    from aiopip._descriptors import Stdio
    from aiopip._pipes import ReceivePipe, SendPipe
    from aiopip._request import StrOrBytesPath
    from aiopip._spawn import PlainOptions
    from aiopip._status import ExitStatus
    from aiopip._task import Task


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a program that was `run` has ended, and what it wrote.

    Attributes:
        status: its ExitStatus.
        stdout: all that it wrote to its stdout; None when that was no pipe of ours.
        stderr: likewise.
    """

    status: ExitStatus
    stdout: bytes | None
    stderr: bytes | None


class Start(Protocol):
    """`_spawn.start`, of a Root or a group."""

    async def __call__(
        self,
        program: StrOrBytesPath,
        args: tuple[StrOrBytesPath, ...],
        pipes: Pipes,
        **options: Unpack[PlainOptions],
    ) -> Task: ...


async def run(
    core: Core,
    start: Start,
    program: StrOrBytesPath,
    args: tuple[StrOrBytesPath, ...],
    *,
    input: Buffer | None,  # noqa: A002  subprocess.run's
    check: bool,
    timeout_s: float | None,
    stdin: Stdio = None,
    stdout: Stdio = subprocess.PIPE,
    stderr: Stdio = subprocess.PIPE,
    **options: Unpack[PlainOptions],
) -> Completed:
    """Run a program to its end; `Root.run` has the contract."""
    if isinstance(input, str):
        raise TypeError("input: bytes are wanted, not str; encode it")
    data = None if input is None else memoryview(input)
    if data is not None and stdin is not None:
        raise InvalidArgumentError("stdin", "with `input` it is a pipe; give one of the two")
    limit_s = math.inf if timeout_s is None else seconds("timeout_s", timeout_s)
    written = _Written()
    with anyio.move_on_after(limit_s):
        with Pipes(program, stdin if data is None else subprocess.PIPE, stdout, stderr) as pipes:
            written.expect(pipes)
            task = await start(program, args, pipes, **options)
        status = await _finish(core, task, data, written)
        if check and status != 0:
            raise TaskFailed(task, status, written.stderr or b"", written.stdout or b"")
        return Completed(status, written.stdout, written.stderr)
    raise TaskTimeoutError(os.fsdecode(program), limit_s, written.stdout, written.stderr)


class _Written:
    """What a program has written, as far as it was received."""

    def __init__(self) -> None:
        self._received: dict[str, bytearray] = {}
        self._pipes: dict[str, ReceivePipe] = {}

    def expect(self, pipes: Pipes) -> None:
        """Take the pipes to receive from."""
        ours = {"stdout": pipes.stdout, "stderr": pipes.stderr}
        self._pipes = {name: pipe for name, pipe in ours.items() if pipe is not None}
        self._received = {name: bytearray() for name in self._pipes}

    @property
    def stdout(self) -> bytes | None:
        return self._of("stdout")

    @property
    def stderr(self) -> bytes | None:
        return self._of("stderr")

    def _of(self, name: str) -> bytes | None:
        return bytes(self._received[name]) if name in self._received else None

    def receive_in(self, group: anyio.abc.TaskGroup) -> None:
        """Receive from all until they end."""
        for name in self._pipes:
            group.start_soon(self._receive, name)

    async def _receive(self, name: str) -> None:
        async for data in self._pipes[name]:
            self._received[name] += data

    def close(self) -> None:
        """Receive what is there, without waiting for more, and close."""
        for name, pipe in self._pipes.items():
            self._received[name] += pipe.rest()
            pipe.close()


async def _finish(core: Core, task: Task, data: memoryview | None, written: _Written) -> ExitStatus:
    """Feed a task, receive from it, and wait for its end; it has ended when this leaves."""
    try:
        async with anyio.create_task_group() as group:
            written.receive_in(group)
            if task.stdin is not None:
                group.start_soon(_feed, task.stdin, data)
        return await task.wait()
    except GeneratorExit:
        core.kill_now(task.state)
        raise
    except BaseException:
        await core.end_now(task.state)
        raise
    finally:
        written.close()


async def _feed(pipe: SendPipe, data: memoryview | None) -> None:
    try:
        if data is not None:
            await pipe.send(cast("bytes", data))  # whose type the interface of anyio gives
    except anyio.BrokenResourceError:
        pass  # it need not read what it is given
    finally:
        pipe.hang_up()
