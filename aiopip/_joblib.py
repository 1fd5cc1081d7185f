"""Registering `PoolExecutor` with joblib; joblib itself is imported when that is done."""

from __future__ import annotations


def register_joblib(name: str = "aiopip") -> None:
    """Make a backend of joblib of it: `with joblib.parallel_config(backend="aiopip"): ...`.

    scikit-learn's `n_jobs` goes by it then, too.  Workers are those of a `PoolExecutor`: NumPy
    arrays are seen in place by all of them, of any size, and nothing is written to files.  As with
    joblib's "threading" they are the caller's own, and can be written.  The workers are kept for
    the next call, and end after five minutes without one (`idle_worker_timeout=`, in seconds).
    `Parallel` within a call runs in threads, and in one thread within that, as it does under loky.

    Args:
        name: by which joblib finds it.

    Raises:
        ImportError: joblib is not installed.
    """
    try:
        from aiopip._joblib_backend import register
    except ModuleNotFoundError as error:
        if error.name != "joblib":
            raise
        raise ModuleNotFoundError(
            "joblib is not installed: pip install joblib", name="joblib"
        ) from error

    register(name)
