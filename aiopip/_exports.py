"""What this process exports, a root or a task: the names, and the objects behind them.

An object is kept from its export until nobody has it any more.  A task keeps it longer than its
interpreter lives: at its end that frees what modules refer to, and what the task exported may be
imported from its memory still.  A Root's may be imported by an executor's workers, which outlive
it: who is left then, the executor or the next Root, lets it go.
"""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING

from aiopip._arrays import Described, describe
from aiopip._errors import (
    AlreadyExportedError,
    ForkedError,
    InvalidArgumentError,
    call_error,
)
from aiopip._ffi import KEEP
from aiopip._imports import encode_name
from aiopip._lock import Lock
from aiopip._region import Region

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from aiopip._ffi import Peer


RESERVED = "aiopip."
"""What the names begin with that nobody else can export: a Root's own."""

_kept: dict[tuple[int, int], tuple[Peer, object]] = {}
"""What is behind each export, by the native peer and the export's number there.

All clients of one native core are the same peer to it, and a release is told to the one of them
that asks first: so whoever asks finds here whose it was.
"""


class Export:
    """An array that is exported under a name.

    Dropping it changes nothing; leaving a `with` block withdraws it.

    Thread safety: that of what made it: any thread in a task, the loop's in a root.
    """

    __slots__ = ("__weakref__", "_exports", "_id", "_name")

    def __init__(self, exports: Exports, name: str, number: int) -> None:
        """Made by `Root.export` and `this_task().export`."""
        self._exports = exports
        self._name = name
        self._id = number

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def withdrawn(self) -> bool:
        """Whether the name is free again."""
        return self._id not in self._exports.published

    def withdraw(self) -> None:
        """Free the name at once, and the object when nobody has it imported any more.

        It may be called again, and does nothing then.
        """
        self._exports.withdraw(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.withdraw()

    def __repr__(self) -> str:
        return f"<aiopip.Export {self._name!r}{' withdrawn' if self.withdrawn else ''}>"


class Exports:
    """The exports of one peer.

    Attributes:
        published: the ids of those that are not withdrawn.
    """

    __slots__ = ("_check", "_on_held", "_own", "_peer", "_withdrawn", "published")

    def __init__(
        self, peer: Peer, check: Callable[[], None], on_held: Callable[[], None] | None = None
    ) -> None:
        """Take the peer.

        Args:
            peer: this process.
            check: raises where it may not be used: in a forked child, in a thread not the Root's.
            on_held: of a task: called when somebody has what was withdrawn, so that `collect` must
                be called when the peer's bell rings.  A root hears of that by an event.
        """
        self._peer = peer
        self._check = check
        self._on_held = on_held
        self._own: set[int] = set()
        self._withdrawn: set[int] = set()
        self.published: set[int] = set()
        for other in {other for other, _ in list(_kept.values())}:
            collect_released(other)  # of a core that has ended nobody is told anything

    def add(self, name: str, array: object, *, keep: bool = False) -> Export:
        """Export an object under a name."""
        encoded = encode_name(name)
        if name.startswith(RESERVED):
            raise InvalidArgumentError("name", f"{name!r}: what begins so is for aiopip itself")
        number = self._add(name, encoded, array, keep)
        self.published.add(number)
        return Export(self, name, number)

    def announce(self, name: str, array: object) -> None:
        """Export what is aiopip's own, under a name that begins with RESERVED, until the end."""
        self._own.add(self._add(name, encode_name(name), array, keep=False))

    def _add(self, name: str, encoded: bytes, array: object, keep: bool) -> int:
        facts, keeper = _describe(array)
        # The object, too: of an array's views NumPy keeps the memory's owner alone, and what frees
        # the memory may hang on the array.
        keeper = (array, keeper)
        # A Region has the flags of whose export it is; how long ours lives is said here.
        facts = facts._replace(flags=(facts.flags & ~KEEP) | (KEEP if keep else 0))
        # Kept before it can be found, whatever becomes of the interpreter: see the top.
        _pin(keeper)
        result, number = self._peer.export(encoded, facts)
        if result < 0:
            _unpin(keeper)
            raise _error(-result, name)
        _kept[self._peer.address, number] = self._peer, keeper
        return number

    def withdraw(self, number: int) -> None:
        """Withdraw an export, if it is not."""
        if number not in self.published:
            return
        self._check()
        self.published.discard(number)
        self._withdrawn.add(number)
        result = self._peer.withdraw(number)
        if result == 0:
            self._withdrawn.discard(number)
            _forget(self._peer, number)
        elif result > 0 and self._on_held is not None:
            self._on_held()

    def collect(self) -> None:
        """Let go of what was withdrawn and nobody has any more."""
        collect_released(self._peer)

    def awaited(self) -> set[int]:
        """What was withdrawn and somebody has still."""
        for number in list(self._withdrawn):  # to which other threads add
            if (self._peer.address, number) not in _kept:
                self._withdrawn.discard(number)
        return self._withdrawn

    def close(self, *, tasks_left: bool = False) -> None:
        """The Root ends, behind its client: withdraw everything.

        The core may stay open for others, whose tasks may have something.

        Args:
            tasks_left: that could not be reaped, and may use for ever what they have been given.
        """
        numbers = self.published | self._own
        self.published.clear()
        self._own.clear()
        for number in numbers:
            if self._peer.withdraw(number) == 0 and not tasks_left:
                _forget(self._peer, number)
        self.collect()


def collect_released(peer: Peer) -> None:
    """Let go of all withdrawn exports of a peer that nobody has any more, whoever made them."""
    for number in peer.released():
        _forget(peer, number)


def _forget(peer: Peer, number: int) -> None:
    entry = _kept.pop((peer.address, number), None)
    if entry is not None:
        _unpin(entry[1])


def _describe(array: object) -> Described:
    if isinstance(array, Region):
        return array.described()
    return describe(array.memory if isinstance(array, Lock) else array)


def _pin(keeper: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(keeper))


def _unpin(keeper: object) -> None:
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(keeper))


def _error(number: int, name: str) -> Exception:
    if number == errno.EBUSY:
        return AlreadyExportedError(name)
    if number == errno.ESRCH:
        return ForkedError()
    if number == errno.ENOSPC:
        return InvalidArgumentError("name", f"{name!r} would be one of more than a million exports")
    return call_error(number, f"exporting {name!r} failed")
