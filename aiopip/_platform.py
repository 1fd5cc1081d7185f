"""Whether this package can be used at all, asked whenever it is imported.

Loaded on another machine, the extension would fail with a message of the dynamic linker's that
names a missing symbol; this one names what is missing.  No other module of aiopip is imported here
where all is right, and none of the standard library that an interpreter has not loaded already:
see `__init__`.
"""

import os
import sys

OLDEST_GLIBC = (2, 34)
"""The first glibc with libpthread inside libc, which a task's ld.so is handed alone."""

_NEEDED = "aiopip needs Linux on x86-64 with glibc 2.34 or newer"


def check_platform() -> None:
    """Refuse to be imported where a task could not be started.

    Raises:
        ImportError: not Linux, not x86-64 (64 bits), no glibc (musl, for example), or one before
            2.34; the message says which.
    """
    if sys.platform != "linux":
        raise ImportError(f"{_NEEDED}; this system is {sys.platform}")
    machine = os.uname().machine
    if machine != "x86_64" or sys.maxsize <= 2**32:
        raise ImportError(f"{_NEEDED}; this machine is {machine}, {_bits()} bits")
    version = glibc_version()
    if version is None:
        raise ImportError(f"{_NEEDED}; this Python runs on another C library (musl?)")
    if version < OLDEST_GLIBC:
        raise ImportError(f"{_NEEDED}; this is glibc {version[0]}.{version[1]}")


def check_built(folder: str) -> None:
    """Refuse to be imported as sources whose native part is not built.

    The extension is looked for, which takes a microsecond, and not loaded.  When it is not found
    the import has the last word: a Python without the stable ABI gives it another name, and an
    importer of somebody else's may have it elsewhere.

    Args:
        folder: of the package.

    Raises:
        ImportError: it cannot be imported; the message says what to do.
    """
    if not os.access(f"{folder}/_native.abi3.so", os.R_OK):
        import aiopip._ffi  # noqa: F401


def glibc_version() -> tuple[int, int] | None:
    """The version of the glibc that this Python runs on.

    Returns:
        (major, minor), or None when its C library is not glibc.

    Source: confstr(3), _CS_GNU_LIBC_VERSION; musl's knows no such name, and answers EINVAL.
    """
    try:
        answer = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None
    name, _, version = (answer or "").partition(" ")
    major, _, minor = version.partition(".")
    digits = minor.partition(".")[0]
    if name != "glibc" or not (major.isdigit() and digits.isdigit()):
        return None
    return int(major), int(digits)


def _bits() -> int:
    return 64 if sys.maxsize > 2**32 else 32
