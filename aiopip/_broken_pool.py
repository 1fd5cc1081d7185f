"""What a `PoolExecutor` is of no use for any more, as an error for each of its calls."""

from __future__ import annotations

from concurrent.futures import process

from aiopip._worker_errors import WorkerDiedError


class BrokenPoolError(WorkerDiedError, process.BrokenProcessPool):
    """A worker of a `PoolExecutor` has died, and the executor is of no use any more."""


def broken_again(why: BaseException) -> Exception:
    """An error of its own for each call: who raises one adds its traceback to it.

    Args:
        why: what has broken the executor.
    """
    if isinstance(why, BrokenPoolError):
        return BrokenPoolError(why.worker, why.status, why.stderr)
    error = process.BrokenProcessPool(f"no worker can be had: {type(why).__name__}: {why}")
    error.__cause__ = why
    return error
