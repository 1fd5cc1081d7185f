"""tests/programs/worker.py as a task: `await worker.do("me.pipid")` gives what it gives there."""

from __future__ import annotations

import ast
import contextlib
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration.dialogue import Dialogue, talk
from support import DEADLINE_S, PROGRAMS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiopip

FUTEX_CALLS = ("202", "449")
"""futex(2), futex_waitv(2)"""

QUIET = "'aiopip-waiter' not in [thread.name for thread in threading.enumerate()]"
"""Whether a worker has nothing that waits."""

PREPARE = "me = aiopip.this_task()"


class Told(Exception):
    """What the task raised: its class's name and its text."""


class Worker(Dialogue):
    """A running worker."""

    def tell(self, source: str) -> None:
        """Give source whose answer is fetched later, or never comes."""
        self.say(repr(textwrap.dedent(source)).encode())

    async def answer(self) -> Any:
        """The next answer; None also when the task has ended.

        Raises:
            Told: what it raised.
        """
        line = await self.heard()
        rest: Any
        kind, *rest = ast.literal_eval(line) if line else ("value", None)
        if kind == "error":
            raise Told(": ".join(rest))
        return rest[0]

    async def do(self, source: str) -> Any:
        """Give source and fetch its answer."""
        self.tell(source)
        return await self.answer()

    async def until(self, condition: str) -> None:
        """Wait until a condition holds there."""
        end = time.monotonic() + DEADLINE_S
        while not await self.do(condition):
            if time.monotonic() > end:
                pytest.fail(f"not within {DEADLINE_S} s: {condition}")
            await anyio.sleep(0.002)

    async def asleep(self) -> None:
        """Wait until its main thread sleeps on futexes."""
        path = Path(f"/proc/{self.task.pid}/syscall")
        await until(lambda: path.read_text().split()[0] in FUTEX_CALLS, "the worker waits")

    async def end(self, source: str = "sys.exit()") -> aiopip.ExitStatus:
        """Have it end, and collect it."""
        self.tell(source)
        return await self.task.wait()


@contextlib.asynccontextmanager
async def work(
    root: aiopip.Root, prepare: str = PREPARE, python: str = sys.executable, **options: Any
) -> AsyncIterator[Worker]:
    """Start a worker; behind the block it is killed, unless it has ended."""
    async with talk(Worker, root, python, PROGRAMS / "worker.py", **options) as worker:
        await worker.do(prepare)
        yield worker
