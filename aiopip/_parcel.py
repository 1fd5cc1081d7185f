"""An object as it travels between processes of one address space, and how it is read.

A worker that has an initializer imports this before its first call, so what views of memory need is
imported when there are some.
"""

from _pickle import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _pickle import PickleBuffer
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Data: TypeAlias = bytes | bytearray | memoryview

READONLY = 1
"""The flag of a buffer that must not be written."""

WORDS = 3
"""What the table has of a buffer, 8 bytes each: address, size, flags."""


class Parcel:
    """An object as it travels.

    Attributes:
        data: the pickle stream, without the buffers.
        table: address, size in bytes and flags of each buffer, 8 bytes each, in the order in which
            the stream asks for them; empty when there are none.
        keepers: an object a buffer, that keeps the memory where it is as long as it lives.
    """

    __slots__ = ("data", "keepers", "table")

    def __init__(self, data: bytes, table: bytes, keepers: "list[PickleBuffer]") -> None:
        """Take what `dump` has made."""
        self.data = data
        self.table = table
        self.keepers = keepers


def load(data: "Data", table: "Data", keeper_of: "Callable[[int, int, int], object]") -> "Any":
    """Make the object of a parcel.

    Args:
        data: the stream; it is not used behind the call.
        table: where its buffers are; likewise.
        keeper_of: called with the index, the address and the size of each buffer, in order; what it
            returns lives as long as the object, or any view of it, refers to that memory.

    Raises:
        Exception: what pickle or `keeper_of` raised.
    """
    try:
        if not table:
            return loads(data)
        from aiopip._references import memory

        facts = memoryview(table).cast("Q").tolist()
        return loads(
            data,
            buffers=[
                memory(
                    facts[at],
                    facts[at + 1],
                    bool(facts[at + 2] & READONLY),
                    keeper_of(at // WORDS, facts[at], facts[at + 1]),
                )
                for at in range(0, len(facts), WORDS)
            ],
        )
    finally:
        # The traceback of an error that somebody keeps refers to this frame.
        del data, table
