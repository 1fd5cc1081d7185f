"""What a task that asks for tasks and its Root say to each other, and where they meet.

The socket is that of `_listing`; a task learns its path by an export of the Root, since it may have
another $XDG_RUNTIME_DIR.  By the address of its own end a task tells the Root at once that it is no
`aiopip ps`.  Each message is a packet of `_channel` with the number of the spawn that it is about:

    task                                    Root
    Spawn, with descriptors           ->
    Cancel, when that is interrupted  ->
                                      <-    Begun, with a pidfd, or Refused
                                      <-    Finished, behind Begun
    Collect: the end was reported     ->

To who may not ask the Root says Rejected, and nothing more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from aiopip._attributes import Attributes
    from aiopip._request import SpawnRequest
    from aiopip._status import ExitStatus

VERSION = 1
"""Of the messages."""

SOCKET_NAME = "aiopip.socket"
"""What the Root exports `socket_record` as."""

_ADDRESS = b"\0aiopip.task/"


class Spawn(NamedTuple):
    """Start a task.

    Attributes:
        request: what to start; for a descriptor it has the place in the message's list.
        attributes: what the asking thread would hand on.
        bound: whether the task is killed when the asker has gone.
    """

    request: SpawnRequest
    attributes: Attributes
    bound: bool


class Cancel(NamedTuple):
    """Nobody waits for the start any more: kill the task, if there is one; its end is told."""


class Collect(NamedTuple):
    """The end was reported to somebody, or nobody will ask for it: the memory may go."""


class Begun(NamedTuple):
    """The task has started."""

    pipid: int
    generation: int
    pid: int


class Refused(NamedTuple):
    """There is no such task; None: as it was asked for."""

    error: Exception | None


class Finished(NamedTuple):
    """The task has ended."""

    status: ExitStatus


class Rejected(NamedTuple):
    """Nothing that comes from this asker is done."""

    error: Exception


Question = Spawn | Cancel | Collect
Answer = Begun | Refused | Finished | Rejected


class SocketRecord(NamedTuple):
    """What a task has to know to ask."""

    version: int
    max_tasks: int
    path: bytes


def socket_record(path: Path, max_tasks: int) -> bytes:
    """What the Root exports."""
    return b"%d %d %b" % (VERSION, max_tasks, os.fsencode(path))


def read_record(exported: bytes) -> SocketRecord:
    """What the task reads of that."""
    version, max_tasks, path = exported.split(b" ", 2)
    return SocketRecord(int(version), int(max_tasks), path)


def task_address() -> bytes:
    """An address for a task's end, in the abstract namespace, where it leaves nothing."""
    return _ADDRESS + b"%d/%d.%b" % (VERSION, os.getpid(), os.urandom(8).hex().encode())


def is_task_address(address: Any) -> bool:
    """Whether it is one of these, of any version."""
    return isinstance(address, bytes) and address.startswith(_ADDRESS)


def version_of(address: bytes) -> bytes:
    """The version of the messages of a task with such an address."""
    return address.removeprefix(_ADDRESS).partition(b"/")[0]
