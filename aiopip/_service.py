"""Tasks that ask their Root for tasks: the Root's side of `_messages`.

A connection (`Asker`) is a task's, one for each of its event loops, and knows what was spawned by
it (`_Errand`).  All of it runs in callbacks of the Root's loop: no coroutine waits here, so there
is none to be cancelled when the Root is left.

A task that was spawned so is the Root's as any other.  When who asked for it has gone, it goes on,
unless it is bound; its end is collected then as soon as it comes.  What is being started is given
up, for nobody has it.
"""

from __future__ import annotations

import errno
import os
import weakref
from typing import TYPE_CHECKING

from aiopip._channel import Channel
from aiopip._errors import AiopipError, NotPermittedError, call_error
from aiopip._launch import Launch
from aiopip._listing import peer_of
from aiopip._loop import Called
from aiopip._messages import (
    VERSION,
    Begun,
    Cancel,
    Collect,
    Finished,
    Question,
    Refused,
    Rejected,
    Spawn,
    version_of,
)
from aiopip._pipes import Pipes, lifted
from aiopip._placing import placed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from aiopip._core import Core
    from aiopip._launch import Answer
    from aiopip._state import TaskState


class Service:
    """The tasks of a Root that ask."""

    __slots__ = ("_askers", "_core")

    def __init__(self, core: Core) -> None:
        # The core refers to this: together they would be a cycle.
        self._core: Core = weakref.proxy(core)
        self._askers: set[Asker] = set()

    def admit(self, end: socket.socket, address: bytes) -> None:
        """Somebody has come who says that he is a task of this Root.

        Args:
            end: the connection.
            address: of the other end.
        """
        pid, user = peer_of(end)
        asker = Asker(self._core, end, pid, self._askers.discard)
        self._askers.add(asker)
        problem = self._problem(pid, user, address)
        if problem is not None:
            asker.reject(problem)

    def _problem(self, pid: int, user: int, address: bytes) -> Exception | None:
        if user != os.geteuid():
            return NotPermittedError(
                "this task runs as another user than its Root, which starts nothing for it"
            )
        # Of one that is being started it may not have been heard yet which process it is.
        if all(state.pid not in (pid, 0) for state in self._core.live.values()):
            return NotPermittedError(f"process {pid} is no task of this Root")
        if version_of(address) != b"%d" % VERSION:
            return call_error(
                errno.EPROTO,
                "this task's aiopip is of another version than its Root's, and cannot be "
                "understood; install the same release in both environments",
            )
        return None

    def gone(self, pid: int) -> None:
        """A task has ended; a child of its may have its connection still."""
        for asker in [asker for asker in self._askers if asker.pid == pid]:
            asker.end()

    def close(self) -> None:
        """The Root is closed."""
        for asker in self._askers:
            asker.close()
        self._askers.clear()

    def forsake(self) -> None:
        """This process is a forked child: close its descriptors, and nothing else."""
        for asker in self._askers:
            asker.forsake()
        self._askers.clear()


class Asker:
    """A task's connection.

    Attributes:
        pid: the task's process ID.
    """

    __slots__ = ("__weakref__", "_channel", "_core", "_errands", "_is_rejected", "_on_end", "pid")

    def __init__(
        self, core: Core, end: socket.socket, pid: int, on_end: Callable[[Asker], None]
    ) -> None:
        """Take the connection.

        Args:
            core: the Root's.
            end: the socket.
            pid: of the process at the other end.
            on_end: called with this when the other end has gone.
        """
        self.pid = pid
        self._core = core
        self._on_end = on_end
        self._is_rejected = False
        self._errands: dict[int, _Errand] = {}
        self._channel = Channel(core.loop, end, self._heard, self._unsent, self.end)

    def reject(self, problem: Exception) -> None:
        """Say that nothing is done for this one.

        It closes the connection when it has heard that; were it done here, what it has sent by now
        would have it get ECONNRESET in place of this.
        """
        self._is_rejected = True
        self._channel.send(0, Rejected(problem))

    def end(self) -> None:
        """Who asked has gone."""
        self.close()
        self._on_end(self)
        for errand in list(self._errands.values()):
            errand.abandon()
        self._errands.clear()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def forsake(self) -> None:
        """Close its descriptor alone."""
        self._channel.forsake()

    def tell(self, number: int, message: object, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message, with descriptors that are closed then."""
        self._channel.send(number, message, descriptors, owned=True)

    def forget(self, number: int) -> None:
        """A spawn has failed, or its task was collected."""
        self._errands.pop(number, None)

    def _heard(self, number: int, message: Question | None, descriptors: list[int]) -> None:
        if self._is_rejected:
            for descriptor in descriptors:
                os.close(descriptor)
        elif message is None:
            problem = "the Root has no room for the descriptors of this spawn; raise RLIMIT_NOFILE"
            self.tell(number, Refused(call_error(errno.EMFILE, problem)))
        elif isinstance(message, Spawn):
            errand = self._errands[number] = _Errand(self._core, self, number, message, descriptors)
            errand.begin()
        elif (known := self._errands.get(number)) is not None:
            if isinstance(message, Cancel):
                known.cancel()
            elif isinstance(message, Collect):
                known.collect()

    def _unsent(self, _number: int, _error: OSError) -> None:
        # It would wait for ever for what was in it: with its connection it learns that it is over.
        self.end()


class _Errand:
    """A spawn for a task, and the task that came of it.

    It stands in a `Launch` for the future that a coroutine would wait for.
    """

    __slots__ = (
        "_asker",
        "_bound",
        "_cancelled",
        "_core",
        "_descriptors",
        "_done",
        "_is_unwanted",
        "_launch",
        "_number",
        "_state",
    )

    def __init__(
        self, core: Core, asker: Asker, number: int, spawn: Spawn, descriptors: list[int]
    ) -> None:
        self._core = core
        self._asker: Asker | None = asker
        self._number = number
        self._bound = spawn.bound
        self._descriptors = [lifted(descriptor) for descriptor in descriptors]
        self._launch = Launch(placed(spawn, self._descriptors), None, self)
        self._state: TaskState | None = None
        self._done = False
        self._cancelled = False
        self._is_unwanted = False
        """Whether nobody will collect the task: that is done when it ends."""

    def begin(self) -> None:
        """Have the launcher start it."""
        self._core.collector.expect()
        try:
            self._core.launcher.begin(self._launch)
        except AiopipError as error:
            self._fail(error)

    # What a Launch asks of a future

    def done(self) -> bool:
        """Whether it has started or failed, or is not wanted any more."""
        return self._done or self._cancelled

    def cancelled(self) -> bool:
        """Whether it is not wanted any more."""
        return self._cancelled

    def set_result(self, result: Answer, /) -> None:
        """It has started, or failed."""
        self._done = True
        try:
            state = self._core.launcher.result(self._launch, result)
        except AiopipError as error:
            self._fail(error)
            return
        self._release()
        self._state = state
        state.waiters.append(Called(lambda _: self._ended()))
        self._core.admit(state, Pipes(state.program, None, None, None), awaited=True)
        self._tell_of_start(state)

    def _tell_of_start(self, state: TaskState) -> None:
        try:
            descriptor = lifted(os.pidfd_open(state.pid))
        except ProcessLookupError:
            # It was reaped a moment ago: of that the event comes.  Of the number, which may be
            # somebody else's by now, nobody is told anything but how that task ended.
            descriptor = -1
        except OSError as error:
            problem = f"no descriptor to send it signals by: {os.strerror(error.errno or 0)}"
            self._tell(Refused(call_error(error.errno or errno.EIO, problem)))
            self._forget()
            self._asker = None
            self.cancel()
            return
        if descriptor >= 0 and self._core.client.group(state.pipid, state.generation) < 0:
            # Reaped, perhaps before the call: it may be another process's.
            os.close(descriptor)
            descriptor = -1
        begun = Begun(state.pipid, state.generation, state.pid)
        self._tell(begun, *([descriptor] if descriptor >= 0 else []))

    def cancel(self) -> None:
        """Nobody waits for it any more; the answer comes when nothing of it is left."""
        if self._state is not None:
            self._is_unwanted = True
            self._core.kill_now(self._state)
            self._collect_ended()
        elif not self.done():
            self._cancelled = True
            if self._core.launcher.give_up(self._launch):
                self._launch.when_over(Called(lambda _: self._over()))
            else:
                self._over()

    def collect(self) -> None:
        """Its end was reported, or will not be asked for."""
        self._is_unwanted = True
        self._collect_ended()

    def abandon(self) -> None:
        """Who asked for it has gone."""
        self._asker = None
        if self._state is None or self._bound:
            self.cancel()
        else:
            self.collect()

    def _fail(self, error: Exception) -> None:
        self._done = True
        self._release()
        self._core.collector.dismiss()
        self._tell(Refused(error))
        self._forget()

    def _over(self) -> None:
        """It was given up, and nothing of it is left."""
        self._release()
        if self._launch.state is not None:
            self._core.acknowledge(self._launch.state)
        self._core.collector.dismiss()
        self._tell(Refused(None))
        self._forget()

    def _ended(self) -> None:
        state = self._state
        if state is None or state.status is None:
            return  # the Root was closed before that was known
        self._tell(Finished(state.status))
        self._collect_ended()

    def _collect_ended(self) -> None:
        if self._is_unwanted and self._state is not None and self._state.status is not None:
            self._core.collector.collect(self._state)
            self._forget()

    def _tell(self, message: object, *descriptors: int) -> None:
        if self._asker is not None:
            self._asker.tell(self._number, message, descriptors)
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def _forget(self) -> None:
        if self._asker is not None:
            self._asker.forget(self._number)

    def _release(self) -> None:
        """The task has its descriptors, or never will."""
        while self._descriptors:
            os.close(self._descriptors.pop())
