"""The signals of this process, awaited: what `this_task().signals()` gives.

Python runs a signal's handler in the main thread, between two instructions of whatever runs there.
Ours puts the number into the streams that want it and has their loops wake who waits: both kinds of
loop allow that in such a place.  One handler serves all streams of a signal; what was there before
comes back with the end of the last.

A stream that was dropped may be found by the garbage collector in any thread, where no handler can
be changed.  So the handler looks itself: when nobody is left it puts the old one back, and raises
the signal again for that.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from aiopip._errors import InvalidArgumentError, WrongThreadError, whole_number
from aiopip._loop import running_loop
from aiopip._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from typing_extensions import Self


class SignalStream(Stream[int]):
    """The signals that have come since `this_task().signals()` was called, in their order.

    Each is a member of `signal.Signals`, and an int where it has no name.

    It ends with `close()`, with a `with` block around it, or with the last reference to it; then
    the signals do again what they did before.  The kernel merges signals of one number that come
    while the process is busy, but for real-time ones.  Several coroutines may iterate over one
    stream: each signal goes to one of them.

    Thread safety: the main thread, where the loop runs.
    """

    _ended = True  # until it has begun

    def __init__(self, signums: Iterable[int]) -> None:
        """Made by `this_task().signals`."""
        self._numbers = [_checked(number) for number in signums]
        if not self._numbers:
            raise InvalidArgumentError("signals", "there is none; name those to wait for")
        if threading.current_thread() is not threading.main_thread():
            raise WrongThreadError("signals are received in the main thread; await them there")
        super().__init__(running_loop())
        for number in self._numbers:
            _open(number, self)

    def close(self) -> None:
        """End it, behind the signals that have come; it may be called again."""
        if not self._ended:
            self._ended = True
            self._wake()
            _forget(self, self._numbers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._ended:
            _forget(self, self._numbers)

    def __repr__(self) -> str:
        names = ", ".join(getattr(number, "name", str(number)) for number in self._numbers)
        return f"<aiopip.SignalStream {names}{' closed' if self._ended else ''}>"

    def put(self, number: int) -> bool:
        """Take a signal, in its handler, False when the stream's loop is closed; internal."""
        try:
            self._loop.call_from_thread(self._wake, None)
        except RuntimeError:
            return False
        self._items.append(_named(number))
        return True


class _Process:
    """What the handler serves: of each signal the streams, and what was its handler before."""

    streams: ClassVar[dict[int, list[weakref.ref[SignalStream]]]] = {}
    previous: ClassVar[dict[int, Any]] = {}


def _checked(number: int) -> int:
    number = whole_number("signals", number)
    if number not in signal.valid_signals():
        raise InvalidArgumentError("signals", f"{number} is no signal")
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise InvalidArgumentError("signals", f"{_named(number)!r} cannot be caught")
    return number


def _named(number: int) -> int:
    try:
        return signal.Signals(number)
    except ValueError:  # a real-time signal between the first and the last, which have names
        return number


def _open(number: int, stream: SignalStream) -> None:
    if number not in _Process.streams:
        _Process.streams[number] = []
        _Process.previous[number] = signal.signal(number, _handle)
        signal.siginterrupt(number, False)  # as asyncio does
    _Process.streams[number].append(weakref.ref(stream))


def _forget(stream: SignalStream, numbers: Iterable[int]) -> None:
    for number in numbers:
        refs = _Process.streams.get(number, [])
        refs[:] = [ref for ref in refs if ref() is not None and ref() is not stream]
        if not refs and threading.current_thread() is threading.main_thread():
            _restore(number)


def _restore(number: int) -> None:
    _Process.streams.pop(number, None)
    previous = _Process.previous.pop(number, None)
    # Unless somebody has set another one meanwhile.
    if signal.getsignal(number) is _handle:
        # One that was there before Python began is not known, and Python's own way is the default.
        signal.signal(number, signal.SIG_DFL if previous is None else previous)


def _handle(number: int, _frame: FrameType | None) -> None:
    streams = [ref() for ref in _Process.streams.get(number, [])]
    taken = [stream.put(number) for stream in streams if stream is not None]
    if not any(taken):
        _restore(number)
        signal.raise_signal(number)


def _in_forked_child() -> None:
    # The loop is the parent's, and would be woken by what comes to the child.
    for number in list(_Process.streams):
        _restore(number)


os.register_at_fork(after_in_child=_in_forked_child)
