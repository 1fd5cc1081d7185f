"""What `root.events()` gives: the events, and the streams of them."""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING

from aiopip._errors import call_error
from aiopip._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._loop import Loop
    from aiopip._status import ExitStatus
    from aiopip._task import Task


@dataclasses.dataclass(frozen=True)
class Event:
    """Something happened to a task.

    Attributes:
        task: which one.
    """

    task: Task


@dataclasses.dataclass(frozen=True)
class Exited(Event):
    """The task ended; `events()` reports it also when somebody else has collected the task.

    Attributes:
        status: how.
    """

    status: ExitStatus


@dataclasses.dataclass(frozen=True)
class Stopped(Event):
    """The task stopped: by `Task.stop()`, a debugger, the terminal's Ctrl-Z ...

    Of the stops and continues of a task that come before they are looked at, the latest alone is
    reported, so two of a kind may follow each other; the last one always says what the task does.

    Attributes:
        signal: which one stopped it, a member of `signal.Signals`.
    """

    signal: int


@dataclasses.dataclass(frozen=True)
class Continued(Event):
    """The task goes on after a stop; what `Stopped` says of several holds here, too."""


@dataclasses.dataclass(frozen=True)
class Exported(Event):
    """The task has exported something, once or several times, since the last such event of it.

    Behind each export comes one, before `Exited`, unless the task was killed within the export.
    """


class EventStream(Stream[Event]):
    """The events of a Root since `root.events()` was called, oldest first; it ends with the Root.

    Events that nobody has fetched yet are kept without limit.  A stream that nobody refers to any
    more is given none.  Several coroutines may iterate over one stream: each event goes to one of
    them.
    """

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open"
        return f"<aiopip.EventStream {state}, {len(self._items)} waiting>"

    def put(self, event: Event) -> None:
        """Add an event; internal."""
        self._items.append(event)
        self._wake()

    def close(self) -> None:
        """End the stream behind the events that it holds; internal."""
        self._ended = True
        self._wake()


class Listeners:
    """The streams of a Root, and whether the native core reports what only they want to know."""

    __slots__ = ("_listen", "_listening", "_loop", "_streams")

    def __init__(self, loop: Loop, listen: Callable[[bool], int]) -> None:
        """Take the loop's futures, and how the core is told to report or not; 0 or -errno."""
        self._loop = loop
        self._listen = listen
        self._listening = False
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def __bool__(self) -> bool:
        return bool(self._streams)

    def listen(self) -> EventStream:
        """A new stream."""
        if not self._listening:
            result = self._listen(True)
            if result < 0:
                raise call_error(-result, "the thread that watches for stops cannot be started")
            self._listening = True
        stream = EventStream(self._loop)
        self._streams.add(stream)
        return stream

    def publish(self, event: Event) -> None:
        """Put an event into all of them."""
        for stream in self._streams:
            stream.put(event)

    def settle(self) -> None:
        """Have the core report no more if no stream is left.

        For the loop, now and then: a stream may be dropped in any thread, while the Root is closed.
        """
        if self._listening and not self._streams:
            self._listening = False
            self._listen(False)

    def close(self) -> None:
        """End all of them."""
        for stream in self._streams:
            stream.close()
