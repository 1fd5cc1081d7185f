"""Functions in interpreters of their own, one each: `spawn_python`.

They go through a queue as the calls of a pool do, in which each task is a worker for one call.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aiopip._dispatch import Dispatcher, Job
from aiopip._errors import ClosedError, call_error
from aiopip._ffi_calls import Calls
from aiopip._interpreter import command, make_setup, where, whose
from aiopip._packing import pack_call, pack_named_call
from aiopip._remote_errors import as_exception
from aiopip._request import pack
from aiopip._worker_errors import WorkerDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._descriptors import Stdio
    from aiopip._dispatch import Outcome
    from aiopip._ffi import Peer
    from aiopip._interpreter import Setup
    from aiopip._loop import Future, Loop
    from aiopip._request import SpawnRequest
    from aiopip._status import ExitStatus

T = TypeVar("T")

ONCE = -1
"""A worker's limit: one call, which may end the interpreter as a program may."""

COMM_BYTES = 15


class Result(Generic[T]):
    """What a function in a task will have returned.

    Attributes:
        on_told: called when somebody has it, and the task has ended, in either order; None: nobody
            is to be told of that.
    """

    __slots__ = ("_has_ended", "_is_told", "_loop", "_outcome", "_waiters", "on_told")

    def __init__(self, loop: Loop) -> None:
        self.on_told: Callable[[], None] | None = None
        self._is_told = self._has_ended = False
        self._loop = loop
        self._outcome: Outcome | None = None
        self._waiters: list[Future[None]] = []

    def settle(self, outcome: Outcome) -> None:
        """It has ended."""
        if outcome.error is not None:
            outcome = outcome._replace(error=as_exception(outcome.error))
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def is_there(self) -> bool:
        """Whether it has ended."""
        return self._outcome is not None

    async def get(self) -> Outcome:
        """How it has ended, as soon as it has."""
        while self._outcome is None:
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        self._is_told = True
        self._tell()
        return self._outcome

    def ended(self) -> None:
        """The task has ended."""
        self._has_ended = True
        self._tell()

    def _tell(self) -> None:
        if self._is_told and self._has_ended and self.on_told is not None:
            self.on_told()


class Work(Generic[T]):
    """One function, to be run by a task that is to be started.

    Attributes:
        program: the interpreter.
        args: its arguments.
        fd: what it has to inherit.
        name: its comm.
        result: what comes of it.
    """

    __slots__ = (
        "_is_buried",
        "_job",
        "_number",
        "_tasks",
        "args",
        "fd",
        "name",
        "program",
        "result",
    )

    def __init__(
        self,
        tasks: PythonTasks,
        number: int,
        job: Job,
        line: tuple[str, list[str]],
        name: str,
        result: Result[T],
    ) -> None:
        self._tasks = tasks
        self._number = number
        self._job = job
        self._is_buried = False
        self.program, self.args = line
        self.fd = tasks.fd
        self.name = name
        self.result = result

    def request(self, stdio: tuple[Stdio, Stdio, Stdio], max_tasks: int) -> SpawnRequest:
        """What the core is asked for."""
        return pack(
            self.program,
            self.args,
            stdio=stdio,
            max_tasks=max_tasks,
            pass_fds=(self.fd,),
            name=self.name,
        )

    def ended(self, status: ExitStatus) -> None:
        """The task has ended: without a result, if none has come by now."""
        self._bury(lambda: WorkerDiedError(0, status))
        self.result.ended()

    def over(self, status: ExitStatus | None) -> None:
        """The task has ended, or was not started: None."""
        if status is None:
            self.failed()
        else:
            self.ended(status)

    def failed(self) -> None:
        """The task was not started, or was given up."""
        self.disown()
        self._bury(ClosedError)

    def disown(self) -> None:
        """Nobody wants what the function returns; it may lie in memory that is gone."""
        self._job.abandoned = True

    def _bury(self, died: Callable[[], BaseException]) -> None:
        # Once: then the number is another's.
        if not self._is_buried:
            self._is_buried = True
            self._tasks.bury(self._number, died)


class PythonTasks:
    """The functions that are run so by the tasks of one Root, or for one task that asks."""

    def __init__(self, loop: Loop, peer: Peer) -> None:
        self._loop = loop
        self._calls = Calls()
        self._dispatcher = Dispatcher(self._calls, peer, self._is_up)
        self._setup: Setup = make_setup(None, ())
        self._owner = whose(peer)
        loop.watch(self._calls.fd, self._dispatcher.drain)

    @property
    def fd(self) -> int:
        """What a task has to inherit."""
        return self._calls.fd

    def arguments(self, number: int) -> str:
        """The arguments of a worker's `main`."""
        queue = f"{self._calls.address},{number},{self.fd}"
        return f"{queue},({where(self._setup)}),{ONCE},{self._owner}"

    def begin(
        self, function: Callable[..., T] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Work[T]:
        """Pack a function, for a task that is then started.

        Raises:
            NotPicklableError: the function, or an argument, does not pickle.
            InvalidArgumentError: the function's name is not "module:function"; `out` would be
                copied.
            NotExecutableError: this Python has no interpreter of its own.
        """
        if isinstance(function, str):
            parcel = pack_named_call(function, args, kwargs)
        else:
            parcel = pack_call(function, args, kwargs)
        number = self._calls.add_worker()
        if number < 0:
            raise call_error(-number, "making room for a Python task failed")
        result: Result[T] = Result(self._loop)
        job = Job(parcel, result.settle, number, copy_context())
        try:
            line = command(self.arguments(number), self._setup)
            self._dispatcher.submit(job)
        except BaseException:
            self.bury(number, ClosedError)
            raise
        return Work(self, number, job, line, _comm(function), result)

    def bury(self, number: int, died: Callable[[], BaseException]) -> None:
        """A task has ended, or was not started."""
        for job in self._dispatcher.bury(number, died):
            self._dispatcher.lose(job, died())

    def close(self) -> None:
        """The Root is closed, or the connection to it."""
        if not self._loop.gone:
            self._loop.unwatch(self._calls.fd)
            self._dispatcher.close(lambda: ClosedError("the Root was closed"))

    def _is_up(self, number: int, error: BaseException | None) -> None:
        """A task is ready for its call, or could not import the main module: then it ends."""
        if error is None:
            return
        for job in [job for job in self._dispatcher.jobs.values() if job.target == number]:
            self._dispatcher.refuse(job, error)


def _comm(function: Any) -> str:
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    readable = "".join(one for one in name if one.isascii() and one.isprintable())
    return readable[-COMM_BYTES:] or "python"
