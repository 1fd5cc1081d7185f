"""What event loops offer themselves: asyncio by its two watchers, uvloop, anyio, trio."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import warnings
from typing import TYPE_CHECKING

import anyio

from bench.peers.base import Child, Starter, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Asyncio(Starter):
    """`asyncio.create_subprocess_exec`, with the child watcher that is the default from 3.12 on."""

    name = "asyncio"
    about = "asyncio (pidfd)"
    watcher = "PidfdChildWatcher"

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        if sys.version_info < (3, 14):  # where there is nothing to select, and it is this one
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                chosen = getattr(asyncio, self.watcher)()
                chosen.attach_loop(asyncio.get_running_loop())
                asyncio.set_child_watcher(chosen)
        yield

    async def start(self, *line: str) -> Child:
        return await asyncio.create_subprocess_exec(*line)


class AsyncioThreaded(Asyncio):
    """The same, with a thread a child: the default up to 3.11."""

    name = "asyncio-threaded"
    about = "asyncio (threads)"
    watcher = "ThreadedChildWatcher"

    def missing(self) -> str:
        if sys.version_info >= (3, 14):
            return "child watchers cannot be selected from Python 3.14 on"
        return ""


class Uvloop(Starter):
    """`asyncio.create_subprocess_exec` on uvloop, which starts and awaits children itself."""

    name = "uvloop"
    about = "uvloop"

    def __init__(self) -> None:
        super().__init__()
        self.options = {"use_uvloop": True}

    def missing(self) -> str:
        return without("uvloop")

    async def start(self, *line: str) -> Child:
        return await asyncio.create_subprocess_exec(*line)


class Anyio(Asyncio):
    """`anyio.open_process` on asyncio."""

    name = "anyio"
    about = "anyio"

    async def start(self, *line: str) -> Child:
        return await anyio.open_process(line, stdin=None, stdout=None, stderr=None)


class Trio(Starter):
    """`trio.lowlevel.open_process`."""

    name = "trio"
    about = "trio"
    backend = "trio"

    def missing(self) -> str:
        return without("trio")

    async def start(self, *line: str) -> Child:
        import trio

        return await trio.lowlevel.open_process(line)
