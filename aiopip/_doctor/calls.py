"""Which system calls this machine has and allows: each is made once, so that it changes nothing.

By number and in this process: what is refused here, by a kernel without it or by a sandbox, is
refused to the native core as well.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Of x86-64; Python knows only some of them, from 3.9 to 3.13 on.
SYS_KCMP = 312
SYS_MEMFD_CREATE = 319
SYS_PIDFD_OPEN = 434
SYS_CLONE3 = 435
SYS_CLOSE_RANGE = 436
SYS_PIDFD_GETFD = 438
SYS_FUTEX_WAITV = 449

CLOSE_RANGE_UNSHARE = 2
MFD_CLOEXEC = 1
KCMP_VM = 1
PR_GET_MDWE = 66
PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xff, 11, 64 bytes)
PIDFD_INFO_EXIT = 8
PROCMAP_QUERY = 0xC0686611  # _IOWR('f', 17, 104 bytes)
PROCMAP_QUERY_BYTES = 104
PROCMAP_COVERING_OR_NEXT = 0x10


def probe_calls() -> dict[str, int]:
    """By the name of each: 0 when it works, else the errno that it is refused with."""
    return {name: _refusal(probe) for name, probe in _PROBES.items()}


def mdwe() -> int:
    """The answer of PR_GET_MDWE: the flags of PR_SET_MDWE, 0 where the kernel knows none."""
    return max(int(ctypes.CDLL(None).prctl(PR_GET_MDWE, 0, 0, 0, 0)), 0)


def _refusal(probe: Callable[[], None]) -> int:
    try:
        probe()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _call(number: int, *args: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(*map(ctypes.c_long, (number, *args))))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _refuse_as_invalid(number: int, *args: int) -> None:
    """Make a call with arguments that only those who have it can find fault with."""
    try:
        _call(number, *args)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _clone3() -> None:
    _refuse_as_invalid(SYS_CLONE3, 0, 0)  # arguments of no size


def _close_range() -> None:
    # From 1 to 0, which is found after the flag was.  A range that is right would take this
    # thread's descriptors from the other threads.
    _refuse_as_invalid(SYS_CLOSE_RANGE, 1, 0, CLOSE_RANGE_UNSHARE)


def _futex_waitv() -> None:
    _refuse_as_invalid(SYS_FUTEX_WAITV, 0, 0, 0, 0, 0)  # no futexes


def _kcmp() -> None:
    _call(SYS_KCMP, os.getpid(), os.getpid(), KCMP_VM, 0, 0)


def _memfd_create() -> None:
    name = ctypes.create_string_buffer(b"aiopip-doctor")
    os.close(_call(SYS_MEMFD_CREATE, ctypes.addressof(name), MFD_CLOEXEC))


def _pidfd_open() -> None:
    os.close(_call(SYS_PIDFD_OPEN, os.getpid(), 0))


def _pidfd_getfd() -> None:
    pidfd = _call(SYS_PIDFD_OPEN, os.getpid(), 0)
    try:
        os.close(_call(SYS_PIDFD_GETFD, pidfd, pidfd, 0))
    finally:
        os.close(pidfd)


def _pidfd_get_info() -> None:
    """ENODATA: it tells no exit status, as before 6.15; then it is told of a reaped process."""
    pid = os.posix_spawnp("true", ["true"], os.environ)
    try:
        pidfd = _call(SYS_PIDFD_OPEN, pid, 0)
    finally:
        os.waitpid(pid, 0)
    try:
        info = bytearray(struct.pack("=Q56x", PIDFD_INFO_EXIT))
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
        if not struct.unpack_from("=Q", info)[0] & PIDFD_INFO_EXIT:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
    except ProcessLookupError:
        raise OSError(errno.ENODATA, os.strerror(errno.ENODATA)) from None
    finally:
        os.close(pidfd)


def _procmap_query() -> None:
    query = bytearray(PROCMAP_QUERY_BYTES)
    struct.pack_into("=QQQ", query, 0, PROCMAP_QUERY_BYTES, PROCMAP_COVERING_OR_NEXT, 0)
    with Path("/proc/self/maps").open("rb") as maps:
        fcntl.ioctl(maps, PROCMAP_QUERY, query)


_PROBES: dict[str, Callable[[], None]] = {
    "clone3": _clone3,
    "pidfd_open": _pidfd_open,
    "pidfd_getfd": _pidfd_getfd,
    "close_range": _close_range,
    "kcmp": _kcmp,
    "futex_waitv": _futex_waitv,
    "memfd_create": _memfd_create,
    "PIDFD_GET_INFO": _pidfd_get_info,
    "PROCMAP_QUERY": _procmap_query,
}
