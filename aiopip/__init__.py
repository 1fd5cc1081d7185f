"""aiopip: Process-in-Process tasks for asyncio.

Real processes that live in one address space with the Python program that started them.
"""

from aiopip._platform import check_platform

check_platform()

from aiopip._errors import (  # noqa: E402  the check comes before the extension is loaded
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
    OwnerDiedError,
    RootBusyError,
    SlotBusyError,
    TaskEndedError,
    TaskFailed,
    TasksAliveError,
    TaskTimeoutError,
    UnsupportedLoopError,
    WorkerDiedError,
    WouldBlock,
    WrongThreadError,
)
from aiopip._events import (  # noqa: E402
    Continued,
    Event,
    EventStream,
    Exited,
    Exported,
    Stopped,
)
from aiopip._exports import Export  # noqa: E402
from aiopip._group import TaskGroup  # noqa: E402
from aiopip._lifetime import current_root  # noqa: E402
from aiopip._lock import Lock  # noqa: E402
from aiopip._memory import TaskMemory  # noqa: E402
from aiopip._options import Share  # noqa: E402
from aiopip._pipes import ReceivePipe, SendPipe  # noqa: E402
from aiopip._processes import TaskStatistics  # noqa: E402
from aiopip._region import Region  # noqa: E402
from aiopip._root import Root  # noqa: E402
from aiopip._run import Completed  # noqa: E402
from aiopip._signals import SignalStream  # noqa: E402
from aiopip._spawn_errors import (  # noqa: E402
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
from aiopip._statistics import RootStatistics  # noqa: E402
from aiopip._status import ExitStatus  # noqa: E402
from aiopip._subprocess import (  # noqa: E402
    create_subprocess_exec,
    create_subprocess_shell,
)
from aiopip._task import Task  # noqa: E402
from aiopip._this_task import RemoteRoot, ThisTask, this_task  # noqa: E402

__all__ = [
    "AbiMismatchError",
    "AiopipError",
    "AlreadyExportedError",
    "ArgumentsTooLongError",
    "BadProgramError",
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
    "NotPieError",
    "OutOfMappingsError",
    "OwnerDiedError",
    "PrivilegedProgramError",
    "ProgramNotFoundError",
    "ReceivePipe",
    "Region",
    "RemoteRoot",
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
    "WouldBlock",
    "WrongThreadError",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "current_root",
    "this_task",
]
