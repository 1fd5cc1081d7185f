"""What users copy on purpose: `aiopip.copy`, and pickling by value."""

from __future__ import annotations

from _pickle import PickleBuffer, loads
from typing import TYPE_CHECKING

from aiopip._pickling import write
from aiopip._reducers import Table, as_array, has_cast, restore_view
from aiopip._ref import ref

if TYPE_CHECKING:
    from typing import Any

    from aiopip._reducers import Reduced

_IN_BAND_BYTES = 1 << 16
"""What an `aiopip.copy` is pickled to travels as an address itself from this size on."""


class copy:  # noqa: N801  it is called like a function, and is the interface's name
    """An object that travels by value: `pool.run(function, aiopip.copy(array))`.

    What arrives is the object, with memory of its own: neither side sees what the other one writes,
    and the caller's memory is not held.  That holds for all that it contains, a `ref` too, which
    arrives as a memoryview of a copy.

    Args:
        given: the object.

    Attributes:
        given: the same.
    """

    __slots__ = ("given",)

    given: Any

    def __init__(self, given: Any) -> None:
        """Take the object, which is copied when the call is made."""
        self.given = given

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        data = write(self.given, BY_VALUE, None)
        # Unpickled right from the sender's memory it is copied once less.
        far = protocol >= 5 and len(data) >= _IN_BAND_BYTES
        return loads, (PickleBuffer(data) if far else data,)

    def __repr__(self) -> str:
        return f"aiopip.copy({self.given!r})"


def _reduce_view(view: memoryview) -> Reduced:
    """A memoryview as one of a copy, in which its items lie without gaps."""
    if has_cast(view.format) and (view.nbytes or view.ndim == 1):
        data = view.tobytes()
        shape = None if view.ndim == 1 else view.shape
        return restore_view, (data if view.readonly else bytearray(data), view.format, shape)
    array = as_array(view).copy()
    array.flags.writeable = not view.readonly
    return memoryview, (array,)


def _reduce_ref(given: ref) -> Reduced:
    """A ref as a memoryview of a copy."""
    return _reduce_view(given.view)


BY_VALUE = Table({memoryview: _reduce_view, ref: _reduce_ref})
"""How what the standard library does not pickle is pickled with its contents."""
