"""The options of a spawn that are given seldom, checked and packed as the native core takes them.

Pure functions of their arguments.
"""

from __future__ import annotations

import dataclasses
import enum
import os
import signal
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypedDict

from aiopip._errors import InvalidArgumentError, whole_number

Limit = int | tuple[int, int]

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


class RareOptions(TypedDict, total=False):
    """Options that most spawns do without; `Root.spawn` documents them."""

    cpu: int | Iterable[int] | None
    stack_bytes: int | None
    umask: int | None
    rlimits: Mapping[int, Limit] | None
    nice: int | None
    sigmask: Collection[int] | None
    name: str | bytes | None


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
        given: `Given`: which of umask, nice and sigmask count.
        umask: the mask for files' permissions.
        nice: the nice value.
        sigmask: the blocked signals; bit 0 is signal 1.
        cpus: a set of processors, as sched_setaffinity(2) has it; empty: as the calling thread's.
        limits: the resource limits.
        name: the task's name, ended by NUL, None for the program's.
        stack_bytes: the size of its first thread's stack, 0 for the limit's.
    """

    given: int = 0
    umask: int = 0
    nice: int = 0
    sigmask: int = 0
    cpus: bytes = b""
    limits: tuple[PackedLimit, ...] = ()
    name: bytes | None = None
    stack_bytes: int = 0


NOTHING = PackedOptions()


def pack_options(options: RareOptions) -> PackedOptions | None:
    """Check and pack them; None when all are as by default.

    Raises:
        InvalidArgumentError: a value that cannot be.
    """
    packed = PackedOptions(**_facts(**options))
    return None if packed == NOTHING else packed


def _facts(
    *,
    cpu: int | Iterable[int] | None = None,
    stack_bytes: int | None = None,
    umask: int | None = None,
    rlimits: Mapping[int, Limit] | None = None,
    nice: int | None = None,
    sigmask: Collection[int] | None = None,
    name: str | bytes | None = None,
) -> dict[str, Any]:
    facts: dict[str, Any] = {"given": 0}
    if umask is not None:
        facts["given"] |= Given.UMASK
        facts["umask"] = _within("umask", umask, 0, 0o777, "{:#o}")
    if nice is not None:
        facts["given"] |= Given.NICE
        facts["nice"] = _within("nice", nice, -20, 19)
    if sigmask is not None:
        facts["given"] |= Given.SIGMASK
        facts["sigmask"] = _pack_signals(sigmask)
    if cpu is not None:
        facts["cpus"] = _pack_cpus(cpu)
    if rlimits is not None:
        facts["limits"] = _pack_limits(rlimits, stack_bytes is not None)
    if name is not None:
        facts["name"] = _pack_name(name)
    if stack_bytes is not None:
        facts["stack_bytes"] = _within("stack_bytes", stack_bytes, STACK_BYTES_MIN, 2**63 - 1)
    return facts


def _within(option: str, value: Any, least: int, most: int, shape: str = "{}") -> int:
    number = whole_number(option, value)
    if not least <= number <= most:
        bounds = f"{shape.format(least)} and {shape.format(most)}"
        raise InvalidArgumentError(option, f"{shape.format(number)} is not within {bounds}")
    return number


def _pack_signals(sigmask: Collection[int]) -> int:
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


def _pack_cpus(cpu: int | Iterable[int]) -> bytes:
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
