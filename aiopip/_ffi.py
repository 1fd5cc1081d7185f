"""The one door to the native core: typed functions, and no cdata leaves this module.

`native/include/aiopip.h` documents the calls.  They return what C returned: a count or 0, or minus
an errno, which the callers turn into errors.  All of a `Client` is for the loop's thread, but for
`abort`; a `Hold` may be dropped in any.
"""

from __future__ import annotations

import errno
import functools
import os
from typing import TYPE_CHECKING, NamedTuple

try:
    from aiopip._native import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "aiopip._native":
        raise
    raise ImportError(
        "these are aiopip's sources, whose native part is not built: install them (pip install .) "
        "and leave their folder, which hides what is installed"
    ) from None
from aiopip._decode import EVENT_BYTES, decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiopip._native import CData
    from aiopip._options import PackedOptions
    from aiopip._records import Record
    from aiopip._request import SpawnRequest
    from aiopip._statistics import RootStatistics

BATCH = 64
"""How many events one call of `Client.drain` takes at the most."""

MAX_TASKS = lib.AIOPIP_MAX_TASKS
ABI_VERSION = lib.AIOPIP_ABI_VERSION
PIPID_ROOT = lib.AIOPIP_PIPID_ROOT
MAX_NDIM = lib.AIOPIP_MAX_NDIM
LOCK_BYTES = lib.AIOPIP_LOCK_BYTES
FOREVER = 2**64 - 1

Span = tuple[int, int]
"""[start, end) of address space: `struct aiopip_span`."""


class Word(NamedTuple):
    """A futex that is waited for, and what it was: `struct aiopip_word`."""

    address: int
    value: int


class ArrayFacts(NamedTuple):
    """`struct aiopip_array`: what an exporter says of its memory.

    Attributes:
        address: of the first item.
        start: of the first byte that belongs to it, items of negative strides among them.
        end: behind the last.
        flags: AIOPIP_ARRAY_TYPED, AIOPIP_ARRAY_READONLY, AIOPIP_EXPORT_KEEP.
        shape: items along each axis.
        strides: bytes from one item to the next along each axis.
        dtype: what `_dtype.encode` made of the type; empty when there is none.
    """

    address: int
    start: int
    end: int
    flags: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


TYPED = lib.AIOPIP_ARRAY_TYPED
READONLY = lib.AIOPIP_ARRAY_READONLY
KEEP = lib.AIOPIP_EXPORT_KEEP


class Hold:
    """A held import: its memory stays, and with its exporter, while this or a view of it lives."""

    __slots__ = ("_hold",)

    def __init__(self, hold: CData) -> None:
        self._hold = ffi.gc(hold, lib.aiopip_hold_release)

    def facts(self) -> ArrayFacts:
        """What its exporter says of it, and the range that is held."""
        into = ffi.new("struct aiopip_array *")
        lib.aiopip_hold_array(self._hold, into)
        dims = tuple(into.dims[0 : 2 * into.ndim]) if into.ndim else ()
        dtype = ffi.buffer(into.dtype, into.dtype_bytes)[:].decode() if into.dtype_bytes else ""
        return ArrayFacts(
            into.address,
            into.start,
            into.end,
            into.flags,
            dims[: into.ndim],
            dims[into.ndim :],
            dtype,
        )

    def check(self, address: int, size_bytes: int) -> int:
        """Whether the range is held: 1 writable, 0 read only, -EFAULT not."""
        return lib.aiopip_hold_check(self._hold, address, size_bytes)

    def narrow(self, address: int, size_bytes: int) -> Hold | int:
        """A second hold, of that range alone: a Hold, or minus an errno."""
        hold = ffi.new("aiopip_hold **")
        result = lib.aiopip_hold_narrow(self._hold, address, size_bytes, hold)
        return Hold(hold[0]) if result >= 0 else result

    def memory(self, address: int, size_bytes: int) -> memoryview:
        """The bytes of a range that `check` has passed, writable.

        The view, and every view made of it, keeps the hold: a view keeps its buffer, the buffer its
        pointer, and the pointer a destructor that refers to the hold and does nothing else.
        """
        if not size_bytes:
            return memoryview(bytearray())
        pointer = ffi.gc(ffi.cast("char *", address), functools.partial(_drop, self._hold))
        return memoryview(ffi.buffer(pointer, size_bytes))


def _drop(_hold: CData, _pointer: CData) -> None:
    """Release nothing: the reference that the bound first argument was goes away by itself."""


class Peer:
    """This process as one that exports and imports: for good in a task, in a root till its end.

    Its memory is there as long as this object, for threads that wait for a lock at a Root's end.
    """

    __slots__ = ("_bell", "_closed", "_peer", "address")

    def __init__(self, peer: CData) -> None:
        lib.aiopip_peer_keep(peer)
        self.address = int(ffi.cast("uintptr_t", peer))
        """Of the native peer, which all clients of one core have in common."""
        self._peer = ffi.gc(peer, lib.aiopip_peer_release)
        self._bell = Bell()
        self._closed = False

    def close(self) -> None:
        """The Root ends: who waits for a lock is woken, and gets none any more."""
        self._closed = True
        self._bell.ring()

    @property
    def pipid(self) -> int:
        """`aiopip_peer_pipid`."""
        return lib.aiopip_peer_pipid(self._peer)

    def export(self, name: bytes, facts: ArrayFacts) -> tuple[int, int]:
        """`aiopip_export`: its result, and the id, which holds after 0 only."""
        dims = ffi.new("int64_t[]", [*facts.shape, *facts.strides])
        dtype = facts.dtype.encode()
        text = ffi.from_buffer("char[]", dtype)
        array = ffi.new(
            "struct aiopip_array *",
            [
                facts.address,
                facts.start,
                facts.end,
                facts.flags,
                len(facts.shape),
                dims,
                text,
                len(dtype),
            ],
        )
        found = ffi.new("uint64_t *")
        return lib.aiopip_export(self._peer, name, len(name), array, found), found[0]

    def withdraw(self, export: int) -> int:
        """`aiopip_withdraw`: 0 nobody holds it, 1 somebody does, minus an errno."""
        return lib.aiopip_withdraw(self._peer, export)

    def released(self) -> list[int]:
        """`aiopip_released`: all withdrawn exports that nobody holds any more."""
        ids = ffi.new("uint64_t[]", BATCH)
        found: list[int] = []
        count = BATCH
        while count == BATCH:
            count = lib.aiopip_released(self._peer, ids, BATCH)
            found += list(ids[0 : max(count, 0)])
        return found

    def named_import(self, pipid: int, generation: int, name: bytes) -> Hold | int:
        """`aiopip_import`: a Hold, or minus an errno."""
        hold = ffi.new("aiopip_hold **")
        result = lib.aiopip_import(self._peer, pipid, generation, name, len(name), hold)
        return Hold(hold[0]) if result >= 0 else result

    def hold_memory(self, address: int, size_bytes: int) -> Hold | int:
        """`aiopip_hold_memory`: a Hold, or minus an errno."""
        hold = ffi.new("aiopip_hold **")
        result = lib.aiopip_hold_memory(self._peer, address, size_bytes, hold)
        return Hold(hold[0]) if result >= 0 else result

    def generation(self, pipid: int) -> int:
        """`aiopip_generation`: or minus an errno."""
        return lib.aiopip_generation(self._peer, pipid)

    def expect(self, pipid: int) -> Word | int:
        """`aiopip_expect`: the word that changes, or minus an errno."""
        word = ffi.new("struct aiopip_word *")
        result = lib.aiopip_expect(self._peer, pipid, word)
        return _word(word) if result >= 0 else result

    def try_lock(self, address: int) -> tuple[int, list[Word]]:
        """Take the lock at an address: 0, or -EOWNERDEAD, which is taken too, or -EBUSY.

        Returns:
            The result, and after -EBUSY the words that change when it is worth another try;
            -ESHUTDOWN when the Root has ended.
        """
        words = ffi.new("struct aiopip_word[]", lib.AIOPIP_LOCK_WORDS)
        # First the word, then a look at what `close` sets before it changes that.
        end = self._bell.word()
        if self._closed:
            return -errno.ESHUTDOWN, []
        result = lib.aiopip_lock_of_peer(self._peer, address, lib.AIOPIP_LOCK_TRY, words)
        if result != -errno.EBUSY:
            return result, []
        return result, [*(_word(words[i]) for i in range(lib.AIOPIP_LOCK_WORDS)), end]

    def try_lock_nowait(self, address: int) -> int:
        """The same, once: nobody is said to wait, so its owner has nobody to wake."""
        if self._closed:
            return -errno.ESHUTDOWN
        return lib.aiopip_lock_of_peer(self._peer, address, lib.AIOPIP_LOCK_TRY, ffi.NULL)

    def release_lock(self, address: int) -> int:
        """Give the lock back: 0, or -EPERM when it is not ours."""
        return lib.aiopip_lock_of_peer(self._peer, address, lib.AIOPIP_LOCK_RELEASE, ffi.NULL)

    def recover_lock(self, address: int) -> int:
        """Say that what the lock guards is right: 0, or -EPERM when it is not ours."""
        return lib.aiopip_lock_of_peer(self._peer, address, lib.AIOPIP_LOCK_RECOVER, ffi.NULL)

    def lock_owner(self, address: int) -> int | None:
        """Whose the lock is: a PiP ID, None: nobody's, or -EOWNERDEAD."""
        pipid = ffi.new("int32_t *")
        result = lib.aiopip_lock_owner(self._peer, address, pipid)
        return None if result == 0 else pipid[0] if result > 0 else result


def join() -> Peer | tuple[int, int]:
    """`aiopip_join`: this task as a peer, or minus an errno and the root's ABI version."""
    peer, version = ffi.new("aiopip_peer **"), ffi.new("uint32_t *")
    result = lib.aiopip_join(peer, version)
    return Peer(peer[0]) if result >= 0 else (result, version[0])


class Bell:
    """A word of our own, which other threads change to wake one that waits for it."""

    __slots__ = ("_word",)

    def __init__(self) -> None:
        self._word = ffi.new("uint32_t *")

    def word(self) -> Word:
        """It, as it is now."""
        return Word(int(ffi.cast("uintptr_t", self._word)), self._word[0])

    def ring(self) -> None:
        """Change it."""
        lib.aiopip_wake(self._word)


def wait(words: Sequence[Word], end_ns: int = FOREVER) -> int:
    """`aiopip_wait`: sleep until a word changes.  Blocks, and lets other threads run.

    Args:
        words: what is waited for.
        end_ns: until when, of time.monotonic_ns().

    Returns:
        0, -ETIMEDOUT, or -EINTR.
    """
    array = ffi.new(
        "struct aiopip_word[]", [(ffi.cast("uint32_t *", at), was) for at, was in words]
    )
    return lib.aiopip_wait(array, len(words), end_ns)


def address_of(memory: memoryview) -> int:
    """The address of the first byte of a contiguous buffer."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer("char[]", memory)))


def _word(word: CData) -> Word:
    return Word(int(ffi.cast("uintptr_t", word.address)), word.value)


class Client:
    """A client of the core, from `open_client` to `close`."""

    __slots__ = ("_bytes", "_client", "_events", "_generation", "_pipid", "_request", "_spans")

    def __init__(self, client: CData) -> None:
        self._client = client
        # Made once and used again by every call: none of the calls keeps a pointer.
        self._events = ffi.new("struct aiopip_event[]", BATCH)
        self._bytes = memoryview(ffi.buffer(self._events))
        self._request = ffi.new("struct aiopip_spawn_request *")
        self._pipid = ffi.new("int32_t *")
        self._generation = ffi.new("uint64_t *")
        self._spans = ffi.new("struct aiopip_span[]", lib.AIOPIP_SPANS)

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
        into.envp_bytes = len(request.envp or b"")
        into.envc = request.envc
        into.stdio = request.stdio
        into.pipid = request.pipid
        into.flags = request.flags
        into.process_group = request.process_group
        # The memory of rare options, which lives as long as this call.
        kept = None if request.options is None else _place_options(into, request.options)
        result = lib.aiopip_spawn(self._client, into, self._pipid, self._generation)
        if kept is not None:
            into.options = ffi.NULL
        return result, self._pipid[0], self._generation[0]

    def cancel(self, pipid: int, generation: int) -> int:
        """`aiopip_cancel`."""
        return lib.aiopip_cancel(self._client, pipid, generation)

    def kill(self, pipid: int, generation: int, signal: int) -> int:
        """`aiopip_kill`."""
        return lib.aiopip_kill(self._client, pipid, generation, signal)

    def group(self, pipid: int, generation: int) -> int:
        """`aiopip_group`: the process group, or minus an errno."""
        return lib.aiopip_group(self._client, pipid, generation)

    def kill_group(self, group: int, signal: int) -> int:
        """`aiopip_kill_group`."""
        return lib.aiopip_kill_group(self._client, group, signal)

    def shares(self, pipid: int, generation: int) -> int:
        """`aiopip_shares`."""
        return lib.aiopip_shares(self._client, pipid, generation)

    def acknowledge(self, pipid: int, generation: int) -> int:
        """`aiopip_acknowledge`."""
        return lib.aiopip_acknowledge(self._client, pipid, generation)

    def listen(self, on: bool) -> int:
        """`aiopip_listen`."""
        return lib.aiopip_listen(self._client, on)

    def drain(self) -> list[Record]:
        """`aiopip_drain`: up to BATCH events, oldest first; fewer mean that no more wait."""
        count = lib.aiopip_drain(self._client, self._events, BATCH)
        return [decode(self._bytes, number * EVENT_BYTES) for number in range(count)]

    def named_import(self, pipid: int, generation: int, name: bytes) -> Hold | int:
        """`aiopip_named_import`: a Hold, or minus an errno."""
        hold = ffi.new("aiopip_hold **")
        result = lib.aiopip_named_import(self._client, pipid, generation, name, len(name), hold)
        return Hold(hold[0]) if result >= 0 else result

    def peer(self) -> Peer:
        """`aiopip_peer_of_client`: behind `close` no lock can be taken with it."""
        return Peer(lib.aiopip_peer_of_client(self._client))

    def spans(self, pipid: int, generation: int) -> list[Span] | int:
        """`aiopip_spans`: where a task's memory is, or minus an errno."""
        into = self._spans
        count = lib.aiopip_spans(self._client, pipid, generation, into)
        return count if count < 0 else [(span.start, span.end) for span in into[0:count]]

    def heed(self, socket: int) -> int:
        """`aiopip_heed`."""
        return lib.aiopip_heed(self._client, socket)

    def trim(self) -> None:
        """`aiopip_trim`."""
        lib.aiopip_trim(self._client)

    def statistics(self) -> RootStatistics:
        """`aiopip_get_statistics`."""
        # Tasks, which have no Client, do without that module and `dataclasses`.
        from aiopip._statistics import RootStatistics

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
            loader_seeded=bool(raw.loader_seeded),
            resumes=bool(raw.resumes),
            warm=raw.warm,
            resumed=raw.resumed,
        )


def _place_options(into: CData, packed: PackedOptions) -> tuple[CData, ...]:
    """Have a request point to options; what is returned has to live as long as it does."""
    cpus = ffi.from_buffer("char[]", packed.cpus)
    limits = ffi.new(
        "struct aiopip_limit[]",
        [(one.resource, one.keeps_hard, one.soft, one.hard) for one in packed.limits],
    )
    descriptors = ffi.new("struct aiopip_descriptor[]", list(packed.descriptors))
    groups = ffi.new("uint32_t[]", packed.extra_groups)
    entry = ffi.NULL if packed.entry is None else ffi.from_buffer("char[]", packed.entry)
    if isinstance(packed.arg, bytes):
        arg, arg_bytes = ffi.from_buffer("char[]", packed.arg), len(packed.arg)
    else:
        arg, arg_bytes = ffi.cast("void *", packed.arg), 0
    name = ffi.NULL if packed.name is None else ffi.from_buffer("char[]", packed.name)
    options = ffi.new("struct aiopip_spawn_options *")
    options.given = packed.given
    options.umask = packed.umask
    options.nice = packed.nice
    options.sigmask = packed.sigmask
    options.cpus = ffi.cast("uint64_t *", cpus)
    options.cpu_bytes = len(packed.cpus)
    options.limits = limits
    options.limit_count = len(packed.limits)
    options.descriptors = descriptors
    options.descriptor_count = len(packed.descriptors)
    options.mapped_stdio = packed.mapped_stdio
    options.user = packed.user
    options.group = packed.group
    # Without any, too, it is a pointer to where none is.
    options.extra_groups = groups
    options.extra_group_count = len(packed.extra_groups)
    options.entry = entry
    options.arg = arg
    options.arg_bytes = arg_bytes
    options.name = name
    options.stack_bytes = packed.stack_bytes
    into.options = options
    return cpus, limits, descriptors, groups, entry, arg, name, options


def open_client(
    max_tasks: int, preload: str, probe: str, launcher: str, folder: str | None
) -> Client | int:
    """`aiopip_open`: a Client, or minus an errno.  Blocks for 2 to 6 ms when it is the first."""
    paths = [
        ffi.NULL if path is None else ffi.from_buffer("char[]", os.fsencode(path) + b"\0")
        for path in (preload, probe, launcher, folder)
    ]
    options = ffi.new("struct aiopip_options *", [max_tasks, *paths])
    client = ffi.new("aiopip_client **")
    result = lib.aiopip_open(options, client)
    return Client(client[0]) if result >= 0 else result
