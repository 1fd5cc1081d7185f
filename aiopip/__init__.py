"""aiopip: Process-in-Process tasks for asyncio.

Real processes that live in one address space with the Python program that started them.

Importing the package loads nothing else, since workers are interpreters that start by it, many at
once: a public name's module is imported when the name is used for the first time (PEP 562).  So no
module of the standard library is imported here either that an interpreter has not loaded already,
and that goes for `__future__` and `typing`.
"""

from aiopip._platform import check_built, check_platform

check_platform()
check_built(__path__[0])

TYPE_CHECKING = False
"""True to type checkers, which take it for the one of `typing`."""

if TYPE_CHECKING:
    from aiopip._broken_pool import BrokenPoolError
    from aiopip._copying import copy
    from aiopip._errors import (
        AbiMismatchError,
        AiopipError,
        AlreadyExportedError,
        CallError,
        ClosedError,
        DeadlockError,
        ForkedError,
        GroupNotFoundError,
        ImportCanceledError,
        InvalidArgumentError,
        InvalidRegionError,
        InvalidTaskError,
        NoTasksError,
        NotCastError,
        NotInitializedError,
        NotPermittedError,
        NotPicklableError,
        OwnerDiedError,
        RootBusyError,
        SlotBusyError,
        TaskEndedError,
        TaskFailed,
        TasksAliveError,
        TaskTimeoutError,
        UnsupportedLoopError,
        WouldBlock,
        WrongThreadError,
    )
    from aiopip._events import Continued, Event, EventStream, Exited, Exported, Stopped
    from aiopip._executor import PoolExecutor
    from aiopip._exports import Export
    from aiopip._group import TaskGroup
    from aiopip._joblib import register_joblib
    from aiopip._lifetime import current_root
    from aiopip._lock import Lock
    from aiopip._memory import TaskMemory
    from aiopip._options import Share
    from aiopip._pipes import ReceivePipe, SendPipe
    from aiopip._pool import Pool
    from aiopip._pool_map import PoolMap
    from aiopip._processes import TaskStatistics
    from aiopip._python_task import PythonTask
    from aiopip._ref import ref
    from aiopip._region import Region
    from aiopip._remote_errors import RemoteError, RemoteTraceback
    from aiopip._remote_python import RemotePythonTask
    from aiopip._remote_task import RemoteTask
    from aiopip._root import Root
    from aiopip._run import Completed
    from aiopip._signals import SignalStream
    from aiopip._spawn_errors import (
        ArgumentsTooLongError,
        BadProgramError,
        EntryNotFoundError,
        InterpreterNotFoundError,
        NotExecutableError,
        NotPieError,
        OutOfMappingsError,
        PrivilegedProgramError,
        ProgramNotFoundError,
        SpawnError,
        SpawnOptionError,
    )
    from aiopip._statistics import PoolStatistics, RootStatistics, WorkerStatistics
    from aiopip._status import ExitStatus
    from aiopip._subprocess import create_subprocess_exec, create_subprocess_shell
    from aiopip._task import Task
    from aiopip._this_task import RemoteRoot, ThisTask, this_task
    from aiopip._worker_errors import WorkerDiedError

__all__ = [
    "AbiMismatchError",
    "AiopipError",
    "AlreadyExportedError",
    "ArgumentsTooLongError",
    "BadProgramError",
    "BrokenPoolError",
    "CallError",
    "ClosedError",
    "Completed",
    "Continued",
    "DeadlockError",
    "EntryNotFoundError",
    "Event",
    "EventStream",
    "ExitStatus",
    "Exited",
    "Export",
    "Exported",
    "ForkedError",
    "GroupNotFoundError",
    "ImportCanceledError",
    "InterpreterNotFoundError",
    "InvalidArgumentError",
    "InvalidRegionError",
    "InvalidTaskError",
    "Lock",
    "NoTasksError",
    "NotCastError",
    "NotExecutableError",
    "NotInitializedError",
    "NotPermittedError",
    "NotPicklableError",
    "NotPieError",
    "OutOfMappingsError",
    "OwnerDiedError",
    "Pool",
    "PoolExecutor",
    "PoolMap",
    "PoolStatistics",
    "PrivilegedProgramError",
    "ProgramNotFoundError",
    "PythonTask",
    "ReceivePipe",
    "Region",
    "RemoteError",
    "RemotePythonTask",
    "RemoteRoot",
    "RemoteTask",
    "RemoteTraceback",
    "Root",
    "RootBusyError",
    "RootStatistics",
    "SendPipe",
    "Share",
    "SignalStream",
    "SlotBusyError",
    "SpawnError",
    "SpawnOptionError",
    "Stopped",
    "Task",
    "TaskEndedError",
    "TaskFailed",
    "TaskGroup",
    "TaskMemory",
    "TaskStatistics",
    "TaskTimeoutError",
    "TasksAliveError",
    "ThisTask",
    "UnsupportedLoopError",
    "WorkerDiedError",
    "WorkerStatistics",
    "WouldBlock",
    "WrongThreadError",
    "copy",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "current_root",
    "ref",
    "register_joblib",
    "this_task",
]

_HOMES = {
    "AbiMismatchError": "_errors",
    "AiopipError": "_errors",
    "AlreadyExportedError": "_errors",
    "ArgumentsTooLongError": "_spawn_errors",
    "BadProgramError": "_spawn_errors",
    "BrokenPoolError": "_broken_pool",
    "CallError": "_errors",
    "ClosedError": "_errors",
    "Completed": "_run",
    "Continued": "_events",
    "DeadlockError": "_errors",
    "EntryNotFoundError": "_spawn_errors",
    "Event": "_events",
    "EventStream": "_events",
    "ExitStatus": "_status",
    "Exited": "_events",
    "Export": "_exports",
    "Exported": "_events",
    "ForkedError": "_errors",
    "GroupNotFoundError": "_errors",
    "ImportCanceledError": "_errors",
    "InterpreterNotFoundError": "_spawn_errors",
    "InvalidArgumentError": "_errors",
    "InvalidRegionError": "_errors",
    "InvalidTaskError": "_errors",
    "Lock": "_lock",
    "NoTasksError": "_errors",
    "NotCastError": "_errors",
    "NotExecutableError": "_spawn_errors",
    "NotInitializedError": "_errors",
    "NotPermittedError": "_errors",
    "NotPicklableError": "_errors",
    "NotPieError": "_spawn_errors",
    "OutOfMappingsError": "_spawn_errors",
    "OwnerDiedError": "_errors",
    "Pool": "_pool",
    "PoolExecutor": "_executor",
    "PoolMap": "_pool_map",
    "PoolStatistics": "_statistics",
    "PrivilegedProgramError": "_spawn_errors",
    "ProgramNotFoundError": "_spawn_errors",
    "PythonTask": "_python_task",
    "ReceivePipe": "_pipes",
    "Region": "_region",
    "RemoteError": "_remote_errors",
    "RemotePythonTask": "_remote_python",
    "RemoteRoot": "_this_task",
    "RemoteTask": "_remote_task",
    "RemoteTraceback": "_remote_errors",
    "Root": "_root",
    "RootBusyError": "_errors",
    "RootStatistics": "_statistics",
    "SendPipe": "_pipes",
    "Share": "_options",
    "SignalStream": "_signals",
    "SlotBusyError": "_errors",
    "SpawnError": "_spawn_errors",
    "SpawnOptionError": "_spawn_errors",
    "Stopped": "_events",
    "Task": "_task",
    "TaskEndedError": "_errors",
    "TaskFailed": "_errors",
    "TaskGroup": "_group",
    "TaskMemory": "_memory",
    "TaskStatistics": "_processes",
    "TaskTimeoutError": "_errors",
    "TasksAliveError": "_errors",
    "ThisTask": "_this_task",
    "UnsupportedLoopError": "_errors",
    "WorkerDiedError": "_worker_errors",
    "WorkerStatistics": "_statistics",
    "WouldBlock": "_errors",
    "WrongThreadError": "_errors",
    "copy": "_copying",
    "create_subprocess_exec": "_subprocess",
    "create_subprocess_shell": "_subprocess",
    "current_root": "_lifetime",
    "ref": "_ref",
    "register_joblib": "_joblib",
    "this_task": "_this_task",
}
"""The module in which each public name is defined."""

if not TYPE_CHECKING:  # a checker that sees it believes that the package has any name

    def __getattr__(name: str) -> object:
        """Import a public name, which from then on is an ordinary global."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """All names, those too that nobody has used yet."""
    return sorted({*globals(), *__all__})
