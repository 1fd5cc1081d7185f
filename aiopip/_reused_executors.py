"""Executors that are kept for who asks for the like next, and end when nobody does for long."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from aiopip._executor import PoolExecutor

if TYPE_CHECKING:
    from collections.abc import Callable


class _Kept:
    """One executor.

    Attributes:
        what: what it is like.
        executor: the executor.
        users: how many have it.
        timer: ends it when it was idle for long enough; None while it is used.
    """

    def __init__(self, what: Any, executor: PoolExecutor) -> None:
        self.what = what
        self.executor = executor
        self.users = 0
        self.timer: threading.Timer | None = None

    def end(self) -> None:
        """End it; its calls have ended."""
        if self.timer is not None:
            self.timer.cancel()
        self.executor.shutdown(wait=False)


_lock = threading.Lock()
_kept: list[_Kept] = []


def borrow(
    workers: int, initializer: Callable[..., object], initargs: tuple[Any, ...]
) -> PoolExecutor:
    """An executor, an idle one if there is one of the kind; other idle ones are ended."""
    what = os.getpid(), workers, initializer, initargs
    with _lock:
        for kept in list(_kept):
            if kept.executor.is_broken or (not kept.users and kept.what != what):
                _kept.remove(kept)
                kept.end()
        kept = next((one for one in _kept if one.what == what), None) or _Kept(
            what, PoolExecutor(workers, initializer=initializer, initargs=initargs)
        )
        if kept not in _kept:
            _kept.append(kept)
        kept.users += 1
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        return kept.executor


def give_back(executor: PoolExecutor, idle_s: float) -> None:
    """Leave an executor to others; it ends if nobody asks for it in time."""
    with _lock:
        kept = _find(executor)
        if kept is None:
            return  # another user has discarded it
        kept.users -= 1
        if not kept.users:
            kept.timer = threading.Timer(idle_s, _end_idle, (kept,))
            kept.timer.daemon = True  # at the interpreter's exit the executor ends by itself
            kept.timer.start()


def discard(executor: PoolExecutor) -> None:
    """Kill the workers of an executor, which nobody gets any more."""
    with _lock:
        kept = _find(executor)
        if kept is not None:
            _kept.remove(kept)
    executor.kill_workers()
    executor.shutdown()


def end_all() -> None:
    """End those that nobody uses."""
    with _lock:
        idle = [kept for kept in _kept if not kept.users]
        for kept in idle:
            _kept.remove(kept)
    for kept in idle:
        kept.end()
        kept.executor.shutdown()


def _find(executor: PoolExecutor) -> _Kept | None:
    return next((kept for kept in _kept if kept.executor is executor), None)


def _end_idle(kept: _Kept) -> None:
    with _lock:
        if kept.timer is not threading.current_thread() or kept not in _kept:
            return  # somebody has asked for it in this moment
        _kept.remove(kept)
    kept.executor.shutdown(wait=False)


def _in_forked_child() -> None:
    # Its executors are the parent's, and another thread may have held the lock.
    global _lock  # noqa: PLW0603  there is no other way to free it
    _lock = threading.Lock()
    _kept.clear()


os.register_at_fork(after_in_child=_in_forked_child)
