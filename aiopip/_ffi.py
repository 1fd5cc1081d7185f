"""The one door to the native core: typed functions, and no cdata leaves this module.

`native/include/aiopip.h` documents the calls.  They return what C returned: a count or 0, or minus
an errno, which the callers turn into errors.  All of a `Client` is for the loop's thread, but for
`abort`; a `Hold` may be dropped in any.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from aiopip._native import ffi, lib
from aiopip._records import Ended, Exported, Failed, Reclaimed, Record, Started, Usage
from aiopip._statistics import RootStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._native import CData
    from aiopip._request import SpawnRequest

BATCH = 64
"""How many events one call of `Client.drain` takes at the most."""

MAX_TASKS = lib.AIOPIP_MAX_TASKS


class Hold:
    """A held import: the exporter's memory stays mapped as long as this, or a view of it, lives."""

    __slots__ = ("_hold",)

    def __init__(self, hold: CData) -> None:
        self._hold = ffi.gc(hold, lib.aiopip_hold_release)

    @property
    def address(self) -> int:
        """The exported address."""
        return int(ffi.cast("uintptr_t", lib.aiopip_hold_address(self._hold)))

    def check(self, address: int, size_bytes: int) -> int:
        """Whether the range is the exporter's: 1 writable, 0 read only, -EFAULT not."""
        return lib.aiopip_hold_check(self._hold, address, size_bytes)

    def memory(self, address: int, size_bytes: int) -> memoryview:
        """The bytes of a range that `check` has passed, writable.

        The view, and every view made of it, keeps the hold: a view keeps its buffer, the buffer its
        pointer, and the pointer a destructor that refers to the hold and does nothing else.
        """
        pointer = ffi.gc(ffi.cast("char *", address), functools.partial(_drop, self._hold))
        return memoryview(ffi.buffer(pointer, size_bytes))


def _drop(_hold: CData, _pointer: CData) -> None:
    """Release nothing: the reference that the bound first argument was goes away by itself."""


class Client:
    """A client of the core, from `open_client` to `close`."""

    __slots__ = ("_client", "_events", "_generation", "_pipid", "_request")

    def __init__(self, client: CData) -> None:
        self._client = client
        # Made once and used again by every call: none of the calls keeps a pointer.
        self._events = ffi.new("struct aiopip_event[]", BATCH)
        self._request = ffi.new("struct aiopip_spawn_request *")
        self._pipid = ffi.new("int32_t *")
        self._generation = ffi.new("uint64_t *")

    def close(self) -> int:
        """`aiopip_close`.  Blocks for the end of two threads."""
        return lib.aiopip_close(self._client)

    def abort(self, timeout_ms: int) -> int:
        """`aiopip_abort`.  Blocks."""
        return lib.aiopip_abort(self._client, timeout_ms)

    def fd(self) -> int:
        """`aiopip_fd`."""
        return lib.aiopip_fd(self._client)

    def spawn(self, request: SpawnRequest) -> tuple[int, int, int]:
        """`aiopip_spawn`: its result, PiP ID and generation; the latter two hold after 0 only."""
        into = self._request
        # from_buffer() objects keep the bytes alive that they point into, so they are named.
        strings = [
            ffi.NULL if text is None else ffi.from_buffer("char[]", text)
            for text in (
                request.program,
                request.argv,
                request.envp,
                request.path_list,
                request.cwd,
            )
        ]
        into.program, into.argv, into.envp, into.path_list, into.cwd = strings
        into.argv_bytes = len(request.argv)
        into.argc = request.argc
        into.envp_bytes = len(request.envp)
        into.envc = request.envc
        into.stdio = request.stdio
        into.pipid = request.pipid
        result = lib.aiopip_spawn(self._client, into, self._pipid, self._generation)
        return result, self._pipid[0], self._generation[0]

    def cancel(self, pipid: int, generation: int) -> int:
        """`aiopip_cancel`."""
        return lib.aiopip_cancel(self._client, pipid, generation)

    def kill(self, pipid: int, generation: int, signal: int) -> int:
        """`aiopip_kill`."""
        return lib.aiopip_kill(self._client, pipid, generation, signal)

    def shares(self, pipid: int, generation: int) -> int:
        """`aiopip_shares`."""
        return lib.aiopip_shares(self._client, pipid, generation)

    def acknowledge(self, pipid: int, generation: int) -> int:
        """`aiopip_acknowledge`."""
        return lib.aiopip_acknowledge(self._client, pipid, generation)

    def drain(self) -> list[Record]:
        """`aiopip_drain`: up to BATCH events, oldest first; fewer mean that no more wait."""
        count = lib.aiopip_drain(self._client, self._events, BATCH)
        return [_DECODERS[event.kind](event) for event in self._events[0:count]]

    def named_import(self, pipid: int, generation: int, name: bytes) -> Hold | int:
        """`aiopip_named_import`: a Hold, or minus an errno."""
        hold = ffi.new("aiopip_hold **")
        result = lib.aiopip_named_import(self._client, pipid, generation, name, len(name), hold)
        return Hold(hold[0]) if result >= 0 else result

    def statistics(self) -> RootStatistics:
        """`aiopip_get_statistics`."""
        raw = ffi.new("struct aiopip_statistics *")
        lib.aiopip_get_statistics(self._client, raw)
        return RootStatistics(
            max_tasks=raw.max_tasks,
            queued=raw.queued,
            loading=raw.loading,
            alive=raw.alive,
            reclaiming=raw.reclaiming,
            held=raw.held,
            spawned=raw.spawned,
            ended=raw.ended,
            failed=raw.failed,
            unloaded=raw.unloaded,
            orphan_waits=raw.orphan_waits,
            untracked=raw.untracked,
            mappings=raw.mappings,
            mappings_limit=raw.mappings_limit,
            window_bytes=raw.window_bytes,
            private_descriptors=bool(raw.private_descriptors),
            has_clone3=bool(raw.has_clone3),
            has_kcmp=bool(raw.has_kcmp),
            loader_tracked=bool(raw.loader_tracked),
        )


def open_client(max_tasks: int, preload: str, probe: str) -> Client | int:
    """`aiopip_open`: a Client, or minus an errno.  Blocks for 1 to 2 ms when it is the first."""
    paths = [ffi.from_buffer("char[]", os.fsencode(path) + b"\0") for path in (preload, probe)]
    options = ffi.new("struct aiopip_options *", [max_tasks, *paths])
    client = ffi.new("aiopip_client **")
    result = lib.aiopip_open(options, client)
    return Client(client[0]) if result >= 0 else result


def _started(event: CData) -> Started:
    return Started(event.pipid, event.generation, event.pid)


def _failed(event: CData) -> Failed:
    detail = os.fsdecode(ffi.string(event.detail))
    return Failed(event.pipid, event.generation, event.failure, event.error, detail)


def _ended(event: CData) -> Ended:
    flags = event.flags
    return Ended(
        event.pipid,
        event.generation,
        event.wait_status,
        bool(flags & lib.AIOPIP_EVENT_LOADED),
        bool(flags & lib.AIOPIP_EVENT_STATUS_LOST),
        bool(flags & lib.AIOPIP_EVENT_LEFT),
        bool(flags & lib.AIOPIP_EVENT_ACKNOWLEDGE),
        event.started_ns,
        event.ended_ns,
        Usage(
            event.user_us,
            event.system_us,
            event.max_rss_kib,
            event.minor_faults,
            event.major_faults,
            event.blocks_in,
            event.blocks_out,
            event.voluntary_switches,
            event.involuntary_switches,
        ),
    )


def _exported(event: CData) -> Exported:
    return Exported(event.pipid, event.generation)


def _reclaimed(event: CData) -> Reclaimed:
    return Reclaimed(event.pipid, event.generation)


_DECODERS: dict[int, Callable[[CData], Record]] = {
    lib.AIOPIP_EVENT_STARTED: _started,
    lib.AIOPIP_EVENT_FAILED: _failed,
    lib.AIOPIP_EVENT_EXITED: _ended,
    lib.AIOPIP_EVENT_EXPORTED: _exported,
    lib.AIOPIP_EVENT_RECLAIMED: _reclaimed,
}
