"""What the Root knows of one task.

The internal side of a `Task`, which has the methods: the collector, the launcher and the imports
each keep here what they need to find when an event names the task.  It refers to no Task, and what
it refers to has it no more once the task has ended, so it is part of no reference cycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._events import Event
    from aiopip._group import TaskGroup
    from aiopip._loop import Future, Settable
    from aiopip._status import ExitStatus
    from aiopip._task import Task


class Member(NamedTuple):
    """What a task is in its group.

    Attributes:
        group: which one.
        check: whether the group fails when the task ends with another status than 0.
    """

    group: TaskGroup
    check: bool


class TaskState:
    """One task from the moment that the native core has given it a slot.

    Attributes:
        pipid: its PiP ID, the number of its slot.
        generation: which use of the slot; the two name a task for ever.
        program: what was started, as it was given.
        given_name: what spawn was asked to call the task, None when it was not.
        member: what it is in a group, None when it is of none.
        pid: its process ID, 0 until it has started.
        status: how it ended, None while it has not.
        shared: whether it is in the Root's address space, as far as is known.
        loaded: whether the preloaded library has reported in, None while that is unknown.
        collected: whether its status has been reported to somebody.
        awaited: whether who has started it waits for its end, so that no `wait_any` is given it.
        end_order: the how manieth end of the Root this was.
        waiters: the pending `wait()`s, and what is called for another who waits.
        reporting: how many of them were woken by the end and have not run since.
        imports: the pending imports from it, each a name and a future.
        signaled: whether a signal of ours that is to end it has reached it alive: of its Root, of
            its group, or of a cancelled `aclose()`.
        early: its users' events that came before `spawn` has returned, each made of the task.
        on_end: called with its status, before that is reported to anybody.
        unacknowledged: whether the core keeps its memory until its end was dealt with.
    """

    __slots__ = (
        "awaited",
        "collected",
        "early",
        "end_order",
        "generation",
        "given_name",
        "imports",
        "loaded",
        "member",
        "on_end",
        "pid",
        "pipid",
        "program",
        "reporting",
        "shared",
        "signaled",
        "status",
        "unacknowledged",
        "waiters",
    )

    def __init__(
        self,
        pipid: int,
        generation: int,
        program: str,
        member: Member | None = None,
        given_name: str | None = None,
    ) -> None:
        self.pipid = pipid
        self.generation = generation
        self.program = program
        self.given_name = given_name
        self.member = member
        self.pid = 0
        self.status: ExitStatus | None = None
        self.loaded: bool | None = None
        self.shared = True
        self.collected = False
        self.awaited = False
        self.end_order = 0
        self.waiters: list[Settable[None]] = []
        self.reporting = 0
        self.imports: list[tuple[bytes, Future[Any]]] = []
        self.signaled = False
        self.early: list[Callable[[Task], Event]] = []
        self.on_end: Callable[[ExitStatus], None] | None = None
        self.unacknowledged = False

    @property
    def name(self) -> str:
        """What the task is called: what spawn was given, or the last part of the program's path."""
        return self.given_name or self.program.rpartition("/")[2]

    @property
    def key(self) -> tuple[int, int]:
        """What names the task in the native core's events."""
        return self.pipid, self.generation

    def __str__(self) -> str:
        return f"task {self.name!r} (PiP ID {self.pipid}, process {self.pid})"
