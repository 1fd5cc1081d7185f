"""What a worker of a pool can fail at; `_errors` has the rest of the tree and draws all of it.

A module of its own, since `concurrent.futures` loads `logging`: more than all other errors need.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

from aiopip._errors import AiopipError

if TYPE_CHECKING:
    from aiopip._status import ExitStatus


class WorkerDiedError(AiopipError, BrokenExecutor):
    """A worker of a pool ended while it had a call, or before it was ready for any.

    Attributes:
        worker: which one, 0 to workers - 1.
        status: how it ended.
        stderr: the last lines that it wrote to its stderr.
    """

    def __init__(self, worker: int, status: ExitStatus, stderr: str = "") -> None:
        """Take what is known of its end."""
        said = f"; its stderr ended with:\n{stderr.rstrip()}" if stderr.strip() else ""
        super().__init__(f"worker {worker} of the pool died: {status!r}{said}")
        self.worker = worker
        self.status = status
        self.stderr = stderr

    @property
    def signal(self) -> int | None:
        """The signal that ended it, None when it exited."""
        return self.status.signal
