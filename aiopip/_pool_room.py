"""Room in a pool: `max_pending` calls at the most, and the others wait, each in his turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._loop import Future, Loop


class Room:
    """Who waits for room.

    A turn that was given is room that is taken, also before the one who has it has run: otherwise a
    call that comes in between would have it, too.
    """

    def __init__(self, loop: Loop, limit: int, used: Callable[[], int]) -> None:
        """Take what there is.

        Args:
            loop: the pool's.
            limit: how many calls there may be; 0 for any number.
            used: how many there are.
        """
        self._loop = loop
        self._limit = limit
        self._used = used
        self._given = 0
        self._waiting: deque[Future[None]] = deque()

    def __len__(self) -> int:
        """How many wait, or have been given a turn and not used it yet."""
        return len(self._waiting) + self._given

    async def enter(self) -> None:
        """Wait for room; the caller uses it at once."""
        if not self._limit or (not self._waiting and self._left() > 0):
            return
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                self._given -= 1
                if not self._loop.gone:
                    self.give()
            raise
        self._given -= 1

    def give(self) -> None:
        """A call is over: there may be room for those who wait for it."""
        while self._waiting and self._left() > 0:
            self._next()

    def close(self) -> None:
        """Let all of them go on, to find that the pool is closed."""
        while self._waiting:
            self._next()

    def _next(self) -> None:
        turn = self._waiting.popleft()
        if not turn.done():
            self._given += 1
            turn.set_result(None)

    def _left(self) -> int:
        return self._limit - self._used() - self._given
