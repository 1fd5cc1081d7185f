"""A task that runs a function: what `Root.spawn_python` gives."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiopip._errors import TaskFailed
from aiopip._task import Task
from aiopip._worker_errors import WorkerDiedError

if TYPE_CHECKING:
    from aiopip._core import Core
    from aiopip._pipes import Pipes
    from aiopip._python_tasks import Result
    from aiopip._state import TaskState

T = TypeVar("T")


class PythonTask(Task, Generic[T]):
    """A task that is a Python interpreter, and runs one function.

    Made by `Root.spawn_python`.  Its exit status is 0 when the function returned, 1 when it raised
    something, and what it gave to `sys.exit()` when it did that.
    """

    def __init__(self, core: Core, state: TaskState, pipes: Pipes, result: Result[T]) -> None:
        """Made by `Root.spawn_python`."""
        super().__init__(core, state, pipes)
        self._result = result
        # Each worker exports something, so its memory waits for somebody to hear of its end.  Who
        # has the result need not ask for that.
        result.on_told = partial(core.acknowledge, state)

    async def result(self) -> T:
        """Wait for what the function returns; it may be asked for again.

        What it refers to in the task's memory, such as arrays, is kept as long as anybody has views
        of it, beyond the end of the task and of the Root.

        Returns:
            What the function returned.

        Raises:
            Exception: what the function raised, with `RemoteTraceback` for its cause.
            RemoteError: it raised something that does not pickle, or cannot be made here, or is no
                Exception, but SystemExit, by which a program ends.
            NotPicklableError: what it returned does not pickle.
            TaskFailed: the task ended before that, by a signal or `sys.exit()`.
            ClosedError: the Root was closed before that.

        Cancellation:
            The task goes on.

        Thread safety: loop thread only.
        """
        return await get(self, self._result)


async def get(task: Any, result: Result[T]) -> T:
    """The result of a task's function; `PythonTask.result` has the contract."""
    outcome = await result.get()
    if isinstance(outcome.error, WorkerDiedError):
        raise TaskFailed(task, outcome.error.status)
    value: T = outcome.get()
    return value
