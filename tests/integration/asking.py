"""Tasks that ask their Root for tasks, in a loop of the kind that the test runs on.

`asker` starts a worker; `asker.ask` runs the body of a coroutine function in it, in a loop of its
own, with `root`, the `RemoteRoot`, and gives what that returns.
"""

from __future__ import annotations

import contextlib
import textwrap
from typing import TYPE_CHECKING, Any

import loops
from integration.worker import work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from integration.worker import Worker

    import aiopip

PREPARE = """
import anyio, contextlib, signal, socket, subprocess, time
from subprocess import PIPE
from aiopip import _remote_task
me = aiopip.this_task()
root = me.root
def run(function):
    return anyio.run(function, backend={backend!r}, backend_options={options!r})
async def bound(*args):
    return await _remote_task.spawn(me, args[0], args[1:], bound=True)
"""


class Asker:
    """A worker that asks."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.task = worker.task

    def tell(self, body: str) -> None:
        """Have it run the body of a coroutine function; `heard` gives what it returns."""
        # The loop is the worker's own again when the other one has ended.
        lines = textwrap.indent(textwrap.dedent(body), "    ")
        self.worker.tell(f"async def body():\n    global kept\n{lines}\nresult = run(body)\n")

    async def heard(self) -> Any:
        """What the body that was told has returned, as a literal.

        Raises:
            Told: what it raised.
        """
        await self.worker.answer()
        return await self.worker.do("result")

    async def ask(self, body: str) -> Any:
        """Tell, and hear."""
        self.tell(body)
        return await self.heard()


@contextlib.asynccontextmanager
async def asking(root: aiopip.Root, **options: Any) -> AsyncIterator[Asker]:
    """Start one; behind the block it is killed, unless it has ended."""
    kind = loops.running()
    how = {key: value for key, value in kind.options.items() if key != "loop_factory"}
    prepare = PREPARE.format(backend=kind.backend, options=how)
    async with work(root, prepare, **options) as worker:
        yield Asker(worker)
