"""The least that a native thread can do to wake an event loop: a write into its eventfd."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from bench.programs import library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Peer


class Bell(ABC):
    """An eventfd that is awaited in the running loop, rung by a thread that has no Python."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stamp = ctypes.c_int64()
        self._ring = ctypes.CDLL(library("bell")).bell_ring
        self._ring.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64))

    async def ring(self, delay_ns: int) -> float:
        """Have it rung in a while: microseconds from just before the write to the await's end."""
        error = self._ring(self._fd, delay_ns, ctypes.byref(self._stamp))
        if error:
            raise OSError(error, f"bell_ring: {os.strerror(error)}")
        await self._rung()
        return (time.monotonic_ns() - self._stamp.value) / 1e3

    @abstractmethod
    async def _rung(self) -> None:
        """Wait until the eventfd was read."""

    def close(self) -> None:
        """Give it up."""
        os.close(self._fd)


class AsyncioBell(Bell):
    """On asyncio and uvloop: a reader that sets a future."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        os.eventfd_read(self._fd)
        self._future.set_result(None)

    async def _rung(self) -> None:
        await self._future
        self._future = self._loop.create_future()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        super().close()


class TrioBell(Bell):
    """On trio."""

    async def _rung(self) -> None:
        import trio

        await trio.lowlevel.wait_readable(self._fd)
        os.eventfd_read(self._fd)


@contextlib.contextmanager
def bell(peer: Peer) -> Iterator[Bell]:
    """A bell in the loop that a peer runs in."""
    made = TrioBell() if peer.backend == "trio" else AsyncioBell()
    try:
        yield made
    finally:
        made.close()
