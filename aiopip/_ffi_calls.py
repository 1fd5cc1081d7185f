"""The owner's side of a pool's queue, typed; `native/include/aiopip_calls.h` documents it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from aiopip._errors import call_error
from aiopip._native import ffi, lib

ANY = lib.AIOPIP_WORKER_ANY
BATCH = 64

READY = lib.AIOPIP_NEWS_READY
DONE = lib.AIOPIP_NEWS_DONE
RETURNED = lib.AIOPIP_NEWS_RETURNED
LOST = lib.AIOPIP_NEWS_LOST

FAILED = lib.AIOPIP_RESULT_FAILED
KEEPS = lib.AIOPIP_RESULT_KEEPS
LENDS = lib.AIOPIP_RESULT_LENDS

_EVENT = struct.Struct("=iiIIQQQQQQ")


class CallEvent(NamedTuple):
    """`struct aiopip_call_event`."""

    kind: int
    worker: int
    call: int
    flags: int
    started_ns: int
    ended_ns: int
    data: int
    data_bytes: int
    table: int
    table_bytes: int


class Calls:
    """The queue of a pool; not for two threads at once, but for `release`."""

    __slots__ = ("_bytes", "_calls", "_events", "_requests")

    def __init__(self) -> None:
        """Make one without workers.

        Raises:
            CallError: no memory (ENOMEM), or no descriptor (EMFILE).
        """
        calls = ffi.new("aiopip_calls **")
        result = lib.aiopip_calls_new(calls)
        if result < 0:
            raise call_error(-result, "a pool's queue could not be made")
        # With the last reference: results that are lent refer to it, too.
        self._calls = ffi.gc(calls[0], lib.aiopip_calls_free)
        self._requests: list[Any] = []
        self._events = ffi.new("struct aiopip_call_event[]", BATCH)
        self._bytes = memoryview(ffi.buffer(self._events))

    @property
    def address(self) -> int:
        """Where it lies, for workers."""
        return int(ffi.cast("uintptr_t", self._calls))

    @property
    def fd(self) -> int:
        """`aiopip_calls_fd`."""
        return lib.aiopip_calls_fd(self._calls)

    def add_worker(self) -> int:
        """`aiopip_calls_add_worker`: its number, or minus an errno."""
        return lib.aiopip_calls_add_worker(self._calls)

    def stop_worker(self, worker: int) -> None:
        """`aiopip_calls_stop_worker`."""
        lib.aiopip_calls_stop_worker(self._calls, worker)

    def push(self, worker: int, data: bytes, table: bytes) -> int:
        """`aiopip_calls_push`: the call's number, or minus an errno.

        Both stay the caller's, and have to stay where they are until the call has ended.
        """
        # Not one for all: a finaliser in the midst of this may push another call.
        request = self._requests.pop() if self._requests else ffi.new("struct aiopip_parcel *")
        request.data = ffi.cast("uintptr_t", ffi.from_buffer("char[]", data))
        request.data_bytes = len(data)
        request.table_bytes = len(table)
        if table:
            request.table = ffi.cast("uintptr_t", ffi.from_buffer("char[]", table))
        number = lib.aiopip_calls_push(self._calls, worker, request)
        self._requests.append(request)
        return number

    def revoke(self, call: int) -> bool:
        """`aiopip_calls_revoke`: whether no worker has begun it, nor ever will."""
        return lib.aiopip_calls_revoke(self._calls, call) == 0

    def taker(self, call: int) -> int:
        """`aiopip_calls_taker`: which worker runs it, or minus an errno."""
        return lib.aiopip_calls_taker(self._calls, call)

    def doom(self, call: int) -> int:
        """`aiopip_calls_doom`: which worker has to be killed now, or minus an errno."""
        return lib.aiopip_calls_doom(self._calls, call)

    def drain(self) -> list[CallEvent]:
        """`aiopip_calls_drain`: up to BATCH; fewer mean that no more wait."""
        return self._decode(lib.aiopip_calls_drain(self._calls, self._events, BATCH))

    def bury(self, worker: int) -> list[CallEvent]:
        """`aiopip_calls_bury_worker`: up to BATCH; fewer mean that its number is free."""
        return self._decode(lib.aiopip_calls_bury_worker(self._calls, worker, self._events, BATCH))

    def release(self, call: int) -> None:
        """`aiopip_calls_release`.  Any thread."""
        lib.aiopip_calls_release(self._calls, call)

    def _decode(self, count: int) -> list[CallEvent]:
        end = count * _EVENT.size
        return [CallEvent(*event) for event in _EVENT.iter_unpack(self._bytes[:end])]


def bytes_at(address: int, size_bytes: int) -> memoryview:
    """Bytes of another process of the space, which keeps them as long as they are looked at."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), size_bytes))
