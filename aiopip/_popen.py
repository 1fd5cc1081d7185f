"""The keywords of `subprocess.Popen`, which asyncio's functions take, as options of a spawn.

Pure functions of their arguments: no process is started here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiopip._errors import InvalidArgumentError
from aiopip._spawn import TASKS_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiopip._request import StrOrBytesPath

SHELL = "/bin/sh"


class Command(NamedTuple):
    """What to start.

    Attributes:
        program: the file.
        args: its arguments, from argv[1] on.
        options: options of a spawn.
        pipe_bytes: how much each pipe shall hold, None for what the system has for it.
    """

    program: StrOrBytesPath
    args: tuple[StrOrBytesPath, ...]
    options: dict[str, Any]
    pipe_bytes: int | None


def exec_command(
    program: StrOrBytesPath, args: tuple[StrOrBytesPath, ...], keywords: Mapping[str, Any]
) -> Command:
    """What `create_subprocess_exec` is to start.

    Raises:
        ValueError: a keyword that asyncio refuses, with its words.
        InvalidArgumentError: one that asyncio takes and we do not; it names what there is instead.
    """
    left = dict(keywords)
    _refuse_as_asyncio(left, shell=False)
    file = left.pop("executable", None)
    if file is None:
        return Command(program, args, *_translate(left))
    left.setdefault("argv0", program)
    return Command(file, args, *_translate(left))


def shell_command(cmd: str | bytes, keywords: Mapping[str, Any]) -> Command:
    """What `create_subprocess_shell` is to start: `executable` is the shell there.

    Raises:
        ValueError: as `exec_command`.
    """
    left = dict(keywords)
    if not isinstance(cmd, str | bytes):
        raise ValueError("cmd must be a string")  # noqa: TRY004  asyncio's
    _refuse_as_asyncio(left, shell=True)
    file = left.pop("executable", None)
    return Command(SHELL if file is None else file, ("-c", cmd), *_translate(left))


def _refuse_as_asyncio(left: dict[str, Any], *, shell: bool) -> None:
    """Take out what asyncio has only to refuse all values but one."""
    if left.pop("universal_newlines", False):
        raise ValueError("universal_newlines must be False")
    if bool(left.pop("shell", shell)) is not shell:
        raise ValueError(f"shell must be {shell}")
    if left.pop("bufsize", 0) != 0:
        raise ValueError("bufsize must be 0")
    if left.pop("text", None):
        raise ValueError("text must be False")
    if left.pop("encoding", None) is not None:
        raise ValueError("encoding must be None")
    if left.pop("errors", None) is not None:
        raise ValueError("errors must be None")
    if left.pop("startupinfo", None) is not None:
        raise ValueError("startupinfo is only supported on Windows platforms")
    if left.pop("creationflags", 0) != 0:
        raise ValueError("creationflags is only supported on Windows platforms")


def _translate(left: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The other keywords: options by the names that spawn has for them, and `pipesize`."""
    for option in sorted(TASKS_ONLY & left.keys()):
        raise InvalidArgumentError(
            option, "it is for tasks, and this program may run as none; use `root.spawn`"
        )
    if not left.pop("restore_signals", True):
        raise InvalidArgumentError(
            "restore_signals",
            "False is not to be had: SIGPIPE and SIGXFSZ have their defaults in a new program; "
            'have a shell ignore them for it: sh -c \'trap "" PIPE; exec "$0" "$@"\' PROGRAM',
        )
    pipe_bytes = left.pop("pipesize", -1)
    for keyword, (option, is_default) in _RENAMED.items():
        if keyword in left:
            value = left.pop(keyword)
            if not is_default(value):
                left[option] = value
    if left.get("pass_fds"):
        left.pop("close_fds", None)  # which pass_fds implies, as Popen has it
    return left, pipe_bytes if pipe_bytes > 0 else None


_RENAMED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "preexec_fn": ("preexec_fn", lambda value: value is None),  # which spawn refuses
    "start_new_session": ("new_session", lambda value: not value),
    "process_group": ("process_group", lambda value: value is None or value == -1),
    "umask": ("umask", lambda value: value is None or value == -1),
    "close_fds": ("close_fds", bool),
    "pass_fds": ("pass_fds", lambda value: not value),
    "user": ("user", lambda value: value is None),
    "group": ("group", lambda value: value is None),
    "extra_groups": ("extra_groups", lambda value: value is None),
}
"""Keywords of Popen: the name of the option, and whether a value is the default of both."""
