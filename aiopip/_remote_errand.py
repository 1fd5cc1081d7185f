"""What a task has asked its Root for: a spawn, and the task that came of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiopip._loop import Future, Settable
    from aiopip._status import ExitStatus

ENDS_S = 1.0
"""How long tasks that were killed may take to end, in an uninterruptible sleep for example."""


class Errand:
    """A spawn that the Root does for this task, and the task that came of it.

    Attributes:
        number: what names it in messages.
        program: what is started, as it was given.
        name: what the task is called.
        pipid: its PiP ID.
        generation: which use of the slot; the two name a task for ever.
        pid: its process ID.
        pidfd: a descriptor that signals it, -1 when it has ended.
        status: how it ended, None while that is not known.
        answered: set when it has started or failed, or the connection has ended.
        error: what it failed at.
        is_over: whether nothing will be heard of it any more.
        is_collected: whether the Root need not keep it.
        is_dropped: whether it is collected behind its callbacks.
        waiters: who waits until it is over.
        callbacks: what is called then.
        bound: whether the Root kills it when this process, or the connection, has ended.
        keeps: what it uses of this process's memory, None for nothing.
        disown: called before it is given up: from then on its memory may go.
    """

    __slots__ = (
        "answered",
        "bound",
        "callbacks",
        "disown",
        "error",
        "generation",
        "is_collected",
        "is_dropped",
        "is_over",
        "keeps",
        "name",
        "number",
        "pid",
        "pidfd",
        "pipid",
        "program",
        "status",
        "waiters",
    )

    def __init__(
        self,
        number: int,
        program: str,
        name: str,
        answered: Settable[None],
        *,
        bound: bool,
    ) -> None:
        self.number = number
        self.program = program
        self.name = name
        self.answered = answered
        self.bound = bound
        self.keeps: object = None
        self.disown: Callable[[], None] | None = None
        self.pipid = self.generation = self.pid = 0
        self.pidfd = -1
        self.status: ExitStatus | None = None
        self.error: Exception | None = None
        self.is_over = self.is_collected = self.is_dropped = False
        self.waiters: list[Future[None]] = []
        self.callbacks: list[Callable[[ExitStatus | None], None]] = []

    def answer(self) -> None:
        """Let who spawns go on."""
        if not self.answered.done():
            self.answered.set_result(None)

    def forsake(self) -> None:
        """Nothing will be heard of it any more, and nobody can be told: the loop has ended."""
        self.is_over = True
        self.keeps = self.disown = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def end(self) -> None:
        """Nothing will be heard of it any more."""
        self.forsake()
        self.answer()
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback(self.status)

    def __str__(self) -> str:
        return f"task {self.name!r} (PiP ID {self.pipid}, process {self.pid})"


class Lodgers:
    """Tasks of which nothing will be heard any more, but which use memory of this process.

    Their connection has ended before them.  What they use is kept until they have ended, which
    their pidfds tell; for ever where there is none, since they were just being started.
    """

    def __init__(self) -> None:
        self._lodgers: list[tuple[int, object]] = []

    def take_in(self, errands: Iterable[Errand]) -> None:
        """The connection of these has ended: kill those that are bound, keep what others use.

        It blocks until those have ended, which takes no time, and ENDS_S at the most.
        """
        here = [one for one in errands if one.keeps is not None and not one.is_over]
        bound = [one for one in here if one.bound and one.pidfd >= 0]
        for errand in bound:
            _kill(errand.pidfd)
        deadline = time.monotonic() + ENDS_S
        for errand in here:
            if errand in bound and _ends(errand.pidfd, max(deadline - time.monotonic(), 0)):
                continue
            self._lodgers.append((errand.pidfd, errand.keeps))
            errand.pidfd = -1

    def sweep(self) -> None:
        """Let go of what those have used that have ended."""
        left = []
        for pidfd, keeps in self._lodgers:
            if pidfd >= 0 and _ends(pidfd, 0):
                os.close(pidfd)
            else:
                left.append((pidfd, keeps))
        self._lodgers = left

    def wait(self) -> None:
        """Block until all have ended that can be waited for."""
        for pidfd, _ in self._lodgers:
            if pidfd >= 0:
                _ends(pidfd, None)

    def forsake(self) -> None:
        """This process is a forked child: close the descriptors, and nothing else."""
        for pidfd, _ in self._lodgers:
            if pidfd >= 0:
                os.close(pidfd)
        self._lodgers = []


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _ends(pidfd: int, timeout_s: float | None) -> bool:
    """Whether a process ends within that time; it touches no memory from then on."""
    ends = select.poll()
    ends.register(pidfd, select.POLLIN)
    return bool(ends.poll(None if timeout_s is None else timeout_s * 1000))
