"""The native core's events as records: `struct aiopip_event`, byte by byte.

All its fields are read by one call: an attribute of a C structure takes as long as ten items of a
tuple, and an end has twenty, on the way from the kernel to the coroutine that awaits it.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from aiopip._native import ffi, lib
from aiopip._records import (
    Called,
    Ended,
    Failed,
    Halted,
    Published,
    Reclaimed,
    Released,
    Resumed,
    Started,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._records import Record

EVENT_BYTES = ffi.sizeof("struct aiopip_event")

_FIELDS = struct.Struct("@iiQiiiiIQQ9Q")
"""kind, PiP ID, generation, PID, failure, error, wait status, flags, two times, and the usage."""

_DETAIL = ffi.offsetof("struct aiopip_event", "detail")
if _FIELDS.size != _DETAIL:
    raise ImportError(f"struct aiopip_event has its detail at {_DETAIL}, not {_FIELDS.size}")

_KIND, _PIPID, _GENERATION, _PID, _FAILURE, _ERROR, _STATUS, _FLAGS = range(8)
_BEGAN, _END, _USAGE = range(8, 11)

_FAILED = lib.AIOPIP_EVENT_FAILED
_LOADED = lib.AIOPIP_EVENT_LOADED
_LOST = lib.AIOPIP_EVENT_STATUS_LOST
_LEFT = lib.AIOPIP_EVENT_LEFT
_ACKNOWLEDGE = lib.AIOPIP_EVENT_ACKNOWLEDGE

_Fields = tuple[Any, ...]


def decode(events: memoryview, offset: int) -> Record:
    """One event.

    Args:
        events: an array of `struct aiopip_event`.
        offset: where in it the event begins, in bytes.
    """
    fields = _FIELDS.unpack_from(events, offset)
    if fields[_KIND] == _FAILED:
        return _failed(fields, events[offset + _DETAIL : offset + EVENT_BYTES])
    return _DECODERS[fields[_KIND]](fields)


def _started(fields: _Fields) -> Started:
    return Started(fields[_PIPID], fields[_GENERATION], fields[_PID])


def _failed(fields: _Fields, detail: memoryview) -> Failed:
    text = os.fsdecode(detail.tobytes().partition(b"\0")[0])
    return Failed(fields[_PIPID], fields[_GENERATION], fields[_FAILURE], fields[_ERROR], text)


def _ended(fields: _Fields) -> Ended:
    flags = fields[_FLAGS]
    return Ended(
        fields[_PIPID],
        fields[_GENERATION],
        fields[_STATUS],
        bool(flags & _LOADED),
        bool(flags & _LOST),
        bool(flags & _LEFT),
        bool(flags & _ACKNOWLEDGE),
        fields[_BEGAN],
        fields[_END],
        Usage(*fields[_USAGE:]),
    )


def _exported(fields: _Fields) -> Published:
    return Published(fields[_PIPID], fields[_GENERATION])


def _stopped(fields: _Fields) -> Halted:
    return Halted(fields[_PIPID], fields[_GENERATION], os.WSTOPSIG(fields[_STATUS]))


def _continued(fields: _Fields) -> Resumed:
    return Resumed(fields[_PIPID], fields[_GENERATION])


def _reclaimed(fields: _Fields) -> Reclaimed:
    return Reclaimed(fields[_PIPID], fields[_GENERATION])


def _released(_fields: _Fields) -> Released:
    return Released()


def _called(_fields: _Fields) -> Called:
    return Called()


_DECODERS: dict[int, Callable[[_Fields], Record]] = {
    lib.AIOPIP_EVENT_STARTED: _started,
    lib.AIOPIP_EVENT_EXITED: _ended,
    lib.AIOPIP_EVENT_EXPORTED: _exported,
    lib.AIOPIP_EVENT_STOPPED: _stopped,
    lib.AIOPIP_EVENT_CONTINUED: _continued,
    lib.AIOPIP_EVENT_RECLAIMED: _reclaimed,
    lib.AIOPIP_EVENT_RELEASED: _released,
    lib.AIOPIP_EVENT_CALLED: _called,
}
