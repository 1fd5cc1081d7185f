"""The options of a spawn that are given seldom, checked and packed as the native core takes them.

Pure functions of their arguments.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypedDict

from aiopip._descriptors import (
    INHERIT,
    NAMES,
    FileOrDescriptor,
    PackedDescriptor,
    PackedStdio,
    pack_descriptors,
)
from aiopip._errors import InvalidArgumentError, whole_number

Limit = int | tuple[int, int]
Argument = bytes | bytearray | memoryview | int

NAME_BYTES_MAX = 15
"""The kernel keeps no more of a process's name."""

STACK_BYTES_MIN = 256 << 10

_CPUS = 8192
_NONE = 2**64 - 1
"""RLIM_INFINITY, which Python's resource module has as -1."""


class Given(enum.IntFlag):
    """`enum aiopip_option`."""

    UMASK = 1
    NICE = 2
    SIGMASK = 4
    INHERIT = 8
    SHARE_FILES = 16
    SHARE_FS = 32
    USER = 64
    GROUP = 128
    EXTRA_GROUPS = 256


class Share(enum.Flag):
    """What a task shares with its Root in place of a copy of its own.

    What a task changes of it is changed for the Root and all that share it, and stays so behind its
    end.  Both are given as `Share.FILES | Share.FS`.

    Source: clone(2), CLONE_FILES and CLONE_FS; sproc(2) of IRIX.
    """

    NONE = 0
    FILES = 1
    """The descriptors: one that either opens is open in the other, by the same number."""
    FS = 2
    """The working folder, the root folder and the umask."""


class RareOptions(TypedDict, total=False):
    """Options that most spawns do without; `Root.spawn` documents them."""

    pass_fds: Iterable[FileOrDescriptor]
    fd_map: Mapping[int, FileOrDescriptor] | None
    close_fds: bool
    cpu: int | Iterable[int] | None
    entry: str | bytes | None
    arg: Argument | None
    share: Share
    stack_bytes: int | None
    umask: int | None
    rlimits: Mapping[int, Limit] | None
    nice: int | None
    sigmask: Collection[int] | None
    name: str | bytes | None
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    preexec_fn: None


@dataclasses.dataclass(frozen=True)
class PackedLimit:
    """`struct aiopip_limit`."""

    resource: int
    keeps_hard: bool
    soft: int
    hard: int


@dataclasses.dataclass(frozen=True)
class PackedOptions:
    """`struct aiopip_spawn_options`.

    Attributes:
        given: `Given`: which of umask, nice, sigmask, user, group and extra_groups count; what is
            inherited and shared.
        umask: the mask for files' permissions.
        nice: the nice value.
        sigmask: the blocked signals; bit 0 is signal 1.
        cpus: a set of processors, as sched_setaffinity(2) has it; empty: as the calling thread's.
        limits: the resource limits.
        descriptors: those beside 0 to 2, by number.
        mapped_stdio: a bit for each of 0 to 2 that comes from fd_map.
        user: all of its user IDs.
        group: all of its group IDs.
        extra_groups: the further groups.
        entry: the function that runs in place of main, ended by NUL, or None.
        arg: what it gets: bytes, ended by NUL, a pointer to a copy of which it gets; or an address.
        name: the task's name, ended by NUL, None for the program's.
        stack_bytes: the size of its first thread's stack, 0 for the limit's.
    """

    given: int = 0
    umask: int = 0
    nice: int = 0
    sigmask: int = 0
    cpus: bytes = b""
    limits: tuple[PackedLimit, ...] = ()
    descriptors: tuple[PackedDescriptor, ...] = ()
    mapped_stdio: int = 0
    user: int = 0
    group: int = 0
    extra_groups: tuple[int, ...] = ()
    entry: bytes | None = None
    arg: bytes | int = 0
    name: bytes | None = None
    stack_bytes: int = 0


NOTHING = PackedOptions()

_NO_PREEXEC = (
    "nothing of this program can run in a task, which has our memory and no interpreter of its own "
    "until its own program runs; use cwd, umask, rlimits, nice, cpu, sigmask, new_session, "
    "process_group, user, group, extra_groups, pass_fds and fd_map, and for the rest have the "
    "program do it, or a script that execs it"
)


def pack_options(
    options: RareOptions, stdio: PackedStdio, has_cwd: bool
) -> tuple[PackedStdio, PackedOptions | None]:
    """Check and pack them.

    Args:
        options: what was given.
        stdio: what the task's stdin, stdout and stderr are.
        has_cwd: whether it has a folder of its own.

    Returns:
        stdio, with what fd_map has for it; and the options, None when all are as by default.

    Raises:
        InvalidArgumentError: a value that cannot be, or options that exclude each other.
    """
    stdio, facts = _facts(stdio, has_cwd, **options)
    packed = PackedOptions(**facts)
    return stdio, None if packed == NOTHING else packed


def _facts(
    stdio: PackedStdio,
    has_cwd: bool,
    *,
    pass_fds: Iterable[FileOrDescriptor] = (),
    fd_map: Mapping[int, FileOrDescriptor] | None = None,
    close_fds: bool = True,
    cpu: int | Iterable[int] | None = None,
    entry: str | bytes | None = None,
    arg: Argument | None = None,
    share: Share = Share.NONE,
    stack_bytes: int | None = None,
    umask: int | None = None,
    rlimits: Mapping[int, Limit] | None = None,
    nice: int | None = None,
    sigmask: Collection[int] | None = None,
    name: str | bytes | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    preexec_fn: object = None,
) -> tuple[PackedStdio, dict[str, Any]]:
    if preexec_fn is not None:
        raise InvalidArgumentError("preexec_fn", _NO_PREEXEC)
    facts: dict[str, Any] = {"given": 0}
    if umask is not None:
        facts["given"] |= Given.UMASK
        facts["umask"] = _within("umask", umask, 0, 0o777, "{:#o}")
    if nice is not None:
        facts["given"] |= Given.NICE
        facts["nice"] = _within("nice", nice, -20, 19)
    if sigmask is not None:
        facts["given"] |= Given.SIGMASK
        facts["sigmask"] = pack_signals(sigmask)
    _pack_entry(facts, entry, arg)
    _pack_credentials(facts, user, group, extra_groups)
    if cpu is not None:
        facts["cpus"] = pack_cpus(cpu)
    if rlimits is not None:
        facts["limits"] = _pack_limits(rlimits, stack_bytes is not None)
    if name is not None:
        facts["name"] = _pack_name(name)
    if stack_bytes is not None:
        facts["stack_bytes"] = _within("stack_bytes", stack_bytes, STACK_BYTES_MIN, 2**63 - 1)
    own = [name for name, at in zip(NAMES, stdio, strict=True) if at != INHERIT]
    stdio, facts["descriptors"], facts["mapped_stdio"] = pack_descriptors(stdio, pass_fds, fd_map)
    own += [name for name, value in (("pass_fds", pass_fds), ("fd_map", fd_map)) if value]
    facts["given"] |= _pack_share(
        share,
        files=own,
        fs=[name for name, given in (("cwd", has_cwd), ("umask", umask is not None)) if given],
    )
    if not close_fds:
        facts["given"] |= Given.INHERIT
    return stdio, facts


def _pack_share(share: Share, *, files: list[str], fs: list[str]) -> int:
    """The bits of what is shared; files and fs: the options that it excludes and that are given."""
    if not isinstance(share, Share):
        raise TypeError(f"share: {share!r} is no aiopip.Share")
    given = 0
    for what, flag, excluded in (
        (Share.FILES, Given.SHARE_FILES, files),
        (Share.FS, Given.SHARE_FS, fs),
    ):
        if what not in share:
            continue
        given |= flag
        if excluded:
            raise InvalidArgumentError(
                excluded[0],
                f"with share={what} it would be changed for the Root, too; leave out one of them",
            )
    return given


def _within(option: str, value: Any, least: int, most: int, shape: str = "{}") -> int:
    number = whole_number(option, value)
    if not least <= number <= most:
        bounds = f"{shape.format(least)} and {shape.format(most)}"
        raise InvalidArgumentError(option, f"{shape.format(number)} is not within {bounds}")
    return number


def pack_signals(sigmask: Collection[int]) -> int:
    """A set of signals; bit 0 is signal 1."""
    if isinstance(sigmask, str | bytes) or not isinstance(sigmask, Iterable):
        raise TypeError(f"sigmask: {sigmask!r} is no set of signals")
    mask = 0
    for one in sigmask:
        number = whole_number("sigmask", one)
        # Those that are missing among the valid ones (32, 33) are libc's own.
        if number not in signal.valid_signals():
            raise InvalidArgumentError("sigmask", f"{number} is no signal that can be blocked")
        mask |= 1 << (number - 1)
    return mask


def _user_named(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


def _group_named(name: str) -> int:
    import grp

    return grp.getgrnam(name).gr_gid


def _identity(option: str, value: Any, named: Callable[[str], int]) -> int:
    if not isinstance(value, str):
        # The last one says "as it is" to the kernel.
        return _within(option, value, 0, 2**32 - 2)
    try:
        return named(value)
    except (KeyError, ValueError):
        kind = "user" if option == "user" else "group"
        raise InvalidArgumentError(option, f"there is no {kind} {value!r}") from None


def _pack_entry(facts: dict[str, Any], entry: str | bytes | None, arg: Argument | None) -> None:
    if entry is None:
        if arg is not None:
            raise InvalidArgumentError("arg", "it is for the function that entry names")
        return
    if not isinstance(entry, str | bytes):
        raise TypeError(f"entry: {entry!r} is neither str nor bytes")
    encoded = os.fsencode(entry)
    if not encoded or b"\0" in encoded:
        raise InvalidArgumentError("entry", f"{entry!r} is no name of a function")
    facts["entry"] = encoded + b"\0"
    if isinstance(arg, bytes | bytearray | memoryview):
        facts["arg"] = bytes(arg) + b"\0"
    elif arg is not None:
        facts["arg"] = _within("arg", arg, 0, 2**64 - 1, "{:#x}")


def _pack_credentials(
    facts: dict[str, Any],
    user: str | int | None,
    group: str | int | None,
    extra_groups: Iterable[str | int] | None,
) -> None:
    if user is not None:
        facts["given"] |= Given.USER
        facts["user"] = _identity("user", user, _user_named)
    if group is not None:
        facts["given"] |= Given.GROUP
        facts["group"] = _identity("group", group, _group_named)
    if extra_groups is not None:
        facts["given"] |= Given.EXTRA_GROUPS
        facts["extra_groups"] = _pack_groups(extra_groups)


def _pack_groups(groups: Iterable[str | int]) -> tuple[int, ...]:
    if isinstance(groups, str | bytes) or not isinstance(groups, Iterable):
        raise TypeError(f"extra_groups: {groups!r} is no collection of groups")
    return tuple(_identity("extra_groups", group, _group_named) for group in groups)


def pack_cpus(cpu: int | Iterable[int]) -> bytes:
    """A set of processors, as sched_setaffinity(2) has it."""
    if isinstance(cpu, str | bytes):
        raise TypeError(f"cpu: {cpu!r} is neither the number of a processor nor a set of them")
    chosen = 0
    for one in cpu if isinstance(cpu, Iterable) else (cpu,):
        chosen |= 1 << _within("cpu", one, 0, _CPUS - 1)
    if not chosen:
        raise InvalidArgumentError("cpu", "no processor is left: give one, or a set of them")
    words = (chosen.bit_length() + 63) // 64
    return chosen.to_bytes(8 * words, "little")


def _pack_limits(rlimits: Mapping[int, Limit], has_stack: bool) -> tuple[PackedLimit, ...]:
    import resource

    if not isinstance(rlimits, Mapping):
        raise TypeError(f"rlimits: {rlimits!r} is no mapping of resource.RLIMIT_* to limits")
    if has_stack and resource.RLIMIT_STACK in rlimits:
        raise InvalidArgumentError(
            "rlimits", "RLIMIT_STACK is set by stack_bytes; give one of the two"
        )
    return tuple(_pack_limit(number, limit) for number, limit in rlimits.items())


def _pack_limit(number: int, limit: Limit) -> PackedLimit:
    number = _within("rlimits", number, 0, 2**31 - 1)
    option = f"rlimits[{number}]"
    if not isinstance(limit, tuple | list):
        return PackedLimit(number, True, _limit_value(option, limit), 0)
    if len(limit) != 2:
        raise InvalidArgumentError(
            option, f"{limit!r} is neither the soft limit nor a pair of soft and hard limit"
        )
    soft, hard = (_limit_value(option, value) for value in limit)
    if soft > hard:
        raise InvalidArgumentError(option, f"{limit!r}: the soft limit is above the hard one")
    return PackedLimit(number, False, soft, hard)


def _limit_value(option: str, value: Any) -> int:
    number = whole_number(option, value)
    return _NONE if number == -1 else _within(option, number, 0, _NONE)


def _pack_name(name: str | bytes) -> bytes:
    if not isinstance(name, str | bytes):
        raise TypeError(f"name: {name!r} is neither str nor bytes")
    encoded = os.fsencode(name)
    if not encoded or b"\0" in encoded or len(encoded) > NAME_BYTES_MAX:
        raise InvalidArgumentError(
            "name", f"{name!r} does not have 1 to {NAME_BYTES_MAX} bytes without a NUL"
        )
    return encoded + b"\0"
