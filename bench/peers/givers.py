"""How an array that another process has comes here: by import, shared memory, a pipe."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import subprocess
import sys
from abc import abstractmethod
from multiprocessing.shared_memory import SharedMemory as Segment
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers.base import Giver, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from multiprocessing.connection import Connection

    import aiopip

EXPORTER = Path(__file__).parents[1] / "programs" / "exporter.py"


class _Numpy(Giver):
    def missing(self) -> str:
        return without("numpy")


class OursGives(_Numpy):
    """A Python task exports it, and it is imported."""

    name = "import"
    about = "aiopip, import"

    @contextlib.asynccontextmanager
    async def opened(self, size_bytes: int) -> AsyncIterator[None]:
        import aiopip

        async with aiopip.Root() as root:
            line = (sys.executable, EXPORTER, str(size_bytes))
            self._task = await root.spawn(*line, stdin=subprocess.PIPE)
            self._names = map(str, itertools.count())
            await self._task.named_import("ready")
            yield
            self._task.kill()

    async def given(self) -> float:
        import numpy as np

        name = next(self._names)
        await self._stdin.send(f"{name}\n".encode())
        region = await self._task.named_import(name)
        return float(np.asarray(region)[-1])

    def nowait(self) -> float:
        """Import it by itself, as it was exported before."""
        import numpy as np

        return float(np.asarray(self._task.named_import_nowait("ready"))[-1])

    @property
    def _stdin(self) -> aiopip.SendPipe:
        assert self._task.stdin is not None
        return self._task.stdin


class _Child(_Numpy):
    """By a child of multiprocessing's, which is told by a pipe."""

    @contextlib.asynccontextmanager
    async def opened(self, size_bytes: int) -> AsyncIterator[None]:
        with self._child(size_bytes):
            yield

    @contextlib.contextmanager
    def _child(self, size_bytes: int) -> Iterator[None]:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        child = context.Process(target=self._serve, args=(theirs, size_bytes))
        child.start()
        theirs.close()
        self._size_bytes = size_bytes
        self._pipe.recv()
        yield
        self._pipe.close()
        child.join()

    @classmethod
    def _serve(cls, pipe: Connection, size_bytes: int) -> None:
        """What the child does: give the array whenever it is asked."""
        import numpy as np

        array = np.ones(size_bytes // 8)
        pipe.send("ready")
        with contextlib.suppress(EOFError):
            while True:
                pipe.recv()
                cls._give(pipe, array.data.cast("B"))

    @staticmethod
    @abstractmethod
    def _give(pipe: Connection, data: memoryview) -> None:
        """Make the bytes available to the other end."""


class SharedMemory(_Child):
    """It is copied into a segment of `multiprocessing.shared_memory`."""

    name = "shared_memory"
    about = "shared_memory"
    _segment: Segment

    @staticmethod
    def _give(pipe: Connection, data: memoryview) -> None:
        segment = Segment(create=True, size=len(data))
        assert segment.buf is not None
        segment.buf[: len(data)] = data
        pipe.send(segment.name)
        segment.close()

    async def given(self) -> float:
        import numpy as np

        self._pipe.send("give")
        self._segment = Segment(self._pipe.recv())
        # The segment is of whole pages, and may be greater.
        items = self._size_bytes // 8
        return float(np.ndarray(items, buffer=self._segment.buf)[-1])

    def drop(self) -> None:
        self._segment.close()
        self._segment.unlink()


class Pipe(_Child):
    """It is sent through a pipe: `multiprocessing.connection`."""

    name = "pipe"
    about = "pipe"

    @staticmethod
    def _give(pipe: Connection, data: memoryview) -> None:
        pipe.send_bytes(data)

    async def given(self) -> float:
        import numpy as np

        self._pipe.send("give")
        return float(np.frombuffer(self._pipe.recv_bytes())[-1])
