"""What workers are made to call.  It imports nothing but NumPy, where that is needed.

`READY` and `IMPORT_NUMPY` are for the built-in functions `exec` and `eval`, which a worker has
without importing anything of ours, so that its start and its memory are its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def nothing() -> None:
    """Do nothing."""


def same(item: int) -> int:
    """Do next to nothing."""
    return item


def answered(array: np.ndarray) -> np.ndarray:
    """Look at an array's last item, and return another array, as great, whose last is one more.

    Nothing else of it is written, for that would be the machine's time and not the pool's.
    """
    import numpy as np

    answer = np.empty_like(array)
    answer[-1] = array[-1] + 1
    return answer


READY = """
import os
report = os.open({report!r}, os.O_WRONLY)
os.write(report, b".")
os.close(report)
os.close(os.open({hold!r}, os.O_RDONLY))  # returns when somebody has opened it for writing
"""
"""Code that reports to a FIFO, and keeps its worker until another FIFO is opened."""

IMPORT_NUMPY = "(__import__('numpy'), __import__('os').getpid())[1]"
"""An expression: the worker's process ID, when it has imported NumPy."""
