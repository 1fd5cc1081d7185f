"""A worker's side of a pool's queue, typed; `native/include/aiopip_calls.h` documents the calls.

Every worker imports this when it starts, so it imports next to nothing.
"""

from __future__ import annotations

from errno import ECANCELED

from aiopip._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CALL = lib.AIOPIP_TAKE_CALL
RELEASED = lib.AIOPIP_TAKE_RELEASED
STOP = lib.AIOPIP_TAKE_STOP

FAILED = lib.AIOPIP_RESULT_FAILED
LENDS = lib.AIOPIP_RESULT_LENDS
KEEPS = lib.AIOPIP_RESULT_KEEPS

EXPORT = b"aiopip.worker"
"""What each worker exports: with an export, a dead task's memory waits until its end was seen."""


class Source:
    """Where a worker has its calls from.

    Attributes:
        number: of the call that was taken last, or of the result that was released.
        data: its pickle stream, in the owner's memory.
        table: its table of buffers, likewise.
    """

    __slots__ = ("_call", "_calls", "_hold", "_request", "_result", "_worker", "data", "table")

    def __init__(self, address: int, worker: int, event_fd: int, owner: tuple[int, int]) -> None:
        """Become a worker of the queue at an address.

        Args:
            address: where it is.
            worker: which worker of it this is.
            event_fd: the owner's.
            owner: PiP ID and generation of the task whose the queue is, or the root's PiP ID.

        Raises:
            OSError: this is no task, the owner has ended, or the queue is none of this version of
                aiopip.
        """
        self._calls = ffi.cast("aiopip_calls *", address)
        self._worker = worker
        self._call = ffi.new("uint32_t *")
        self._request = ffi.new("struct aiopip_parcel *")
        self._result = ffi.new("struct aiopip_parcel *")
        self._hold = self._keep_owner(address, *owner)
        _check(lib.aiopip_calls_join(self._calls, worker, event_fd), "joining the pool")

    def _keep_owner(self, address: int, pipid: int, generation: int) -> Any:
        """Hold all of the owner's memory, if it is a task's, and have ours held when we end."""
        peer, version = ffi.new("aiopip_peer **"), ffi.new("uint32_t *")
        _check(lib.aiopip_join(peer, version), "joining the root")
        empty, export = ffi.new("struct aiopip_array *"), ffi.new("uint64_t *")
        _check(lib.aiopip_export(peer[0], EXPORT, len(EXPORT), empty, export), "exporting")
        if pipid == lib.AIOPIP_PIPID_ROOT:
            return None  # whose memory stays
        hold = ffi.new("aiopip_hold **")
        _check(lib.aiopip_hold_memory(peer[0], address, 0, hold), "holding the owner's memory")
        # It may have been killed meanwhile, and the memory there may be another's by now: one that
        # runs the same program may have its own queue at the same place.
        if lib.aiopip_generation(peer[0], pipid) != generation:
            raise OSError(ECANCELED, "the owner of the pool has ended")
        return hold

    @property
    def number(self) -> int:
        """Of the call that was taken last, or of the result that was released."""
        return int(self._call[0])

    def take(self) -> int:
        """`aiopip_calls_take`: CALL, RELEASED or STOP, or minus an errno (EINTR).  Blocks."""
        taken = lib.aiopip_calls_take(self._calls, self._worker, self._call, self._request)
        if taken == CALL:
            self.data, self.table = parcel_at(self._request)
        return taken

    def ready(self, flags: int, data: bytes, table: bytes) -> None:
        """`aiopip_calls_ready`."""
        keep = _fill(self._result, data, table)
        _check(lib.aiopip_calls_ready(self._calls, self._worker, flags, self._result), "reporting")
        del keep

    def finish(self, number: int, flags: int, data: bytes, table: bytes) -> bool:
        """`aiopip_calls_finish`: whether data and table have to stay until RELEASED."""
        keep = _fill(self._result, data, table)
        result = lib.aiopip_calls_finish(self._calls, self._worker, number, flags, self._result)
        del keep
        _check(result, "handing over a result")
        return bool(result)

    def give_back(self, number: int) -> None:
        """`aiopip_calls_return`."""
        lib.aiopip_calls_return(self._calls, self._worker, number)


def memory_at(address: int, size_bytes: int) -> memoryview:
    """Bytes of the owner's, as long as it keeps them."""
    return memoryview(ffi.buffer(ffi.cast("char *", address), size_bytes))


def parcel_at(parcel: Any) -> tuple[memoryview, memoryview | bytes]:
    """What a `struct aiopip_parcel` names: the stream and the table."""
    table: memoryview | bytes = b""
    if parcel.table_bytes:
        table = memory_at(parcel.table, parcel.table_bytes)
    return memory_at(parcel.data, parcel.data_bytes), table


def _fill(parcel: Any, data: bytes, table: bytes) -> Any:
    """Name bytes; what is returned has to live as long as they are read."""
    keep = ffi.from_buffer("char[]", data), ffi.from_buffer("char[]", table)
    parcel.data = ffi.cast("uintptr_t", keep[0])
    parcel.data_bytes = len(data)
    parcel.table = ffi.cast("uintptr_t", keep[1])
    parcel.table_bytes = len(table)
    return keep


def _check(result: int, doing: str) -> None:
    if result < 0:
        raise OSError(-result, f"{doing} failed")
