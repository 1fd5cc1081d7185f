"""What the pools of tasks run; in the path of tests/programs/worker.py and of what it starts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import anyio
import numpy as np

import aiopip


def double(number: int) -> int:
    """Twice that."""
    return number * 2


def squares(count: int) -> Any:
    """An array in the memory of who makes it."""
    return np.arange(count, dtype=np.int64) ** 2


def fill(value: int, out: Any) -> None:
    """Write to the caller's memory."""
    out[:] = value


def fail(text: str) -> None:
    """Raise something."""
    raise LookupError(text)


def nap() -> None:
    """Do not return in time."""
    time.sleep(1000)


def tell(path: str, array: Any) -> None:
    """Make a file, wait until somebody reads a FIFO, then say what the caller's memory has."""
    Path(path).with_suffix(".there").touch()
    with Path(path).open("w") as fifo:
        fifo.write(f"{array.sum()} {os.getpid()}")


def squares_of_another(backend: str) -> Any:
    """An array in the memory of a worker of a pool that ends before this returns."""

    async def main() -> Any:
        async with aiopip.this_task().root.pool(workers=1) as pool:
            return await pool.run(squares, 100_000)

    return anyio.run(main, backend=backend)


def tower(depth: int, backend: str) -> list[int]:
    """The process ID of who runs this, and of who runs it in a pool of its own, and so on."""

    async def main() -> list[int]:
        async with aiopip.this_task().root.pool(workers=1) as pool:
            return await pool.run(tower, depth - 1, backend)

    return [os.getpid()] + (anyio.run(main, backend=backend) if depth else [])
