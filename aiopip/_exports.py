"""What this process exports, a root or a task: the names, and the objects behind them.

An object is kept from its export until nobody has it any more.  A task keeps it longer than its
interpreter lives: at its end that frees what modules refer to, and what the task exported may be
imported from its memory still.
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

    __slots__ = ("_check", "_kept", "_on_held", "_own", "_peer", "_withdrawn", "published")

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
        self._kept: dict[int, object] = {}
        self._own: list[object] = []
        self._withdrawn: set[int] = set()
        self.published: set[int] = set()

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
        number = self._add(name, encode_name(name), array, keep=False)
        self._own.append(self._kept.pop(number))

    def _add(self, name: str, encoded: bytes, array: object, keep: bool) -> int:
        facts, keeper = _describe(array)
        # The object, too: of an array's views NumPy keeps the memory's owner alone, and what frees
        # the memory may hang on the array.
        keeper = (array, keeper)
        # A Region has the flags of whose export it is; how long ours lives is said here.
        facts = facts._replace(flags=(facts.flags & ~KEEP) | (KEEP if keep else 0))
        # Kept before it can be found, and from here on for ever: see the top.
        _pin(keeper)
        result, number = self._peer.export(encoded, facts)
        if result < 0:
            _unpin(keeper)
            raise _error(-result, name)
        self._kept[number] = keeper
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
            self._forget(number)
        elif result > 0 and self._on_held is not None:
            self._on_held()

    def collect(self) -> bool:
        """Let go of what was withdrawn and nobody has any more.

        Returns:
            Whether somebody has something still.
        """
        for number in self._peer.released():
            self._forget(number)
        return self.is_awaited()

    def is_awaited(self) -> bool:
        """Whether something was withdrawn that somebody has still."""
        return bool(self._withdrawn)

    def close(self) -> None:
        """There is nobody left who could have anything."""
        self.published.clear()
        for number in list(self._kept):
            self._forget(number)
        while self._own:
            _unpin(self._own.pop())

    def _forget(self, number: int) -> None:
        self._withdrawn.discard(number)
        keeper = self._kept.pop(number, None)
        if keeper is not None:
            _unpin(keeper)


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
