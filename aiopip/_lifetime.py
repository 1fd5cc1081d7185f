"""The one Root of the process: opening it, and what becomes of it at fork and at exit.

A Root is kept alive from here while it is open, so that one which nobody left can be found: by the
next one to be opened, when its loop is closed, or by the interpreter's exit.
"""

from __future__ import annotations

import atexit
import errno
import os
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from aiopip._core import Core, Phase
from aiopip._errors import (
    ForkedError,
    NotInitializedError,
    NotPermittedError,
    RootBusyError,
    call_error,
)
from aiopip._ffi import Client, open_client
from aiopip._loop import running_loop
from aiopip._main_module import check_not_importing
from aiopip._peers import set_root_peer
from aiopip._runtime_folder import folder

if TYPE_CHECKING:
    from aiopip._root import Root


class _Process:
    """What this process has open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while a Root is opened, which threads may try at the same time."""
        self.forked = False
        """Whether this is a child by fork() of a process in which a Root was open."""
        self.root: Root | None = None
        self.core: Core | None = None

    def is_open(self) -> bool:
        """Whether there is a live Root."""
        return self.core is not None and self.core.phase in (Phase.OPEN, Phase.CLOSING)


_process = _Process()


def open_core(root: Root, max_tasks: int, grace_s: float) -> Core:
    """Open the native core for a Root, in the running loop.

    Raises:
        RootBusyError: another Root is open, and its loop is not closed.
        ForkedError: the core was opened by the parent of this process.
    """
    if _process.forked:
        raise ForkedError
    loop = running_loop()
    with _process.lock:
        if _process.is_open():
            _end_stranded()
        client = open_default_client(max_tasks)
        try:
            core = Core(client, loop, max_tasks, grace_s)
        except BaseException:
            client.close()
            raise
        _process.root, _process.core = root, core
        set_root_peer(core.peer)
        return core


def open_default_client(max_tasks: int) -> Client:
    """Open a client of the core with the package's own files.

    Args:
        max_tasks: how many slots the core has, if this is its first client.

    Raises:
        NotPermittedError: this process is a task itself (EPERM).
        ForkedError: the core was opened by the parent of this process.
        CallError: it cannot be opened; its errno and text say why.
    """
    client = open_client(
        max_tasks,
        _package_file("libaiopip-task.so"),
        _package_file("aiopip-probe"),
        _package_file("aiopip-python"),
        _own_folder(),
    )
    if isinstance(client, int):
        raise _open_error(-client)
    return client


def close_core(core: Core) -> None:
    """Forget a Root that was closed."""
    if _process.core is core:
        _process.root = _process.core = None
        set_root_peer(None)


def current_root() -> Root:
    """The Root that is open in this process, for libraries that are not handed it.

    Returns:
        The Root.

    Raises:
        NotInitializedError: none is open (EPERM); in a child made by fork() there never is one.

    Thread safety: any thread; what can be done with the Root is the loop thread's.
    """
    if _process.root is None or not _process.is_open():
        raise NotInitializedError
    return _process.root


def _package_file(name: str) -> str:
    return str(Path(__file__).with_name("lib") / name)


def _own_folder() -> str | None:
    try:
        return str(folder())
    except OSError:
        return None  # what is learned of ld.so is learned anew by each process, then


def _end_stranded() -> None:
    core = _process.core
    if core is None or not core.loop.gone:
        raise RootBusyError
    alive = len(core.live)
    core.abort()
    close_core(core)
    warnings.warn(
        f"a Root was never left, and its event loop is closed: its {alive} live tasks were killed",
        ResourceWarning,
        stacklevel=4,
    )


def _open_error(number: int) -> Exception:
    if number == errno.ESRCH:
        return ForkedError()
    if number == errno.EPERM:
        check_not_importing()
        return NotPermittedError("this process is a task itself: it cannot have a Root of its own")
    why = {
        errno.ENOSYS: "; the kernel has no pidfd, or a sandbox forbids it",
        errno.EMFILE: "; raise RLIMIT_NOFILE",
        errno.ELIBACC: ": the package's lib/libaiopip-task.so does not load into tasks",
        errno.ENOEXEC: ": the package's lib/aiopip-probe does not run as a task",
        errno.EAGAIN: "; a thread could not be started: see RLIMIT_NPROC and pids.max",
    }.get(number, "")
    return call_error(number, f"the native core cannot be opened: {os.strerror(number)}{why}")


def _at_exit() -> None:
    if _process.core is not None and _process.is_open():
        _process.core.exit()


def _in_forked_child() -> None:
    # Another thread may have held the lock, and there is no such thread here.
    _process.lock = threading.Lock()
    if _process.core is not None:
        _process.core.phase = Phase.FORKED
        _process.core.service.forsake()
        _process.forked = True
    _process.root = _process.core = None


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_in_forked_child)
