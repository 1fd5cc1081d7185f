"""Results that lie in a worker's memory, seen in place by the pool's owner.

What a result is made of is of one of these:

    the worker's memory      held until nothing refers to it: by the worker, which keeps the object,
                             and by the owner's hold, which counts when the worker is dead
    another task's           the worker may have imported it: held likewise
    the arguments' memory    the caller's own object is what stays alive; also those of another call
                             whose arguments the worker has kept
    other memory of ours     the worker has it from an export, say, and is the only one that holds
                             it: it is copied
"""

from __future__ import annotations

import struct
from _pickle import loads
from typing import TYPE_CHECKING, Any

from aiopip._ffi_calls import FAILED, LENDS, bytes_at
from aiopip._parcel import READONLY
from aiopip._references import memory
from aiopip._remote_errors import unpack_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiopip._ffi import Hold, Peer
    from aiopip._ffi_calls import CallEvent, Calls
    from aiopip._parcel import Parcel


TABLE = struct.Struct("=QQQ")
"""What a table has of each buffer: address, size, flags."""


class Lender:
    """What all views of one result keep alive; the result goes back with the last of them."""

    __slots__ = ("_call", "_calls", "_holds", "_peer")

    def __init__(self, calls: Calls, call: int, peer: Peer) -> None:
        self._calls = calls
        self._call = call
        self._peer = peer
        self._holds: list[Hold] = []

    def __del__(self) -> None:
        # In any thread, also in the middle of anything: it takes no lock of Python's.
        self._holds.clear()
        self._calls.release(self._call)

    def views(
        self, event: CallEvent, arguments: Parcel, kept: Iterable[Parcel]
    ) -> list[memoryview]:
        """All memory to which the result of a call points, held.

        Args:
            event: of its end.
            arguments: what it was called with, to which it may point.
            kept: arguments of other calls, to which workers still have views.
        """
        table = bytes_at(event.table, event.table_bytes)
        ours = _Spans(arguments) if arguments.table else None
        return [
            self._view(address, size_bytes, bool(flags & READONLY), ours, kept)
            for address, size_bytes, flags in TABLE.iter_unpack(table)
        ]

    def stream(self, event: CallEvent) -> memoryview | bytes:
        """The pickle stream itself, held where it is large."""
        if event.flags & LENDS:
            return self._view(event.data, event.data_bytes, True, None, ())
        return bytes(bytes_at(event.data, event.data_bytes))

    def _view(
        self,
        address: int,
        size_bytes: int,
        readonly: bool,
        ours: _Spans | None,
        kept: Iterable[Parcel],
    ) -> memoryview:
        keeper = ours.keeper_of(address, size_bytes) if ours is not None and size_bytes else None
        if keeper is not None or not size_bytes:
            return memory(address, size_bytes, readonly, keeper)
        hold = self._peer.hold_memory(address, size_bytes)
        if isinstance(hold, int):
            for parcel in kept:
                keeper = _Spans(parcel).keeper_of(address, size_bytes)
                if keeper is not None:
                    return memory(address, size_bytes, readonly, keeper)
            copied = memoryview(bytearray(bytes_at(address, size_bytes)))
            return copied.toreadonly() if readonly else copied
        self._holds.append(hold)
        return memory(address, size_bytes, readonly, self)


class Unread:
    """A result that is there, and is read where code of the user's may run: without a lock."""

    __slots__ = ("_buffers", "_failed", "_stream")

    def __init__(self, stream: memoryview | bytes, buffers: list[memoryview], failed: bool) -> None:
        """Made by `found`."""
        self._stream = stream
        self._buffers = buffers
        self._failed = failed

    def read(self) -> tuple[Any, BaseException | None]:
        """What the function returned, or why there is nothing."""
        try:
            value = loads(self._stream, buffers=self._buffers)
            return (None, unpack_error(value)) if self._failed else (value, None)
        except BaseException as raised:  # noqa: BLE001  by an object's own code: the caller's
            return None, raised


def found(
    calls: Calls, event: CallEvent, peer: Peer, arguments: Parcel, kept: Iterable[Parcel]
) -> Unread:
    """The result of a call; its place in the queue is given back, now or when nobody has a view.

    Args:
        calls: the queue.
        event: of the call's end.
        peer: this process, which holds memory of workers.
        arguments: what it was called with, to which it may point.
        kept: arguments of other calls, to which workers still have views.
    """
    failed = bool(event.flags & FAILED)
    if not event.table_bytes and not event.flags & LENDS:
        try:
            return Unread(bytes(bytes_at(event.data, event.data_bytes)), [], failed)
        finally:
            calls.release(event.call)
    lender = Lender(calls, event.call, peer)
    buffers = lender.views(event, arguments, kept) if event.table_bytes else []
    return Unread(lender.stream(event), buffers, failed)


class _Spans:
    """Whose the memory is to which arguments point."""

    __slots__ = ("_spans",)

    def __init__(self, arguments: Parcel) -> None:
        rows = TABLE.iter_unpack(arguments.table)
        self._spans = [
            (address, address + size_bytes, keeper)
            for (address, size_bytes, _), keeper in zip(rows, arguments.keepers, strict=True)
        ]

    def keeper_of(self, address: int, size_bytes: int) -> object | None:
        """What keeps a range; None when it is none of theirs."""
        for start, end, keeper in self._spans:
            if start <= address and address + size_bytes <= end:
                return keeper
        return None
