"""The arguments of spawn, checked and packed as the native core takes them.

Pure functions of their arguments and of `os.environ`: no process is started here.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aiopip._descriptors import PackedStdio, Stdio, pack_stdio
from aiopip._errors import InvalidArgumentError, whole_number
from aiopip._options import PackedOptions, RareOptions, pack_options
from aiopip._spawn_errors import ProgramNotFoundError

if TYPE_CHECKING:
    from typing_extensions import Unpack

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Environment = Mapping[str, str] | Mapping[bytes, bytes] | Mapping[str | bytes, str | bytes]


PIPID_ANY = -1


class SpawnFlags(enum.IntFlag):
    """`enum aiopip_spawn_flags`."""

    NEW_SESSION = 1
    PROCESS_GROUP = 2
    STOPPED = 4
    EXEC = 1 << 16


_PID_MAX = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class SpawnRequest:
    """`struct aiopip_spawn_request`; the bytes that are C strings end with NUL.

    Attributes:
        program: the program's path or name.
        argv: the arguments, each ended by NUL.
        argc: their number.
        envp: the environment's NAME=VALUE, each ended by NUL; None for this process's and PATH.
        envc: their number.
        path_list: PATH of that environment, None when it has none.
        cwd: the folder to start in, None for the root's.
        stdio: three descriptors, or INHERIT, NULL, TO_STDOUT.
        pipid: the slot wanted, or PIPID_ANY.
        flags: what is asked for beyond that.
        process_group: the group to join, 0 for one of its own; with PROCESS_GROUP.
        options: what is given seldom, None when none of it was.
    """

    program: bytes
    argv: bytes
    argc: int
    envp: bytes | None
    envc: int
    path_list: bytes | None
    cwd: bytes | None
    stdio: PackedStdio
    pipid: int
    flags: SpawnFlags
    process_group: int
    options: PackedOptions | None

    @property
    def program_text(self) -> str:
        """The program as the caller gave it."""
        return os.fsdecode(self.program[:-1])

    @property
    def path_text(self) -> str | None:
        """PATH of the task's environment."""
        if self.envp is None:
            return os.environ.get("PATH")
        return None if self.path_list is None else os.fsdecode(self.path_list[:-1])

    @property
    def given_name(self) -> str | None:
        """What the task shall be called, None for the last part of the program's path."""
        if self.options is None or self.options.name is None:
            return None
        return os.fsdecode(self.options.name[:-1])


def pack(
    program: StrOrBytesPath,
    args: Iterable[StrOrBytesPath],
    *,
    stdio: tuple[Stdio, Stdio, Stdio],
    max_tasks: int,
    argv0: StrOrBytesPath | None = None,
    env: Environment | None = None,
    cwd: StrOrBytesPath | None = None,
    pipid: int | None = None,
    new_session: bool = False,
    process_group: int | None = None,
    stopped: bool = False,
    **rare: Unpack[RareOptions],
) -> SpawnRequest:
    """Check and pack the arguments of one spawn.

    Raises:
        InvalidArgumentError: a value that no execve() takes, or that spawn does not.
        ProgramNotFoundError: the program's name is empty.
    """
    path = _encode("program", program)
    if not path:
        raise ProgramNotFoundError("")
    argv = [path if argv0 is None else _encode("argv0", argv0)]
    argv += [_encode(f"argument {number}", arg) for number, arg in enumerate(args, 1)]
    variables = {} if env is None else _variables(env)
    path_list = variables.get(b"PATH")
    folder = None if cwd is None else _encode("cwd", cwd)
    descriptors, options = pack_stdio(stdio), None
    if rare:
        descriptors, options = pack_options(rare, descriptors, cwd is not None)
    return SpawnRequest(
        program=path + b"\0",
        argv=b"\0".join(argv) + b"\0",
        argc=len(argv),
        envp=None if env is None else _pack_variables(variables),
        envc=len(variables),
        path_list=None if path_list is None else path_list + b"\0",
        cwd=None if folder is None else folder + b"\0",
        stdio=descriptors,
        pipid=_pack_pipid(pipid, max_tasks),
        flags=_pack_flags(
            {
                SpawnFlags.NEW_SESSION: new_session,
                SpawnFlags.PROCESS_GROUP: process_group is not None,
                SpawnFlags.STOPPED: stopped,
            }
        ),
        process_group=_pack_group(process_group, new_session),
        options=options,
    )


def _encode(argument: str, value: StrOrBytesPath) -> bytes:
    try:
        encoded = os.fsencode(value)
    except TypeError as error:
        raise TypeError(f"{argument}: {error}") from None
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(argument, f"{value!r} cannot be encoded: {error}") from None
    if b"\0" in encoded:
        raise InvalidArgumentError(argument, f"{value!r} contains a NUL character")
    return encoded


def _variables(env: Environment) -> dict[bytes, bytes]:
    if not isinstance(env, Mapping):
        raise TypeError(f"env: {env!r} is no mapping of names to values, as os.environ is")
    variables = {}
    for name, value in env.items():
        key = _encode(f"env, name {name!r}", name)
        if not key or b"=" in key:
            raise InvalidArgumentError("env", f"{name!r} cannot be the name of a variable")
        variables[key] = _encode(f"env[{name!r}]", value)
    return variables


def _pack_variables(variables: Mapping[bytes, bytes]) -> bytes:
    return b"".join([b"%b=%b\0" % variable for variable in variables.items()])


def _pack_pipid(pipid: int | None, max_tasks: int) -> int:
    if pipid is None:
        return PIPID_ANY
    pipid = whole_number("pipid", pipid)
    if not 0 <= pipid < max_tasks:
        raise InvalidArgumentError("pipid", f"{pipid} is not within 0 and {max_tasks - 1}")
    return pipid


def _pack_flags(wanted: Mapping[SpawnFlags, bool]) -> SpawnFlags:
    flags = SpawnFlags(0)
    for flag, is_wanted in wanted.items():
        if is_wanted:
            flags |= flag
    return flags


def _pack_group(process_group: int | None, new_session: bool) -> int:
    if process_group is None:
        return 0
    process_group = whole_number("process_group", process_group)
    if not 0 <= process_group <= _PID_MAX:
        raise InvalidArgumentError(
            "process_group",
            f"{process_group} is no process group; 0 makes one of the task's own, a group's ID "
            "joins that",
        )
    if new_session:
        raise InvalidArgumentError(
            "process_group",
            "a session's leader leads a process group of its own, and cannot leave it; give "
            "new_session or process_group",
        )
    return process_group
