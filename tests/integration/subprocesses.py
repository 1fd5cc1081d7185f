"""asyncio's functions for subprocesses and ours, as one thing to be tested."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from loops import running

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Awaitable, Callable

    import aiopip

    Start = Callable[..., Awaitable[Process]]

OURS_AND_THEIRS = ["aiopip", "asyncio"]

ONLY_ASYNCIO = "trio has no such streams"
"""A reason of `only`."""


class Subprocesses:
    """The two functions of one of the two."""

    def __init__(self, whose: str, root: aiopip.Root) -> None:
        self.whose = whose
        self.exec: Start = asyncio.create_subprocess_exec
        self.shell: Start = asyncio.create_subprocess_shell
        if whose == "aiopip":
            self.exec, self.shell = root.create_subprocess_exec, root.create_subprocess_shell

    def without_uvloops(self, why: str) -> None:
        """Skip the test on uvloop's own function, which does not do as asyncio's does."""
        if self.whose == "asyncio" and running().name == "uvloop":
            pytest.skip(f"uvloop's own: {why}")

    async def output(self, program: Any, *args: Any, **options: Any) -> bytes:
        """What a program writes to its stdout; it has to succeed."""
        process = await self.exec(program, *args, stdout=asyncio.subprocess.PIPE, **options)
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        return out


async def communicate(
    process: Process, data: bytes | None = None
) -> tuple[bytes | None, bytes | None]:
    """`Process.communicate()`: None for what is no pipe, which its stub has no word of."""
    return await process.communicate(data)


async def ended(process: Process) -> int:
    """Wait for a process that has pipes, from which nobody need read any more."""
    await process.communicate()
    assert process.returncode is not None
    return process.returncode


async def broken(process: Process) -> None:
    """Take note that the stdin of a process was broken; Python 3.10 complains if nobody does."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.wait_closed()
