"""The folder of a user's Roots: their sockets, for those Roots and for `aiopip ps`.

They are in $XDG_RUNTIME_DIR/aiopip, which no other user can enter, and else in /tmp/aiopip-UID,
which is ours alone or is not used.  A socket is named PID.RANDOM.  One whose process was killed
stays; it is removed by who finds that nobody listens on it.  A socket gets its name when it listens
already, so one that refuses connections is nobody's.

There is one file besides, `loader`: what the native core has learned of ld.so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_MAX = 80
"""Bytes that $XDG_RUNTIME_DIR may have, of the 107 that unix(7) allows to a socket's path."""

CONNECT_S = 5.0
"""How long a Root may take to have room among those who wait for it, and again to answer."""


def folder() -> Path:
    """The folder for a new socket, made if it is not there.

    Raises:
        OSError: it cannot be made, or is not ours alone.
    """
    found = next(folders())
    with contextlib.suppress(FileExistsError):
        found.mkdir(mode=0o700)
    if not is_ours_alone(found):
        raise PermissionError(f"{found} is no folder, or others can enter it")
    return found


def folders() -> Iterator[Path]:
    """The folders in which sockets of this user may be; that for a new one comes first.

    A Root that was started by a service has no $XDG_RUNTIME_DIR, and one under another user's, as
    sudo leaves it, does not use it.
    """
    user = os.geteuid()
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and len(os.fsencode(base)) <= BASE_MAX and _is_ours(Path(base)):
        yield Path(base) / "aiopip"
    yield Path(f"/tmp/aiopip-{user}")
    usual = Path(f"/run/user/{user}")
    if str(usual) != base.rstrip("/"):
        yield usual / "aiopip"


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def is_ours_alone(path: Path) -> bool:
    """Whether it is a folder of this user that nobody else can enter."""
    return _is_ours(path) and not path.lstat().st_mode & 0o077


def listening() -> tuple[int, Path]:
    """A socket that listens in the folder, as a descriptor above 0 to 2, and its path.

    Raises:
        OSError: the folder is of no use, or there is no descriptor left.
    """
    place = folder()
    clean(place)
    path = place / f"{os.getpid()}.{os.urandom(4).hex()}"
    draft = path.with_name(f".{path.name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as made:
        try:
            made.bind(str(draft))
            draft.chmod(0o600)
            made.listen()
            # Tasks inherit 0 to 2, which are free where a Root has closed its own.
            descriptor = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 3)
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    return descriptor, path


def clean(place: Path) -> None:
    """Remove the sockets of processes that are gone.

    Those whose process is there are not asked: a Root is not to be troubled by each new one.
    """
    for path in place.iterdir():
        pid = path.name.removeprefix(".").partition(".")[0]  # drafts, too
        if pid.isdecimal() and not Path("/proc", pid).exists():
            # It may be in another PID namespace; then it answers, and stays.
            with contextlib.suppress(OSError):
                connected(path, timeout_s=0).close()


def sockets(place: Path) -> list[Path]:
    """The sockets in a folder; none when it is not there or not ours alone."""
    if not is_ours_alone(place):
        return []
    return sorted(path for path in place.iterdir() if path.name[0].isdecimal())


def connected(path: Path, timeout_s: float = CONNECT_S) -> socket.socket:
    """Connect to a Root.  The socket of one that is gone is removed.

    Args:
        path: of its socket.
        timeout_s: how long that, and each wait for its answer, may take.

    Raises:
        OSError: it is gone (ECONNREFUSED, ENOENT), or too many wait for it (EAGAIN, TimeoutError).
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.settimeout(timeout_s)
        made.connect(str(path))
    except ConnectionRefusedError:
        made.close()
        path.unlink(missing_ok=True)
        raise
    except OSError:
        made.close()
        raise
    return made
