"""A task's descriptors: stdin, stdout, stderr, pass_fds and fd_map, checked and packed.

Pure functions of their arguments.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from aiopip._errors import InvalidArgumentError, whole_number


class HasFileno(Protocol):
    """An open file, a socket, a pipe's end: anything with a descriptor."""

    def fileno(self) -> int:
        """Its descriptor."""


FileOrDescriptor = int | HasFileno
Stdio = FileOrDescriptor | None
PackedStdio = tuple[int, int, int]

# enum aiopip_stdio
INHERIT = -1
NULL = -2
TO_STDOUT = -3

NAMES = ("stdin", "stdout", "stderr")

_NUMBER_MAX = 2**31 - 1


class PackedDescriptor(NamedTuple):
    """`struct aiopip_descriptor`.

    Attributes:
        number: the task's, from 3 on.
        source: the root's.
        passed: whether it was asked for by pass_fds.
    """

    number: int
    source: int
    passed: bool


def pack_stdio(stdio: tuple[Stdio, Stdio, Stdio]) -> PackedStdio:
    """Descriptors of the root, or INHERIT, NULL, TO_STDOUT.

    Raises:
        InvalidArgumentError: one is neither.
    """
    stdin, stdout, stderr = stdio
    return (
        _pack_one("stdin", stdin),
        _pack_one("stdout", stdout),
        TO_STDOUT if stderr == subprocess.STDOUT else _pack_one("stderr", stderr),
    )


def _pack_one(option: str, value: Stdio) -> int:
    if value is None:
        return INHERIT
    if not isinstance(value, bool):
        if value == subprocess.DEVNULL:
            return NULL
        if value == subprocess.STDOUT:
            raise InvalidArgumentError(option, "STDOUT is for stderr alone")
    return _number_of(option, value)


def _number_of(option: str, value: FileOrDescriptor) -> int:
    if isinstance(value, bool):
        raise InvalidArgumentError(option, f"{value!r} is no descriptor")
    try:
        descriptor = value if isinstance(value, int) else value.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise InvalidArgumentError(option, f"{value!r} has no descriptor: {error}") from None
    if not 0 <= descriptor <= _NUMBER_MAX:
        raise InvalidArgumentError(option, f"{descriptor} is no descriptor")
    return descriptor


def pack_descriptors(
    stdio: PackedStdio,
    pass_fds: Iterable[FileOrDescriptor],
    fd_map: Mapping[int, FileOrDescriptor] | None,
) -> tuple[PackedStdio, tuple[PackedDescriptor, ...], int]:
    """Pack what a task gets beside stdin, stdout and stderr, or in their places.

    Returns:
        stdio, with what fd_map has for 0 to 2; the others by number; and a bit for each of 0 to 2
        that comes from fd_map.

    Raises:
        InvalidArgumentError: a descriptor is none, or two options say what one number is.
    """
    wanted = _wanted(pass_fds, fd_map)
    sources, mapped = list(stdio), 0
    for number, (source, passed) in wanted.items():
        if number > 2:
            continue
        if stdio[number] != INHERIT:
            option = "pass_fds" if passed else "fd_map"
            raise InvalidArgumentError(
                option, f"{NAMES[number]} says what {number} is; give one of the two"
            )
        if not passed:
            sources[number] = source
            mapped |= 1 << number
    listed = sorted((number, *found) for number, found in wanted.items() if number > 2)
    stdin, stdout, stderr = sources
    return (stdin, stdout, stderr), tuple(PackedDescriptor(*one) for one in listed), mapped


def _wanted(
    pass_fds: Iterable[FileOrDescriptor], fd_map: Mapping[int, FileOrDescriptor] | None
) -> dict[int, tuple[int, bool]]:
    """The source of each of the task's numbers, and whether it was passed."""
    if isinstance(pass_fds, str | bytes) or not isinstance(pass_fds, Iterable):
        raise TypeError(f"pass_fds: {pass_fds!r} is no collection of descriptors or files")
    if not isinstance(fd_map, Mapping | None):
        raise TypeError(f"fd_map: {fd_map!r} is no mapping of numbers to descriptors or files")
    wanted = {}
    for passed in pass_fds:
        number = _number_of("pass_fds", passed)
        wanted[number] = number, True
    for key, value in (fd_map or {}).items():
        number = whole_number("fd_map", key)
        if not 0 <= number <= _NUMBER_MAX:
            raise InvalidArgumentError("fd_map", f"{number} is no number of a descriptor")
        if number in wanted:
            raise InvalidArgumentError("fd_map", f"{number} is in pass_fds, too; give one of them")
        wanted[number] = _number_of(f"fd_map[{number}]", value), False
    return wanted
