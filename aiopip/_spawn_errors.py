"""What a spawn can fail at: the errors, and the table from the core's failure codes to them.

`_errors` has the rest of the tree and draws all of it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from aiopip._errors import CallError, NotPermittedError, blend
from aiopip._records import Failed, Failure

if TYPE_CHECKING:
    from collections.abc import Callable


class SpawnError(CallError):
    """A program could not be started as a task; its subclasses say why."""

    def __init__(self, number: int, program: str, why: str, filename: str | None = None) -> None:
        """Take the errno, the program as it was given, and what stood in the way."""
        # Not super(): in PrivilegedProgramError that is NotPermittedError, which takes other facts.
        CallError.__init__(self, number, f"cannot start {program!r} as a task: {why}", filename)


class ProgramNotFoundError(SpawnError, FileNotFoundError):
    """There is no such program (ENOENT)."""

    def __init__(self, program: str, path_list: str | None = None) -> None:
        """Take the program as given, and the PATH in which its name was searched, if it was."""
        if not program:
            why = "its name is empty"
        elif "/" in program:
            why = "no such file"
        elif path_list is None:
            why = "not found in the system's default path, for its environment has no PATH"
        else:
            why = f"not found in its environment's PATH ({path_list})"
        super().__init__(errno.ENOENT, program, why, program)


class InterpreterNotFoundError(ProgramNotFoundError):
    """The interpreter that the program's #! line or ELF header names does not exist (ENOENT)."""

    def __init__(self, program: str, interpreter: str) -> None:
        """Take the program and the interpreter's path; `.filename` is the latter."""
        why = f"its interpreter {interpreter!r} does not exist; install it, or correct the #! line"
        SpawnError.__init__(self, errno.ENOENT, program, why, interpreter)


class NotExecutableError(SpawnError, PermissionError):
    """The program is a directory, or may not be executed (EACCES)."""

    def __init__(self, program: str, why: str) -> None:
        """Take the program and the reason."""
        super().__init__(errno.EACCES, program, why, program)


class PrivilegedProgramError(SpawnError, NotPermittedError):
    """The program would gain privileges, which a task that shares our memory must not (EPERM)."""

    def __init__(self, program: str) -> None:
        """Take the program."""
        why = (
            "it has the set-uid or set-gid bit or file capabilities, and a task shares this "
            "process's memory; run it by root.run or root.create_subprocess_exec, in a "
            "process of its own"
        )
        SpawnError.__init__(self, errno.EPERM, program, why, program)


class BadProgramError(SpawnError):
    """The file is no program that can be a task (ENOEXEC)."""

    def __init__(self, program: str, why: str) -> None:
        """Take the program and what is wrong with it."""
        super().__init__(errno.ENOEXEC, program, why, program)


class NotPieError(BadProgramError):
    """The program is linked at a fixed address, where another may lie already (ENOEXEC).

    A Python that is linked so runs nevertheless where its libpython is installed.
    """

    def __init__(self, program: str, libpython: str | None = None) -> None:
        """Take the program and, of a Python, the library that is missing.

        That is its name; or its path, when it is there and ld.so cannot be told of it.
        """
        why = (
            "it is linked at a fixed address (ET_EXEC); compile and link it as a "
            "position-independent executable (pipcc, or gcc -fPIE -pie); one that is not yours to "
            "compile, as the system's are not, runs in a process of its own: "
            "root.run, root.create_subprocess_exec"
        )
        super().__init__(program, why if libpython is None else _why_no_python(libpython))


def _why_no_python(libpython: str) -> str:
    # The program may be a script, whose #! line names the Python.
    why = "this Python is linked at a fixed address (ET_EXEC), and would be run from its library"
    others = "use a Python built as a position-independent executable, or with --enable-shared"
    if "/" in libpython:
        return (
            f"{why} {libpython!r}, but ld.so splits such paths at blanks and colons; install it "
            f"elsewhere, or {others}"
        )
    package = libpython.partition(".so")[0]
    return (
        f"{why} {libpython}, which is not in the lib folders of its prefix; install that (Debian, "
        f"Ubuntu: apt-get install {package}), or {others}"
    )


class EntryNotFoundError(BadProgramError):
    """The program has no function of the name that `entry` gives, or it cannot be run (ENOEXEC)."""

    def __init__(self, program: str, entry: str, why: str | None = None) -> None:
        """Take the program, the function's name, and why it cannot be run when it is there."""
        if why is None:
            why = f"it has no function {entry!r}; was it stripped? C++ mangles names: see nm"
        super().__init__(program, why)


class OutOfMappingsError(SpawnError):
    """The address space has too few of its mappings left (ENOMEM)."""

    def __init__(self, program: str, used: str) -> None:
        """Take the program and the core's count, "used of limit"."""
        super().__init__(
            errno.ENOMEM,
            program,
            f"the shared address space has too few mappings left ({used} are used); raise "
            f"vm.max_map_count (sysctl -w vm.max_map_count=1048576), or let tasks end",
        )


class ArgumentsTooLongError(SpawnError):
    """Arguments and environment are longer than execve(2) takes (E2BIG)."""

    def __init__(self, program: str) -> None:
        """Take the program."""
        super().__init__(
            errno.E2BIG,
            program,
            "its arguments and environment are longer than execve() takes (a quarter of the stack "
            "limit in all, 128 KiB each); hand the data over by a file or a pipe",
        )


class SpawnOptionError(SpawnError):
    """An option could not be applied in the child; errno says why.

    Attributes:
        option: the name of the option: "cwd", "stdin", "rlimits" ...
    """

    def __init__(
        self,
        number: int,
        program: str,
        option: str,
        value: str,
        filename: str | None = None,
        part: str = "",
    ) -> None:
        """Take the errno, the program, the option, what it was given, and "[which part]" of it."""
        why = ": ".join(filter(None, (option + part, value, os.strerror(number))))
        super().__init__(number, program, why, filename)
        self.option = option


def spawn_error(failed: Failed, program: str, path_list: str | None) -> SpawnError:
    """The error for what the core reports of a failed spawn.

    Args:
        failed: the core's record.
        program: the program as the caller gave it.
        path_list: PATH of the task's environment.
    """
    if failed.failure == Failure.PROGRAM and failed.error == errno.ENOENT:
        return ProgramNotFoundError(program, path_list)
    if failed.failure == Failure.INTERPRETER and failed.error == errno.ENOENT:
        return InterpreterNotFoundError(program, failed.detail)
    make = _BY_FAILURE.get(failed.failure, _other)
    return make(failed, program)


def _program(failed: Failed, program: str) -> SpawnError:
    if failed.error == errno.EACCES:
        return NotExecutableError(program, "no permission to reach it, or to execute it")
    if failed.error == errno.ENOEXEC:
        return BadProgramError(program, "the kernel knows no such format, and it has no #! line")
    if failed.error == errno.E2BIG:
        return ArgumentsTooLongError(program)
    why = os.strerror(failed.error)
    return blend(SpawnError, failed.error)(failed.error, program, why, failed.detail or program)


def _interpreter(failed: Failed, program: str) -> SpawnError:
    why = f"its interpreter {failed.detail!r} cannot be run: {os.strerror(failed.error)}"
    if failed.error == errno.EACCES:
        return NotExecutableError(program, why)
    if failed.error == errno.ENOEXEC:
        return BadProgramError(program, why)
    return blend(SpawnError, failed.error)(failed.error, program, why, failed.detail)


def _malformed(failed: Failed, program: str) -> SpawnError:
    why = failed.detail.removeprefix(f"{program}: ")
    return BadProgramError(program, why or "it is neither an ELF program nor a #! script")


def _cwd(failed: Failed, program: str) -> SpawnError:
    make = blend(SpawnOptionError, failed.error)
    return make(failed.error, program, "cwd", repr(failed.detail), failed.detail)


def _option(name: str | None) -> Callable[[Failed, str], SpawnError]:
    def make(failed: Failed, program: str) -> SpawnError:
        kind = blend(SpawnOptionError, failed.error)
        if name is None:
            option, bracket, part = (failed.detail or "an option").partition("[")
            hint = _HINTS.get((option, failed.error), "")
            return kind(failed.error, program, option, hint, part=bracket + part)
        return kind(failed.error, program, name, failed.detail)

    return make


def _entry(failed: Failed, program: str) -> SpawnError:
    problem, _, name = failed.detail.partition(" ")
    why = _WHY_NO_ENTRY.get(problem)
    return EntryNotFoundError(program, name, why and why.format(repr(name)))


_WHY_NO_ENTRY = {
    "ambiguous": "several of its functions are called {}, each static in its own source file; "
    "rename one, or make it global",
    "script": "it is a script, which has no function {}; entry is for ELF programs, so spawn the "
    "script's interpreter",
    "python": "this Python is run from its library, so its own function {} is not there; use a "
    "Python built as a position-independent executable",
    "start": "its function {} cannot be run in place of main, for it is not started by libc's "
    "__libc_start_main; link it with libc, dynamically, with the compiler's own start files",
}


def _limit(what: str) -> Callable[[Failed, str], SpawnError]:
    def make(failed: Failed, program: str) -> SpawnError:
        detail = f" ({failed.detail})" if failed.detail else ""
        why = f"{what}: {os.strerror(failed.error)}{detail}"
        return blend(SpawnError, failed.error)(failed.error, program, why)

    return make


_other = _limit("the start failed")

_PRELOAD = (
    "the task could not read aiopip's own library then; install aiopip where everybody may read "
    "it, in a path without blanks and colons"
)
_NUMBERS = "the task's numbers have to lie below the soft limit of open files (RLIMIT_NOFILE)"

_HINTS = {
    ("process_group", errno.EPERM): "no such group in this session; a group is there while a "
    "process is in it, and 0 makes a new one",
    ("nice", errno.EACCES): "less than the calling thread has takes CAP_SYS_NICE, or RLIMIT_NICE",
    ("nice", errno.EPERM): "less than the calling thread has takes CAP_SYS_NICE, or RLIMIT_NICE",
    ("rlimits", errno.EPERM): "raising a hard limit takes CAP_SYS_RESOURCE",
    ("rlimits", errno.EINVAL): "no such resource, or a soft limit above the hard one",
    ("user", errno.EACCES): _PRELOAD,
    ("group", errno.EACCES): _PRELOAD,
    ("user", errno.EPERM): "another user takes CAP_SETUID",
    ("group", errno.EPERM): "another group takes CAP_SETGID",
    ("extra_groups", errno.EPERM): "changing them takes CAP_SETGID, even to none",
    ("fd_map", errno.EINVAL): _NUMBERS,
    ("pass_fds", errno.EINVAL): _NUMBERS,
    ("stack_bytes", errno.EPERM): "it is above the hard limit (RLIMIT_STACK)",
    ("stack_bytes", errno.ENOMEM): "a task has half of its part of the address space for its "
    "stack, which is larger the smaller max_tasks is",
    ("cpu", errno.EINVAL): "none of these processors is there, or the cpuset forbids them",
}

_BY_FAILURE: dict[int, Callable[[Failed, str], SpawnError]] = {
    Failure.PROGRAM: _program,
    Failure.DIRECTORY: lambda _, program: NotExecutableError(
        program, "it is a directory or a device, no regular file"
    ),
    Failure.PERMISSION: lambda _, program: NotExecutableError(
        program, "no execute (chmod +x) or read permission, or its file system is mounted noexec"
    ),
    Failure.PRIVILEGED: lambda _, program: PrivilegedProgramError(program),
    Failure.INTERPRETER: _interpreter,
    Failure.NOT_PIE: lambda _, program: NotPieError(program),
    Failure.LIBPYTHON: lambda failed, program: NotPieError(program, failed.detail),
    Failure.ENTRY: _entry,
    Failure.STATIC: lambda _, program: BadProgramError(
        program,
        "it is linked statically and asks for no ld.so; link it dynamically (without -static)",
    ),
    Failure.TRUNCATED: lambda _, program: BadProgramError(
        program, "the file ends before the segments that its headers speak of; it is truncated"
    ),
    Failure.MALFORMED: _malformed,
    Failure.MACHINE: lambda _, program: BadProgramError(
        program, "it is built for another architecture than x86-64"
    ),
    Failure.ARGUMENTS: lambda _, program: ArgumentsTooLongError(program),
    Failure.CWD: _cwd,
    Failure.STDIN: _option("stdin"),
    Failure.STDOUT: _option("stdout"),
    Failure.STDERR: _option("stderr"),
    Failure.MAPPINGS: lambda failed, program: OutOfMappingsError(program, failed.detail),
    Failure.MEMORY: _limit("no memory for its stack or its loader"),
    Failure.CLONE: _limit("clone() failed; RLIMIT_NPROC and the cgroup's pids.max limit it"),
    Failure.OPTIONS: _option(None),
    Failure.WATCH: _limit("no descriptor is left to watch it with; raise RLIMIT_NOFILE"),
}
