"""What a task asks its Root for that has to do with Python: functions in tasks of their own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from aiopip._python_task import get
from aiopip._remote import connection
from aiopip._remote_task import RemoteTask, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._pipes import Pipes
    from aiopip._python_tasks import Result
    from aiopip._remote import Connection
    from aiopip._remote_errand import Errand
    from aiopip._this_task import ThisTask

T = TypeVar("T")


class RemotePythonTask(RemoteTask, Generic[T]):
    """A task that runs one Python function, in the hands of the task that has asked for it.

    Made by `this_task().root.spawn_python`.  Its exit status is 0 when the function returned, 1
    when it raised something, and what it gave to `sys.exit()` when it did that.
    """

    def __init__(
        self,
        me: ThisTask,
        asked: Connection,
        errand: Errand,
        pipes: Pipes,
        *,
        result: Result[T],
    ) -> None:
        """Made by `RemoteRoot.spawn_python`."""
        super().__init__(me, asked, errand, pipes)
        self._result = result

    async def result(self) -> T:
        """Wait for what the function returns; it may be asked for again.

        What it refers to in the task's memory, such as arrays, is kept as long as anybody has views
        of it, beyond the end of the task.

        Returns:
            What the function returned.

        Raises:
            Exception: what the function raised, with `RemoteTraceback` for its cause.
            RemoteError: it raised something that does not pickle.
            NotPicklableError: what it returned does not pickle.
            TaskFailed: the task ended before that, by a signal or `sys.exit()`.
            ClosedError: the Root is closed, or the loop in which it was spawned has ended, and the
                result is not known.
            ForkedError: this process is a child of the one that spawned it, made by fork().

        Cancellation:
            The task goes on.

        Thread safety: loop thread only.
        """
        if not self._result.is_there:
            self._connection.check()
        return await get(self, self._result)


async def spawn_python(
    me: ThisTask,
    function: Callable[..., T] | str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> RemotePythonTask[T]:
    """Have the Root start a task that runs a function; `RemoteRoot.spawn_python` documents it."""
    work = connection(me).python(me.peer).begin(function, args, kwargs)
    make: Any = partial(RemotePythonTask, result=work.result)
    try:
        task = await spawn(
            me,
            work.program,
            work.args,
            work=work,
            make=make,
            pass_fds=(work.fd,),
            name=work.name,
        )
    except GeneratorExit:
        work.disown()  # the task may run yet: `work.over` comes when it has ended
        raise
    except BaseException:
        work.failed()
        raise
    return cast("RemotePythonTask[T]", task)
