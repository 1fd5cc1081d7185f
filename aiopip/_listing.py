"""What a Root tells `aiopip ps`: its tasks, and where their memory is.

Every Root has a socket for that, in the folder of `_runtime_folder`.  It is there from the opening
on, and not only for those that ask for it, since it costs next to nothing: some 100 us of an
opening that takes milliseconds, a descriptor, and then nothing at all until somebody comes: the
native core's reaper waits for that in the epoll that it has, and tells the loop by an event as any
other.

Who connects gets one message with a file in memory, and that is all: the list as JSON.  So a slow
reader, or one that goes away, is nobody's concern, however many tasks there are.  What can be read
elsewhere is not in it: states, times and amounts are for the asker to find out, by /proc and the
ranges that the list has.

Tasks come to the same socket when they ask for tasks: they are told by the address that theirs has,
and handed on to `_service`.

A Root that can have no socket (no folder that is its user's alone, no descriptor left) works all
the same, but `aiopip ps` does not see it, and its tasks cannot spawn tasks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

from aiopip._messages import is_task_address
from aiopip._runtime_folder import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any

    from aiopip._ffi import Client
    from aiopip._state import TaskState

VERSION = 1
"""Of the list's form."""

CREDENTIALS = struct.Struct("=3i")
"""struct ucred: PID, user, group."""


class Listing:
    """The socket of a Root by which others see its tasks."""

    __slots__ = ("_client", "_fd", "_path")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._fd = -1
        self._path: Path | None = None
        with contextlib.suppress(OSError):  # it is not seen, then
            self._fd, self._path = listening()
            client.heed(self._fd)

    @property
    def path(self) -> Path | None:
        """Where the socket is; None when there is none."""
        return self._path

    def serve(
        self,
        max_tasks: int,
        states: Iterable[TaskState],
        admit: Callable[[socket.socket, bytes], None],
    ) -> None:
        """Give the list to all who have come, but for those who say that they want more.

        Args:
            max_tasks: how many tasks may be alive.
            states: those that are.
            admit: takes the connection of a task that asks for tasks, and its address.
        """
        if self._fd < 0:
            return
        # Of the descriptor there is a socket only here: one that a forked child never closes would
        # be complained about there.
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(fileno=os.dup(self._fd)))
            file = None
            while (accepted := _accepted(listener)) is not None:
                asker, address = accepted
                if is_task_address(address):
                    admit(asker, address)
                    continue
                with asker:
                    if not may_ask(asker):
                        continue
                    if file is None:
                        file = self._written(max_tasks, states)
                        stack.callback(os.close, file)
                    # It may have gone away meanwhile.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        socket.send_fds(asker, [b"%d" % VERSION], [file])

    def _written(self, max_tasks: int, states: Iterable[TaskState]) -> int:
        import json

        tasks = [self._entry(state) for state in states if state.pid]
        text = json.dumps({"version": VERSION, "max_tasks": max_tasks, "tasks": tasks}).encode()
        file = os.memfd_create("aiopip-tasks", os.MFD_CLOEXEC)
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(text)
        except OSError:
            os.close(file)
            raise
        return file

    def _entry(self, state: TaskState) -> dict[str, Any]:
        spans = self._client.spans(state.pipid, state.generation)
        shared = self._client.shares(state.pipid, state.generation) == 1
        return {
            "pipid": state.pipid,
            "pid": state.pid,
            "name": state.name,
            "program": state.program,
            "shared": shared,
            "spans": spans if shared and not isinstance(spans, int) else [],
        }

    def close(self) -> None:
        """End it; the native client is closed, and heeds it no more."""
        if self._path is None:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):  # the folder may have been taken away
            self._path.unlink(missing_ok=True)
        self._path = None
        os.close(fd)


def _accepted(listener: socket.socket) -> tuple[socket.socket, Any] | None:
    try:
        asker, address = listener.accept()
    except (BlockingIOError, ConnectionAbortedError):
        return None
    asker.setblocking(False)
    return asker, address


def may_ask(asker: socket.socket) -> bool:
    """Whether the other end is of this user, or the superuser: mode 0600 says so, too."""
    return peer_of(asker)[1] in (os.geteuid(), 0)


def peer_of(end: socket.socket) -> tuple[int, int]:
    """The process ID and the user of the other end."""
    found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, user, _group = CREDENTIALS.unpack(found)
    return pid, user
