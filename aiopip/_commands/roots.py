"""The open Roots of this user: each is asked for its list, and the rest is looked up in /proc.

`_listing` is the other side.  Nothing here needs the native core, so a look costs a Root no more
than the list, whatever there is to find out of its tasks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiopip._listing import VERSION, peer_of
from aiopip._memory import of_process, of_spans
from aiopip._processes import statistics
from aiopip._runtime_folder import connected, folders, sockets

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiopip._memory import TaskMemory

ANSWER_BYTES = 16


@dataclasses.dataclass(frozen=True)
class TaskView:
    """A task, from outside.

    Attributes:
        pipid: its PiP ID.
        pid: its process ID.
        name: the last part of the program's path.
        program: what was started.
        state: as `TaskStatistics` has it.
        threads: how many it has.
        user_s: seconds in user mode.
        system_s: seconds in the kernel.
        shared: whether it is in its Root's address space.
        memory: its own; None where that must not be looked at.
    """

    pipid: int
    pid: int
    name: str
    program: str
    state: str
    threads: int
    user_s: float
    system_s: float
    shared: bool
    memory: TaskMemory | None


@dataclasses.dataclass(frozen=True)
class RootView:
    """A Root, from outside.

    Attributes:
        pid: its process ID.
        command: its command line.
        max_tasks: how many tasks may be alive.
        tasks: those that are, by PiP ID.
        problem: why its tasks are not known; empty when they are.
    """

    pid: int
    command: str
    max_tasks: int = 0
    tasks: tuple[TaskView, ...] = ()
    problem: str = ""


def all_roots(only: Collection[int] = ()) -> list[RootView]:
    """The open Roots of this user, by process ID.

    Args:
        only: the processes to look at, all when empty.
    """
    found = []
    for folder in dict.fromkeys(folders()):
        for path in sockets(folder):
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):  # it is gone
                if (root := _asked(path, only)) is not None:
                    found.append(root)
    return sorted(found, key=lambda root: root.pid)


def _asked(path: Path, only: Collection[int]) -> RootView | None:
    """What a Root says; None when it is none of those that are wanted, or not this user's.

    Raises:
        ConnectionRefusedError: it is gone.
        FileNotFoundError: likewise.
    """
    try:
        root = connected(path)
    except (BlockingIOError, TimeoutError):
        pid = int(path.name.partition(".")[0])
        return _unanswered(pid) if not only or pid in only else None
    with root:
        pid, user = peer_of(root)
        if user != os.geteuid() or (only and pid not in only):
            return None
        try:
            told = _received(root)
        except (TimeoutError, ConnectionResetError):
            return _unanswered(pid)
    if told is None:
        return None  # it was closed meanwhile
    if told.get("version") != VERSION:
        return _problem(pid, "has another version of aiopip, whose list this one cannot read")
    views = [view for entry in told["tasks"] if (view := _view(pid, entry)) is not None]
    tasks = tuple(sorted(views, key=lambda view: view.pipid))
    return RootView(pid, _command(pid), told["max_tasks"], tasks)


def _received(root: socket.socket) -> dict[str, Any] | None:
    _, files, _, _ = socket.recv_fds(root, ANSWER_BYTES, 1)
    if not files:
        return None
    # The position in the file is shared with all who have it, so it is not used.
    try:
        text = os.pread(files[0], os.fstat(files[0]).st_size, 0)
    finally:
        for file in files:
            os.close(file)
    told: dict[str, Any] = json.loads(text)
    return told


def _unanswered(pid: int) -> RootView:
    return _problem(pid, "does not answer; its event loop is busy, or stopped")


def _problem(pid: int, problem: str) -> RootView:
    return RootView(pid, _command(pid), problem=problem)


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return os.fsdecode(b" ".join(words)).strip()


def _view(root: int, entry: dict[str, Any]) -> TaskView | None:
    """A task of the list; None when it has ended since."""
    try:
        now = statistics(entry["pid"])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return TaskView(
        pipid=entry["pipid"],
        pid=entry["pid"],
        name=entry["name"],
        program=entry["program"],
        state=now.state,
        threads=now.threads,
        user_s=now.user_s,
        system_s=now.system_s,
        shared=entry["shared"],
        memory=_memory(root, entry),
    )


def _memory(root: int, entry: dict[str, Any]) -> TaskMemory | None:
    try:
        if entry["shared"]:
            return of_spans(root, entry["spans"])
        return of_process(entry["pid"])
    except OSError:
        return None
