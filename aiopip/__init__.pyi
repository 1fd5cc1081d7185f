# What the package exports, to type checkers: `__init__` imports a name when it is used.

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
