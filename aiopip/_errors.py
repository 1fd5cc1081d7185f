"""The errors of aiopip, one tree; other modules have parts of it.

    AiopipError
    |-- ClosedError                    closed by you
    |   `-- ForkedError                this process is a fork of the one that opened it
    |-- WrongThreadError               RuntimeError
    |-- InvalidArgumentError           ValueError
    |-- NotCastError                   TypeError
    |-- NotPicklableError              pickle.PicklingError, TypeError
    |-- UnsupportedLoopError           RuntimeError
    |-- TaskFailed                     a task that had to succeed did not
    |-- RemoteError                    what a call raised, and cannot be brought back
    |-- WorkerDiedError                concurrent.futures.BrokenExecutor
    |   `-- BrokenPoolError            concurrent.futures.process.BrokenProcessPool
    `-- CallError                      OSError; also the subclass of OSError that its errno has
        |-- NotInitializedError        EPERM         PermissionError
        |-- NotPermittedError          EPERM         PermissionError
        |-- TaskTimeoutError           ETIMEDOUT     TimeoutError
        |-- RootBusyError              EBUSY
        |-- SlotBusyError              EBUSY
        |-- AlreadyExportedError       EBUSY
        |-- TasksAliveError            EBUSY
        |-- WouldBlock                 EAGAIN        BlockingIOError
        |-- NoTasksError               ECHILD        ChildProcessError
        |-- TaskEndedError             ESRCH         ProcessLookupError
        |-- GroupNotFoundError         ESRCH         ProcessLookupError
        |-- InvalidTaskError           EINVAL
        |-- InvalidRegionError         EFAULT
        |-- ImportCanceledError        ECANCELED
        |-- DeadlockError              EDEADLK
        |-- OwnerDiedError             EOWNERDEAD
        |-- AbiMismatchError           ELIBSCN
        `-- SpawnError                 the errno of the step that failed
            |-- ProgramNotFoundError   ENOENT        FileNotFoundError
            |   `-- InterpreterNotFoundError
            |-- NotExecutableError     EACCES        PermissionError
            |-- PrivilegedProgramError EPERM         NotPermittedError too
            |-- BadProgramError        ENOEXEC
            |   |-- NotPieError
            |   `-- EntryNotFoundError
            |-- OutOfMappingsError     ENOMEM
            |-- ArgumentsTooLongError  E2BIG
            `-- SpawnOptionError       an option that the child could not apply: `.option`

All of them pickle and copy, `str()` of each says what failed and what can be done, and a
`CallError` has `.errno`, `.strerror` and, where a file is to blame, `.filename`.
"""

from __future__ import annotations

import errno
import math
import operator
import os
from _pickle import PicklingError
from signal import Signals
from typing import TYPE_CHECKING, Any, TypeVar, cast

import aiopip

if TYPE_CHECKING:
    from aiopip._status import ExitStatus
    from aiopip._task import Task


STDERR_LINES = 10
"""How many of a failed task's last lines its TaskFailed shows."""


class AiopipError(Exception):
    """The base of all errors of aiopip.

    Attributes:
        message: the text, which is also what `str()` gives.
    """

    __module__ = "aiopip"

    message: str

    def __init_subclass__(cls, **options: Any) -> None:
        """Have tracebacks name a class as its users do."""
        super().__init_subclass__(**options)
        home, _, module = cls.__module__.partition(".")
        if home == "aiopip" and module and cls.__name__ in aiopip.__all__:
            cls.__module__ = home

    def __init__(self, message: str) -> None:
        """Take the text that the class has built."""
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take facts and build a text of them, so an error is not made again by its
        # constructor: the finished state is carried over.
        return _restore, (type(self), self.args), self.__dict__.copy()


class CallError(AiopipError, OSError):
    """A call into the system or the native core failed.

    It is always an instance of that subclass of OSError, too, which Python itself would raise for
    the errno: FileNotFoundError for ENOENT, PermissionError for EACCES and EPERM, and so on.

    Attributes:
        errno: the error number.
        strerror: the system's text for it.
        filename: the file to blame, or None.
    """

    def __init__(self, number: int, message: str, filename: str | None = None) -> None:
        """Take what failed; `call_error()` makes one whose errno is known at run time only."""
        # OSError keeps its facts in C fields, and is told of them here, past AiopipError.
        facts = (number, os.strerror(number))
        OSError.__init__(self, *facts, *(() if filename is None else (filename,)))
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        plain = getattr(type(self), "_plain", type(self))
        name = () if self.filename is None else (self.filename,)
        facts = (self.errno, self.strerror, *name)
        return _restore_call, (plain, facts), self.__dict__.copy()


E = TypeVar("E", bound=CallError)
_blended: dict[tuple[type[CallError], int], type[CallError]] = {}


def blend(cls: type[E], number: int) -> type[E]:
    """The class `cls` that is also what OSError becomes for this errno.

    Args:
        cls: a class whose errno is known only at run time: `SpawnError`, `SpawnOptionError` ...
        number: the errno.
    """
    found = _blended.get((cls, number))
    if found is None:
        kind = type(OSError(number, ""))
        found = cls
        if not issubclass(cls, kind):
            names = {"__module__": cls.__module__, "__doc__": cls.__doc__, "_plain": cls}
            found = type(cls.__name__, (cls, kind), names)
        _blended[cls, number] = found
    return cast("type[E]", found)


def call_error(number: int, message: str, filename: str | None = None) -> CallError:
    """A `CallError` of any errno."""
    return blend(CallError, number)(number, message, filename)


def _restore(cls: type[AiopipError], args: tuple[object, ...]) -> AiopipError:
    error = cls.__new__(cls)
    error.args = args
    return error


def _restore_call(cls: type[CallError], facts: tuple[Any, ...]) -> CallError:
    cls = blend(cls, facts[0])
    error = cls.__new__(cls, *facts)
    OSError.__init__(error, *facts)
    return error


class ClosedError(AiopipError):
    """The Root has been left, closed or aborted, or was never entered."""

    def __init__(self, what: str = "the Root is closed") -> None:
        """Take the sentence that says what is closed."""
        super().__init__(what)


class ForkedError(ClosedError):
    """The Root belongs to the parent: this process is a copy of it that fork() made."""

    def __init__(self) -> None:
        """Build the text."""
        super().__init__(
            "this process was forked from the one that opened the Root, and aiopip cannot be used "
            "in it; start a fresh program instead (subprocess, or multiprocessing's 'spawn')"
        )


class WrongThreadError(AiopipError, RuntimeError):
    """A Root is used by its event loop alone, and by the thread of that."""

    def __init__(
        self,
        what: str = "the Root belongs to the event loop of another thread; call it there "
        "(loop.call_soon_threadsafe, asyncio.run_coroutine_threadsafe)",
    ) -> None:
        """Take the sentence that says whose it is."""
        super().__init__(what)


def whole_number(argument: str, value: Any) -> int:
    """An argument as an int; TypeError, which names it, when it is none, or True or False."""
    try:
        # A bool is an int to Python, but no count, PiP ID or signal: it comes from a wrong place.
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{argument}: {value!r} is no integer")


def seconds(argument: str, value: Any) -> float:
    """An argument as a number of seconds from 0 on.

    Raises:
        TypeError: it is no number.
        InvalidArgumentError: it is negative, infinite or NaN.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{argument}: {value!r} is no number of seconds") from None
    if not 0 <= number < math.inf:
        raise InvalidArgumentError(argument, f"{value!r} is no number of seconds from 0 on")
    return number


class InvalidArgumentError(AiopipError, ValueError):
    """An argument has a value that it cannot have.

    Attributes:
        argument: the name of the argument.
    """

    def __init__(self, argument: str, problem: str) -> None:
        """Take the argument's name and what is wrong with it."""
        super().__init__(f"{argument}: {problem}")
        self.argument = argument


class NotCastError(AiopipError, TypeError):
    """The Region has no type and shape yet: C exports an address alone."""

    def __init__(self) -> None:
        """Build the text."""
        super().__init__(
            "the Region is an address without a type, as C exported it; say what lies there: "
            "region.cast('f8', (rows, columns))"
        )


class NotPicklableError(AiopipError, PicklingError, TypeError):
    """A part of a call, or its result, cannot be sent to another interpreter.

    Attributes:
        function: the name of what was called.
        part: what cannot be pickled, "argument 2 ('lock'), a _thread.lock,"; None: it is not known.
    """

    def __init__(
        self,
        function: str,
        part: str | None,
        why: str,
        way_out: str = "pass what it is made of, and make it in the worker",
    ) -> None:
        """Take the function's name, the part, what pickle says of it, and what can be done."""
        super().__init__(
            f"{function}: {part or 'a part of the call'} cannot be pickled: {why}; {way_out}"
        )
        self.function = function
        self.part = part


class UnsupportedLoopError(AiopipError, RuntimeError):
    """What asyncio's loops alone have was asked for on trio."""

    def __init__(self) -> None:
        """Build the text."""
        super().__init__(
            "asyncio.subprocess.Process needs asyncio's loop, or uvloop's; on trio use "
            "`await root.run(...)`, or `await root.spawn(..., stdin=PIPE, stdout=PIPE)`"
        )


class TaskFailed(AiopipError):
    """A task that had to succeed ended with another status than 0.

    Attributes:
        task: the Task; None in a copy that was pickled.
        program: what was started, as it was given.
        status: its ExitStatus.
        stderr: what it wrote to its stderr, when that was a pipe of ours: from `run` all of it,
            from a group the last bytes.
        stdout: what it wrote to its stdout, from `run`.
    """

    task: Task | None

    def __init__(
        self, task: Task, status: ExitStatus, stderr: bytes = b"", stdout: bytes = b""
    ) -> None:
        """Take the task, how it ended, and what it said."""
        how = f"exited with {int(status)}"
        if status.signaled:
            number = f"signal {-status}"
            name = status.signal.name if isinstance(status.signal, Signals) else ""
            how = f"was ended by {f'{name} ({number})' if name else number}"
        who = f"task {task.program!r} (PiP ID {task.pipid}, process {task.pid})"
        super().__init__(f"{who} {how}{_last_lines(stderr)}")
        self.task = task
        self.program = task.program
        self.status = status
        self.stderr = stderr
        self.stdout = stdout

    def __reduce__(self) -> tuple[Any, ...]:
        # A Task belongs to a Root of this process.
        return _restore, (type(self), self.args), {**self.__dict__, "task": None}


def _last_lines(stderr: bytes) -> str:
    text = stderr.decode(errors="backslashreplace").rstrip()
    if not text:
        return ""
    lines = text.splitlines()[-STDERR_LINES:]
    return "; the last lines of its stderr:" + "".join(f"\n    {line}" for line in lines)


class NotInitializedError(CallError, PermissionError):
    """There is no open Root in this process, or it is no task (EPERM)."""

    def __init__(
        self, what: str = "no Root is open: use `async with aiopip.Root() as root:`"
    ) -> None:
        """Take the sentence that says what this process is not."""
        super().__init__(errno.EPERM, what)


class NotPermittedError(CallError, PermissionError):
    """The system does not allow it (EPERM)."""

    def __init__(self, what: str, filename: str | None = None) -> None:
        """Take the sentence that says what is not allowed, and why."""
        super().__init__(errno.EPERM, what, filename)


class TaskTimeoutError(CallError, TimeoutError):
    """What `run` has started did not end in time, and was killed (ETIMEDOUT).

    Attributes:
        program: what was started, as it was given.
        timeout_s: the time that it had.
        stdout: what it had written to its stdout by then; None when that was no pipe of ours.
        stderr: likewise.
    """

    def __init__(
        self, program: str, timeout_s: float, stdout: bytes | None, stderr: bytes | None
    ) -> None:
        """Take the program, its time, and what it wrote."""
        text = f"{program!r} did not end within {timeout_s:g} s, and was killed"
        super().__init__(errno.ETIMEDOUT, f"{text}{_last_lines(stderr or b'')}")
        self.program = program
        self.timeout_s = timeout_s
        self.stdout = stdout
        self.stderr = stderr


class RootBusyError(CallError):
    """There is a live Root in this process already (EBUSY)."""

    def __init__(self) -> None:
        """Build the text."""
        super().__init__(
            errno.EBUSY,
            "another Root is open in this process, and there can be one at a time; "
            "aiopip.current_root() is it",
        )


class SlotBusyError(CallError):
    """The slot asked for is taken, or none is free (EBUSY)."""

    def __init__(self, pipid: int | None, max_tasks: int) -> None:
        """Take the PiP ID that was asked for, None for any, and the number of slots."""
        if pipid is None:
            text = (
                f"all {max_tasks} slots are taken, by live tasks or by ended ones that have "
                "exported something and were not waited for, or are imported from; wait for tasks, "
                "drop Regions and views, or open the Root with a larger max_tasks"
            )
        else:
            text = (
                f"PiP ID {pipid} is taken, by a live task or by an ended one that has exported "
                "something and was not waited for, or is imported from; leave pipid out to get a "
                "free one"
            )
        super().__init__(errno.EBUSY, text)


class AlreadyExportedError(CallError):
    """The name is exported already (EBUSY)."""

    def __init__(self, name: str) -> None:
        """Take the name."""
        super().__init__(errno.EBUSY, f"{name!r} is exported already; withdraw that export first")


class TasksAliveError(CallError):
    """Something that ends all of aiopip was asked for while tasks live (EBUSY)."""

    def __init__(self, alive: int) -> None:
        """Take the number of live tasks."""
        super().__init__(errno.EBUSY, f"{alive} tasks are alive; wait for them or kill them first")


class WouldBlock(CallError, BlockingIOError):
    """A call that never waits would have had to (EAGAIN)."""

    def __init__(self, what: str) -> None:
        """Take the sentence that says what it would have waited for."""
        super().__init__(errno.EAGAIN, what)


class NoTasksError(CallError, ChildProcessError):
    """No task is left to wait for: none runs, and all that ended have been collected (ECHILD)."""

    def __init__(self) -> None:
        """Build the text."""
        super().__init__(errno.ECHILD, "no task runs, and every ended one has been collected")


class TaskEndedError(CallError, ProcessLookupError):
    """The task has ended, and can be sent no signal (ESRCH)."""

    def __init__(self, name: str, pipid: int) -> None:
        """Take the task's name and PiP ID."""
        super().__init__(errno.ESRCH, f"task {name!r} (PiP ID {pipid}) has ended")


class GroupNotFoundError(CallError, ProcessLookupError):
    """No live task of this Root is in the process group (ESRCH)."""

    def __init__(self, group: int) -> None:
        """Take the group's ID."""
        super().__init__(
            errno.ESRCH,
            f"no live task of this Root is in process group {group}; it may have ended, and that "
            "number may be somebody else's by now",
        )


class InvalidTaskError(CallError):
    """What was given is no task of this Root (EINVAL)."""

    def __init__(self, given: object) -> None:
        """Take what was given."""
        super().__init__(errno.EINVAL, f"{given!r} is no task of this Root")


class InvalidRegionError(CallError):
    """The range is not memory that the exporter has mapped (EFAULT)."""

    def __init__(self, address: int, size_bytes: int, owner: str) -> None:
        """Take the range and the exporter's name."""
        super().__init__(
            errno.EFAULT,
            f"{size_bytes} bytes at {address:#x} do not lie in memory that {owner} has mapped and "
            f"readable; check dtype and shape against what it exported",
        )


class ImportCanceledError(CallError):
    """The exporter ended without the export, or its memory went with it (ECANCELED)."""

    def __init__(self, owner: str, name: str) -> None:
        """Take the exporter's name and the export's."""
        super().__init__(
            errno.ECANCELED,
            f"cannot import {name!r}: {owner} ended without exporting it, or its memory went with "
            f"it; import before wait() has reported the end, or export with keep=True",
        )


class DeadlockError(CallError):
    """The wait could never end (EDEADLK)."""

    def __init__(self, what: str) -> None:
        """Take the sentence that says what waits for what."""
        super().__init__(errno.EDEADLK, what)


class OwnerDiedError(CallError):
    """The holder of a lock died; the lock is yours, and what it guards may be halfway (EOWNERDEAD).

    Call `recover()` once the data is right again.
    """

    def __init__(self, what: str) -> None:
        """Take the sentence that names the lock and its holder."""
        super().__init__(errno.EOWNERDEAD, what)


class AbiMismatchError(CallError):
    """A task brought an aiopip of another ABI version than the root's (ELIBSCN)."""

    def __init__(self, found: int, expected: int) -> None:
        """Take the two versions."""
        super().__init__(
            errno.ELIBSCN,
            f"the task's aiopip has ABI version {found}, the root's {expected}; "
            f"install the same release in both environments",
        )
