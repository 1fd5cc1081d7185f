"""What `root.events()` gives: the events, and the streams of them."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopip._loop import Future
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


class EventStream(AsyncIterator[Event]):
    """The events of a Root since `root.events()` was called, oldest first; it ends with the Root.

    Events that nobody has fetched yet are kept without limit.  A stream that nobody refers to any
    more is given none.  Several coroutines may iterate over one stream: each event goes to one of
    them.
    """

    def __init__(self, create_future: Callable[[], Future[Any]]) -> None:
        """Made by `Root.events`."""
        self._create_future = create_future
        self._events: deque[Event] = deque()
        self._closed = False
        self._waiters: list[Future[None]] = []

    async def __anext__(self) -> Event:
        # A waiter is woken to look, and is handed nothing: a cancelled one takes no event away.
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            waiter: Future[None] = self._create_future()
            self._waiters.append(waiter)
            await waiter
        return self._events.popleft()

    def __repr__(self) -> str:
        state = "ended" if self._closed else "open"
        return f"<aiopip.EventStream {state}, {len(self._events)} waiting>"

    def put(self, event: Event) -> None:
        """Add an event; for the Root."""
        self._events.append(event)
        self._wake()

    def close(self) -> None:
        """End the stream behind the events that it holds; for the Root."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class Listeners:
    """The streams of a Root."""

    __slots__ = ("_create_future", "_streams")

    def __init__(self, create_future: Callable[[], Future[Any]]) -> None:
        self._create_future = create_future
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    def __bool__(self) -> bool:
        return bool(self._streams)

    def listen(self) -> EventStream:
        """A new stream."""
        stream = EventStream(self._create_future)
        self._streams.add(stream)
        return stream

    def publish(self, event: Event) -> None:
        """Put an event into all of them."""
        for stream in self._streams:
            stream.put(event)

    def close(self) -> None:
        """End all of them."""
        for stream in self._streams:
            stream.close()
