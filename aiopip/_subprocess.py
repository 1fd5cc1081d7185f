"""asyncio's functions by their names, for the Root that is open: a program moves by one name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiopip._lifetime import current_root

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from aiopip._descriptors import Stdio
    from aiopip._request import StrOrBytesPath


async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    limit: int = 2**16,
    **options: Any,
) -> Process:
    """`Root.create_subprocess_exec` of the Root that is open in this process.

    Raises:
        NotInitializedError: none is open (EPERM).
    """
    return await current_root().create_subprocess_exec(
        program, *args, stdin=stdin, stdout=stdout, stderr=stderr, limit=limit, **options
    )


async def create_subprocess_shell(
    cmd: str | bytes,
    stdin: Stdio = None,
    stdout: Stdio = None,
    stderr: Stdio = None,
    limit: int = 2**16,
    **options: Any,
) -> Process:
    """`Root.create_subprocess_shell` of the Root that is open in this process.

    Raises:
        NotInitializedError: none is open (EPERM).
    """
    return await current_root().create_subprocess_shell(
        cmd, stdin=stdin, stdout=stdout, stderr=stderr, limit=limit, **options
    )
