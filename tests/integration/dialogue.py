"""A task that is told what to do, a line each, and answers each with a line."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar

from support import Pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiopip


class Dialogue:
    """Such a task, which runs."""

    def __init__(self, task: aiopip.Task, commands: int, answers: Pipe) -> None:
        self.task = task
        self._commands = commands
        self._answers = answers

    def say(self, line: bytes) -> None:
        """Give it a line."""
        os.write(self._commands, line + b"\n")

    async def heard(self) -> str:
        """The next line that it answers; empty when it has ended."""
        return (await self._answers.line()).decode()


D = TypeVar("D", bound=Dialogue)


@contextlib.asynccontextmanager
async def talk(
    kind: type[D], root: aiopip.Root, program: str | Path, *args: str | Path, **options: Any
) -> AsyncIterator[D]:
    """Start a program; behind the block it is killed, unless it has ended."""
    reader, writer = os.pipe()
    answers = Pipe()
    try:
        try:
            task = await root.spawn(program, *args, stdin=reader, stdout=answers.writer, **options)
        finally:
            os.close(reader)
        try:
            yield kind(task, writer, answers)
        finally:
            with contextlib.suppress(ProcessLookupError):
                task.kill()
            await task.wait()
    finally:
        os.close(writer)
        await answers.close()
