"""Items that come one by one and are awaited: what event and signal streams have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from aiopip._loop import Future, Loop

T = TypeVar("T")


class Stream(AsyncIterator[T]):
    """An async iterator over what is put into it, without limit, until it is ended.

    A waiter is woken to look, and is handed nothing: one that is cancelled takes no item away.
    """

    def __init__(self, loop: Loop) -> None:
        """Made by what gives it to the user."""
        self._loop = loop
        self._items: deque[T] = deque()
        self._ended = False
        self._waiters: list[Future[None]] = []

    async def __anext__(self) -> T:
        await self._loop.checkpoint()
        while not self._items:
            if self._ended:
                raise StopAsyncIteration
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        return self._items.popleft()

    def _wake(self, _: object = None) -> None:
        """Have all waiters look; in the loop."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
