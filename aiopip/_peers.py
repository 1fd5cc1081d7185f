"""This process as one that exports and imports: a task, or a root while it is open."""

from __future__ import annotations

import errno
import os

from aiopip._errors import AbiMismatchError, ForkedError, NotInitializedError
from aiopip._ffi import ABI_VERSION, Peer, join


class _Process:
    """What this process is."""

    def __init__(self) -> None:
        self.task: Peer | None = None
        self.root: Peer | None = None
        self.forked = False
        """Whether this is a child by fork() of a process that was one of them."""


_process = _Process()


def task_peer() -> Peer:
    """This task.

    Raises:
        NotInitializedError: this process is no task.
        AbiMismatchError: the root's aiopip has another ABI version.
    """
    if _process.task is None:
        joined = join()
        if not isinstance(joined, Peer):
            result, version = joined
            if result == -errno.ELIBSCN:
                raise AbiMismatchError(ABI_VERSION, version)
            raise NotInitializedError("this process is no PiP task: start it by root.spawn()")
        _process.task = joined
    return _process.task


def current_peer() -> Peer:
    """This process, as a root if one is open, or as a task.

    Raises:
        NotInitializedError: it is neither.
        ForkedError: it is a child by fork() of one, and never is.
        AbiMismatchError: the root's aiopip has another ABI version.
    """
    if _process.root is not None:
        return _process.root
    try:
        return task_peer()
    except NotInitializedError:
        if _process.forked:
            raise ForkedError from None
        raise NotInitializedError from None


def set_root_peer(peer: Peer | None) -> None:
    """A Root was opened, or closed."""
    _process.root = peer


def _in_forked_child() -> None:
    _process.forked |= _process.task is not None or _process.root is not None
    _process.task = _process.root = None


os.register_at_fork(after_in_child=_in_forked_child)
