"""tests/programs/server.c as a task: `await server.ask("export name")` gives its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from integration.dialogue import Dialogue, talk

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

    from jobs import Job

    import aiopip


class Server(Dialogue):
    """A running server."""

    def tell(self, command: str) -> None:
        """Give a command whose answer is fetched later, or never comes."""
        self.say(command.encode())

    async def answer(self) -> str:
        """The next answer; empty when the server has ended."""
        return await self.heard()

    async def ask(self, command: str) -> str:
        """Give a command and fetch its answer."""
        self.tell(command)
        return await self.answer()

    async def end(self, command: str = "exit 0") -> aiopip.ExitStatus:
        """Have it end, and collect it."""
        self.tell(command)
        return await self.task.wait()


def serve(
    root: aiopip.Root, path: Path, **options: Any
) -> contextlib.AbstractAsyncContextManager[Server]:
    """Start a server; behind the block it is killed, unless it has ended."""
    return talk(Server, root, path, **options)


async def pending(waiting: Job[Any]) -> bool:
    """Whether it still waits after a moment in which it could have gone on."""
    await anyio.sleep(0.03)
    return not waiting.done()
