"""Pipes to and from a task: what `stdin=PIPE`, `stdout=PIPE` and `stderr=PIPE` give."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from aiopip._errors import InvalidArgumentError, blend
from aiopip._spawn_errors import SpawnOptionError

if TYPE_CHECKING:
    from typing_extensions import Self

    from aiopip._descriptors import Stdio
    from aiopip._request import StrOrBytesPath

TAIL_BYTES = 4096
"""How much of what came last a ReceivePipe remembers."""

PIPE_BYTES = 1 << 20
"""How much `ReceivePipe.tail` takes: all that a pipe holds, unless somebody keeps on writing."""


class _End:
    """Our end of a pipe, closed with the last reference to it."""

    def __init__(self, fd: int, action: str) -> None:
        self._fd = fd
        self._guard = anyio.ResourceGuard(action)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._fd < 0

    def fileno(self) -> int:
        """The descriptor.

        Raises:
            ClosedResourceError: it is closed.
        """
        if self._fd < 0:
            raise anyio.ClosedResourceError
        return self._fd

    async def aclose(self) -> None:
        """Close it; who waits in it gets ClosedResourceError."""
        self.hang_up()
        await anyio.lowlevel.checkpoint()

    def hang_up(self) -> None:
        """Close it, as `aclose`, without giving others a turn; internal."""
        if self._fd >= 0:
            anyio.notify_closing(self._fd)
            self.close()

    def detach(self) -> int:
        """Its descriptor, which is the caller's from now on; internal."""
        fd, self._fd = self.fileno(), -1
        return fd

    def close(self) -> None:
        """Close it, where nobody waits in it, also where no loop runs; internal."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"descriptor {self._fd}"
        return f"<aiopip.{type(self).__name__} {state}>"


class ReceivePipe(_End, ByteReceiveStream):
    """A task's stdout or stderr, from `spawn(stdout=PIPE)`.

    Thread safety: the Root's loop thread only.

    Source: `anyio.abc.ByteReceiveStream`, pipe(7)
    """

    def __init__(self, fd: int) -> None:
        """Made by `Root.spawn`."""
        super().__init__(fd, "receiving from")
        self._ahead = bytearray()
        self._last = b""
        self._waiting: anyio.CancelScope | None = None

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes that the task wrote, as soon as there are any.

        Args:
            max_bytes: how many at the most.

        Raises:
            EndOfStream: all that could write to the pipe have closed it, or ended.
            ClosedResourceError: this end is closed.
            BusyResourceError: another coroutine is receiving.
            InvalidArgumentError: `max_bytes` is below 1.

        Cancellation:
            Nothing is lost.
        """
        if max_bytes < 1:
            raise InvalidArgumentError("max_bytes", f"{max_bytes} is no number of bytes from 1 on")
        with self._guard:
            await anyio.lowlevel.checkpoint()
            while (received := self._take(max_bytes)) is None:
                await self._wait()
            if not received:
                raise anyio.EndOfStream
            return received

    async def _wait(self) -> None:
        """Wait until there is something to receive, or `tail` has read that ahead."""
        with anyio.CancelScope() as scope:
            self._waiting = scope
            try:
                await anyio.wait_readable(self.fileno())
            finally:
                self._waiting = None

    def _take(self, max_bytes: int) -> bytes | None:
        """What there is, as `_read`, and first what was read ahead."""
        self.fileno()
        if not self._ahead:
            return self._read(max_bytes)
        data = bytes(self._ahead[:max_bytes])
        del self._ahead[:max_bytes]
        return data

    def rest(self) -> bytes:
        """What can be received at once, PIPE_BYTES at the most; internal."""
        data = bytearray()
        while len(data) < PIPE_BYTES and (some := self._take(65536)):
            data += some
        return bytes(data)

    def tail(self) -> bytes:
        """The last bytes of all that the task has written by now, received or not; internal.

        What nobody has received stays to be received.
        """
        while self._fd >= 0 and len(self._ahead) < PIPE_BYTES:
            data = self._read(65536)
            if not data:
                break
            self._ahead += data
        if self._ahead and self._waiting is not None:
            # What it waits for has been taken away, and more may never come.
            self._waiting.cancel()
        return self._last

    def _read(self, max_bytes: int) -> bytes | None:
        """What there is, empty at the end; None when there is nothing yet."""
        try:
            data = os.read(self.fileno(), max_bytes)
        except BlockingIOError:
            return None
        self._last = (self._last + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        return data


class SendPipe(_End, ByteSendStream):
    """A task's stdin, from `spawn(stdin=PIPE)`.

    Thread safety: the Root's loop thread only.

    Source: `anyio.abc.ByteSendStream`, pipe(7)
    """

    def __init__(self, fd: int) -> None:
        """Made by `Root.spawn`."""
        super().__init__(fd, "sending to")

    async def send(self, item: bytes) -> None:
        """Hand bytes over; returns when the pipe has taken all.

        Args:
            item: the bytes.

        Raises:
            BrokenResourceError: nobody can read them any more.
            ClosedResourceError: this end is closed.
            BusyResourceError: another coroutine is sending.

        Cancellation:
            Some of the bytes may have been handed over.
        """
        with self._guard, memoryview(item) as whole, whole.cast("B") as view:
            await anyio.lowlevel.checkpoint()
            self.fileno()
            sent = 0
            while sent < len(view):
                written = self._write(view[sent:])
                if written is None:
                    await anyio.wait_writable(self.fileno())
                else:
                    sent += written

    def _write(self, view: memoryview) -> int | None:
        try:
            return os.write(self.fileno(), view)
        except BlockingIOError:
            return None
        except BrokenPipeError as error:
            raise anyio.BrokenResourceError from error


class Pipes:
    """The pipes of one spawn.

    As a context manager it closes the task's ends, which it has by then, behind the block, and ours
    too when the block fails.  Our end of another task's pipe that is handed on is closed likewise:
    programs want it to block, and we could not read from it any more without blocking the loop.

    Attributes:
        stdio: what was asked for, with the task's ends in place of PIPE.
        stdin: our end, None where no pipe was asked for.
        stdout: likewise.
        stderr: likewise.
    """

    __slots__ = ("_handed_on", "_theirs", "stderr", "stdin", "stdio", "stdout")

    def __init__(self, program: StrOrBytesPath, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> None:
        """Make them.

        Raises:
            SpawnOptionError: a pipe cannot be made.
        """
        self._theirs: list[int] = []
        asked = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        for option, end in asked.items():
            if isinstance(end, _End) and end.closed:
                raise InvalidArgumentError(option, f"{end!r} is closed; a pipe is handed on once")
        self._handed_on = [end for end in asked.values() if isinstance(end, _End)]
        self.stdin: SendPipe | None = None
        self.stdout: ReceivePipe | None = None
        self.stderr: ReceivePipe | None = None
        try:
            if _is_pipe(stdin):
                stdin, ours = _pipe(program, "stdin")
                self._theirs.append(stdin)
                self.stdin = SendPipe(ours)
            if _is_pipe(stdout):
                ours, stdout = _pipe(program, "stdout")
                self._theirs.append(stdout)
                self.stdout = ReceivePipe(ours)
            if _is_pipe(stderr):
                ours, stderr = _pipe(program, "stderr")
                self._theirs.append(stderr)
                self.stderr = ReceivePipe(ours)
            for end in self._handed_on:
                os.set_blocking(end.fileno(), True)
        except BaseException:
            self._close_all()
            raise
        self.stdio = stdin, stdout, stderr

    def __enter__(self) -> Self:
        return self

    def detach(self) -> dict[int, int]:
        """Our ends as descriptors, by the task's: they are the caller's, and the task has none."""
        ours = {0: self.stdin, 1: self.stdout, 2: self.stderr}
        self.stdin = self.stdout = self.stderr = None
        return {number: end.detach() for number, end in ours.items() if end is not None}

    def __exit__(self, exc_type: object, *rest: object) -> None:
        if exc_type is not None:
            self._close_all()
            return
        self._close_theirs()
        for end in self._handed_on:
            end.hang_up()

    def _close_all(self) -> None:
        self._close_theirs()
        for ours in (self.stdin, self.stdout, self.stderr):
            if ours is not None:
                ours.close()
        for end in self._handed_on:
            if not end.closed:
                os.set_blocking(end.fileno(), False)

    def _close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())


def _is_pipe(stdio: Stdio) -> bool:
    return isinstance(stdio, int) and stdio == subprocess.PIPE


def _pipe(program: StrOrBytesPath, option: str) -> tuple[int, int]:
    """A pipe's two ends, of which the task's blocks, as programs expect it."""
    try:
        reader, writer = map(lifted, os.pipe2(os.O_CLOEXEC))
    except OSError as error:
        number = error.errno or errno.EIO
        hint = "; raise RLIMIT_NOFILE" if number == errno.EMFILE else ""
        make = blend(SpawnOptionError, number)
        # Not `from`: all that the system said is in it.
        raise make(number, os.fsdecode(program), option, f"no pipe can be made{hint}") from None
    os.set_blocking(writer if option == "stdin" else reader, False)
    return reader, writer


def lifted(fd: int) -> int:
    """A descriptor above 0 to 2, which tasks inherit: a pipe gets these where they are closed."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
