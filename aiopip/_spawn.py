"""One spawn: pipes made, arguments packed, the core asked.  Roots and groups spawn alike."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from aiopip._options import RareOptions
from aiopip._pipes import Pipes
from aiopip._request import SpawnFlags, pack

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from aiopip._core import Core
    from aiopip._descriptors import Stdio
    from aiopip._request import Environment, StrOrBytesPath
    from aiopip._state import Member
    from aiopip._task import Task


class PlainOptions(RareOptions, total=False):
    """The options of a spawn that need nothing done beforehand; `Root.spawn` documents them."""

    argv0: StrOrBytesPath | None
    env: Environment | None
    cwd: StrOrBytesPath | None
    pipid: int | None
    new_session: bool
    process_group: int | None
    stopped: bool


class SpawnOptions(PlainOptions, total=False):
    """All options of a spawn; `Root.spawn` documents them."""

    stdin: Stdio
    stdout: Stdio
    stderr: Stdio


TASKS_ONLY = frozenset({"entry", "arg", "share", "stack_bytes", "stopped"})
"""Options that say how a program runs as a task: one that cannot be a task has no use for them."""


async def spawn(
    core: Core,
    member: Member | None,
    program: StrOrBytesPath,
    args: tuple[StrOrBytesPath, ...],
    *,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    **options: Unpack[PlainOptions],
) -> Task:
    """Start a program as a task; `Root.spawn` has the contract.

    Args:
        core: the Root's.
        member: what the task is in a group, if it is of any.
        program: what to start.
        args: its arguments.
        stdin: may be PIPE here, as may
        stdout: this, and
        stderr: this.
        options: the others.
    """
    with Pipes(program, stdin, stdout, stderr) as pipes:
        request = pack(program, args, stdio=pipes.stdio, max_tasks=core.max_tasks, **options)
        return await core.spawn(request, pipes, member)


async def start(
    core: Core,
    member: Member | None,
    program: StrOrBytesPath,
    args: tuple[StrOrBytesPath, ...],
    pipes: Pipes,
    **options: Unpack[PlainOptions],
) -> Task:
    """Start a program for the caller alone, who waits for its end: no `wait_any` is given it.

    One that cannot be a task runs in a process of its own, unless an option is for tasks only.

    Args:
        core: the Root's.
        member: what it is in a group, if it is of any.
        program: what to start.
        args: its arguments.
        pipes: its pipes.
        options: those of `Root.spawn`.
    """
    request = pack(program, args, stdio=pipes.stdio, max_tasks=core.max_tasks, **options)
    if not any(value for option, value in options.items() if option in TASKS_ONLY):
        request = dataclasses.replace(request, flags=request.flags | SpawnFlags.EXEC)
    return await core.spawn(request, pipes, member, awaited=True)
