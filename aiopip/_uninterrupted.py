"""Ctrl-C is put off while the main thread is in the midst of what must be done as a whole.

A signal's handler runs between any two instructions of the main thread, and the usual one of SIGINT
raises KeyboardInterrupt there: behind the call that has taken a result from the workers, say, and
before it is known to anybody.  Other threads are never interrupted.
"""

from __future__ import annotations

import sys
import threading
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class Uninterrupted:
    """A block at whose end, and not before, the handler of SIGINT runs; of one thread, used once.

    Handlers of other signals run at once: those that raise something are not meant for programs
    that go on.
    """

    __slots__ = ("_handler", "_interrupted")

    def __init__(self) -> None:
        self._handler: Any = None
        self._interrupted = False

    def __enter__(self) -> None:
        if threading.get_ident() != threading.main_thread().ident:
            return
        handler = getsignal(SIGINT)
        if callable(handler):
            self._handler = handler
            signal(SIGINT, self._note)

    def __exit__(self, *_: object) -> None:
        handler = self._handler
        if handler is None:
            return
        # A callback of the user's may have set another one within the block.
        if getsignal(SIGINT) == self._note:
            signal(SIGINT, handler)
        if self._interrupted:
            handler(int(SIGINT), sys._getframe(1))  # noqa: SLF001

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
