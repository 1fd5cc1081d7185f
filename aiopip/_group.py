"""Task groups: no task outlives the block that it was started in.

Three things end a group before its time: a task that fails, an exception of the body, and an
interruption from outside while the end of the block waits.  All do the same: the live tasks are
terminated, spawns under way are given up, and the body, if it is still running, is cancelled.

Who has failed, and who was ended by the group?  Both may end with a status other than 0, and the
difference is in the order of two events, the task's end and our signal:

    the task fails                       the group decides to end
    its end waits in the event ring      its signal finds no such process: ESRCH
    its end is taken: it had failed      (or it is taken before that, and is no live task any more)

So a task that one of our signals has reached had not ended by then, and what becomes of it is our
doing; every other end is the task's own.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import anyio

from aiopip._core import Core, Phase
from aiopip._ending import Ending, Urgency, ends_program, weightier
from aiopip._errors import ClosedError, TaskFailed
from aiopip._run import Completed, run
from aiopip._spawn import PlainOptions, SpawnOptions, spawn, start
from aiopip._state import Member, TaskState

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Buffer, Self, Unpack

    from aiopip._loop import Body
    from aiopip._pipes import Pipes
    from aiopip._request import StrOrBytesPath
    from aiopip._status import ExitStatus
    from aiopip._task import Task


class TaskGroup:
    """Tasks that live no longer than their `async with` block: `Root.task_group`.

    Leaving the block waits for all tasks of the group.  When one ends with another status than 0
    (and was not spawned with `check=False`), the group fails: its other tasks get SIGTERM, after
    the grace SIGKILL, the body is cancelled, and when all are reaped the block raises an
    ExceptionGroup of TaskFailed, one for each task that had failed before the group's signals
    reached it.  What those have ended is no failure.

    An exception of the body does the same, and is in the ExceptionGroup; KeyboardInterrupt and
    SystemExit are raised alone.  A cancellation from outside does the same, and is raised: on
    asyncio with the ExceptionGroup, if there is one, for its cause, on trio in one group with them.
    A second cancellation, or KeyboardInterrupt, sends SIGKILL at once.  GeneratorExit kills and
    reaps at once, without giving others a turn: the coroutine is being closed, and may not wait.

    Groups nest, in each other, in asyncio.TaskGroup, in trio's nurseries and anyio's task groups,
    and these in them.

    Thread safety: the Root's loop thread only.

    Source: `asyncio.TaskGroup`, `trio.Nursery`
    """

    def __init__(self, core: Core, grace_s: float) -> None:
        """Made by `Root.task_group`."""
        self._core = core
        self._ending = Ending(self, core.loop, grace_s)
        self._body: Body | None = None
        self._entered = self._closed = False
        self._starting = 0
        self._errors: list[BaseException] = []
        # Those that have a slot and have not ended; for the Root, too.
        self.live: set[TaskState] = set()

    @property
    def tasks(self) -> frozenset[Task]:
        """Its tasks that run, or that have ended and nobody has collected; a snapshot."""
        open_tasks = self._core.collector.open.items()
        return frozenset(task for state, task in open_tasks if self._has(state))

    async def spawn(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        check: bool = True,
        **options: Unpack[SpawnOptions],
    ) -> Task:
        """Start a program as a task of the group, as `Root.spawn` does.

        With `stderr=subprocess.PIPE` the last lines that a failed task has written there are in its
        TaskFailed, whether somebody has received them or not.  A pipe holds 64 KiB: a task that
        writes more to one from which nobody receives waits.  Where more may come, receive it, or
        hand over a file.

        Args:
            program: what to start.
            args: its arguments, from argv[1] on.
            check: whether the group fails when the task ends with another status than 0; False for
                programs that say something by it, as grep says with 1.
            options: those of `Root.spawn`.

        Returns:
            The task.  It may be waited for, by several coroutines too; that changes nothing.

        Raises:
            ClosedError: the group has been left, is not entered, or is being ended.
            SpawnError: as `Root.spawn`; it is the caller's, not the group's.

        Cancellation:
            The child is killed and reaped before the cancellation leaves.
        """
        await self._check_open()
        with self._spawn_under_way():
            return await spawn(self._core, Member(self, check), program, args, **options)

    async def run(
        self,
        program: StrOrBytesPath,
        *args: StrOrBytesPath,
        input: Buffer | None = None,  # noqa: A002  subprocess.run's
        check: bool = True,
        timeout_s: float | None = None,
        **options: Unpack[SpawnOptions],
    ) -> Completed:
        """Run a program to its end, as `Root.run` does, but for no longer than the group lives.

        How it ends is the caller's business, and not the group's: an error of the body ends the
        group, as ever.  When the group is ended, so is the program, and where the body waits for it
        that is cancelled; other coroutines get TaskFailed.

        Args:
            program: as there.
            args: as there.
            input: as there.
            check: as there.
            timeout_s: as there.
            options: as there.

        Raises:
            ClosedError: the group has been left, is not entered, or is being ended.
            TaskFailed, TaskTimeoutError, SpawnError: as there.
        """
        await self._check_open()
        return await run(
            self._core,
            self._begin,
            program,
            args,
            input=input,
            check=check,
            timeout_s=timeout_s,
            **options,
        )

    async def _begin(
        self,
        program: StrOrBytesPath,
        args: tuple[StrOrBytesPath, ...],
        pipes: Pipes,
        **options: Unpack[PlainOptions],
    ) -> Task:
        """Start what is `run`."""
        with self._spawn_under_way():
            return await start(self._core, Member(self, False), program, args, pipes, **options)

    async def _check_open(self) -> None:
        self._core.check()
        if not self._entered or self._closed or self._ending.urgency:
            # The body's cancellation may be on its way, and says more.
            await anyio.lowlevel.checkpoint()
            raise ClosedError(f"the task group {self._state}")

    @contextlib.contextmanager
    def _spawn_under_way(self) -> Iterator[None]:
        """A block for which the group waits as for a task."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1
            self._ending.check()

    def cancel(self) -> None:
        """End all tasks of the group, and its body, without an error.

        Thread safety: loop thread only.
        """
        self._core.check()
        if self._entered and not self._closed:
            self._end()

    async def __aenter__(self) -> Self:
        """Open the group.

        Raises:
            ClosedError: it was entered before, or the Root is closed.
        """
        self._core.check()
        if self._entered:
            raise ClosedError("this task group was entered before; make another one")
        self._body = self._core.loop.body()
        self._entered = True
        self._core.groups.add(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        body, self._body = self._body, None
        if body is None or self._core.loop.gone:
            return False
        left = interruption = raising = None
        try:
            left = body.leave(exc)
            if self._core.phase is not Phase.FORKED:
                interruption = await self._wait(left)
                if isinstance(left, anyio.get_cancelled_exc_class()):
                    left = await self._core.loop.outside(left)
            raising = self._outcome(left, interruption)
            if raising is not None and raising is not exc:
                raise raising
            return raising is None
        finally:
            # Their tracebacks refer to this frame.
            del left, interruption, raising, exc, traceback

    async def _wait(self, left: BaseException | None) -> BaseException | None:
        """Wait until all have ended and collect them; the interruption meanwhile, if any."""
        try:
            if isinstance(left, GeneratorExit):
                self._end_here()
                return None
            if left is not None:
                self._end()
            return await self._ending.wait(interrupted=left is not None)
        except BaseException:
            # As in Core.leave: GeneratorExit, or KeyboardInterrupt between two instructions.
            self._end_here()
            raise
        finally:
            del left  # its traceback refers to a frame that refers to this one
            self._ending.stop()
            self._closed = True
            self._core.groups.discard(self)
            for state in [state for state in self._core.collector.open if self._has(state)]:
                if state.status is not None:
                    self._core.collector.collect(state)

    def _outcome(
        self, left: BaseException | None, interruption: BaseException | None
    ) -> BaseException | None:
        """What the block has to raise, if anything.

        Args:
            left: what is left of the body's exception when our cancellation is taken away.
            interruption: what came while the tasks were waited for.
        """
        errors, self._errors = self._errors, []
        try:
            if isinstance(left, GeneratorExit):
                return left
            if ends_program(left) or isinstance(left, anyio.get_cancelled_exc_class()):
                interruption = weightier(left, interruption)
            elif left is not None:
                errors.append(left)
            if not errors:
                return interruption
            group = BaseExceptionGroup("a task group has failed", errors)
            return group if interruption is None else self._core.loop.join(interruption, group)
        finally:
            del left, interruption, errors

    # For the core, and for `Ending`

    def ended(self, task: Task, state: TaskState, status: ExitStatus) -> None:
        """A task whose spawn has returned it has ended; internal."""
        self.live.discard(state)
        if state.member is not None and state.member.check and status != 0 and not state.signaled:
            lines = b"" if task.stderr is None else task.stderr.tail()
            self._errors.append(TaskFailed(task, status, lines))
            self._end()

    def left(self, state: TaskState) -> None:
        """A task is alive no more; internal."""
        self.live.discard(state)
        self._ending.check()

    def abandon(self) -> None:
        """The Root was closed: nothing will end any more; internal."""
        self._ending.check()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to wait for; internal."""
        if self._core.phase is Phase.CLOSED:
            return True
        return not self.live and not self._starting

    def refresh(self) -> None:
        """Take the events that wait; internal."""
        self._core.drain()

    def signal_all(self, signum: int) -> None:
        """Send live tasks a signal that is to end them, and give up the spawns; internal."""
        self._core.signal_these(self.live, signum)
        self._core.launcher.close_group(self)

    def _has(self, state: TaskState) -> bool:
        return state.member is not None and state.member.group is self

    def _end(self) -> None:
        """Terminate the tasks, give up the spawns, cancel the body; once."""
        if self._ending.urgency:
            return
        # The body first: a spawn of its own is cancelled, rather than refused as one of others.
        if self._body is not None:
            self._body.cancel()
        self._ending.urge(Urgency.TERMINATE)

    def _end_here(self) -> None:
        """Kill and reap all without giving others a turn."""
        if self._core.phase in (Phase.OPEN, Phase.CLOSING) and not self._core.loop.gone:
            self._ending.urge(Urgency.KILL)
            self._core.block_until(lambda: not self.live)

    def __repr__(self) -> str:
        return f"<aiopip.TaskGroup {self._state} live={len(self.live)}>"

    @property
    def _state(self) -> str:
        if not self._entered:
            return "is not entered: `async with root.task_group() as group:`"
        if self._closed:
            return "has been left"
        return "is being ended" if self._ending.urgency else "is open"
