"""Workers that report that they are ready, each of them once."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from bench.calls import READY

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """Two FIFOs: in one calls report, and in the other they are held until it is opened.

    A worker that is ready early would take the calls of others, were it not held.

    Attributes:
        code: what `exec` is called with in a worker.
    """

    def __init__(self, folder: Path, keep: contextlib.ExitStack) -> None:
        """Make the FIFOs in a folder; `keep` closes them."""
        report, hold = (str(folder / name) for name in ("report", "hold"))
        os.mkfifo(report)
        os.mkfifo(hold)
        self.code = READY.format(report=report, hold=hold)
        self._hold = hold
        self._keep = keep
        self._report = self._opened(report)

    def _opened(self, path: str) -> int:
        # For reading and writing, which waits for nobody, and has no end while nobody writes.
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._keep.callback(os.close, descriptor)
        return descriptor

    async def reported(self, count: int) -> None:
        """Wait until so many have reported."""
        while count > 0:
            await anyio.wait_readable(self._report)
            count -= len(os.read(self._report, count))

    def open(self) -> None:
        """Let all go who are held, and who will come."""
        self._opened(self._hold)


@contextlib.contextmanager
def gate() -> Iterator[Gate]:
    """A gate, as long as the context lasts: beyond all calls that it holds."""
    folder = tempfile.TemporaryDirectory(prefix="aiopip-bench-")
    with folder as path, contextlib.ExitStack() as keep:
        yield Gate(Path(path), keep)
