"""Where a task's Root is asked for tasks, and the connection to it; see `_messages`."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from aiopip._errors import CallError, NotPermittedError, WouldBlock, call_error
from aiopip._messages import SOCKET_NAME, VERSION, read_record, task_address

if TYPE_CHECKING:
    from aiopip._messages import SocketRecord
    from aiopip._this_task import ThisTask


def find(me: ThisTask) -> SocketRecord:
    """Where the Root of this task is asked.

    Raises:
        CallError: nowhere, or it would not be understood.
    """
    try:
        region = me.named_import_nowait(me.root, SOCKET_NAME)
    except WouldBlock:
        raise call_error(
            errno.ENOTCONN,
            "the Root cannot be asked: it has no socket, since neither $XDG_RUNTIME_DIR nor /tmp "
            "had a folder for it that is its user's alone, or it is no aiopip.Root",
        ) from None
    with region:
        record = read_record(bytes(region.view()))
    if record.version != VERSION:
        raise call_error(
            errno.EPROTO,
            "the Root's aiopip is of another version than this task's, and cannot be asked; "
            "install the same release in both environments",
        )
    return record


def connect(record: SocketRecord) -> socket.socket | None:
    """A connection; None when too many wait for one.

    Raises:
        CallError: there is none to be had; its errno and text say why.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        made.bind(task_address())
        made.connect(record.path)
    except BlockingIOError:
        made.close()
        return None
    except OSError as error:
        made.close()
        raise _cannot_connect(error, record) from None
    return made


def _cannot_connect(error: OSError, record: SocketRecord) -> CallError:
    path = os.fsdecode(record.path)
    if error.errno == errno.EACCES:
        return NotPermittedError(
            f"the Root cannot be asked by its socket {path!r}: this task runs as another user than "
            "its Root, which starts nothing for it",
            path,
        )
    why = {
        errno.ENOENT: "; was it removed, or has this task another root folder or mounts?",
        errno.EMFILE: "; raise RLIMIT_NOFILE",
    }.get(error.errno or 0, "")
    what = f"the Root cannot be asked by its socket {path!r}: {error.strerror}{why}"
    return call_error(error.errno or errno.EIO, what, path)
