"""What a worker of a pool can fail at; `_errors` has the rest of the tree and draws all of it.

A module of its own, since `concurrent.futures` loads `logging`: more than all other errors need.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from aiopip._errors import AiopipError


class WorkerDiedError(AiopipError, BrokenExecutor):
    """A worker of a pool ended while it had work.

    Not raised yet: it is for pools, which are to come.
    """
