"""tests/programs/server.c as a task: `await server.ask("export name")` gives its answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from support import Pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiopip


class Server:
    """A running server."""

    def __init__(self, task: aiopip.Task, commands: int, answers: Pipe) -> None:
        self.task = task
        self._commands = commands
        self._answers = answers

    def tell(self, command: str) -> None:
        """Give a command whose answer is fetched later, or never comes."""
        os.write(self._commands, command.encode() + b"\n")

    async def answer(self) -> str:
        """The next answer; empty when the server has ended."""
        return (await self._answers.line()).decode()

    async def ask(self, command: str) -> str:
        """Give a command and fetch its answer."""
        self.tell(command)
        return await self.answer()

    async def end(self, command: str = "exit 0") -> aiopip.ExitStatus:
        """Have it end, and collect it."""
        self.tell(command)
        return await self.task.wait()


@contextlib.asynccontextmanager
async def serve(root: aiopip.Root, path: Path, **options: Any) -> AsyncIterator[Server]:
    """Start a server; behind the block it is killed, unless it has ended."""
    reader, writer = os.pipe()
    answers = Pipe()
    try:
        task = await root.spawn(path, stdin=reader, stdout=answers.writer, **options)
        os.close(reader)
        reader = -1
        yield Server(task, writer, answers)
        if task.status is None:
            task.kill()
        await task.wait()
    finally:
        if reader >= 0:
            os.close(reader)
        os.close(writer)
        await answers.close()


async def pending(waiting: asyncio.Future[Any]) -> bool:
    """Whether it still waits after a moment in which it could have gone on."""
    await asyncio.wait([waiting], timeout=0.03)
    return not waiting.done()
