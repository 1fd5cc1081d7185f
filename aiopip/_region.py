"""Memory of a task, seen in place."""

from __future__ import annotations

import errno
import importlib
import math
from typing import TYPE_CHECKING, Any

from aiopip._dtype import Layout, layout
from aiopip._errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidRegionError,
    NotCastError,
    call_error,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from aiopip._ffi import Hold
    from aiopip._task import Task


class Region:
    """An array that lies in a task's memory; nothing is copied.

    `np.asarray(region)`, `memoryview(region)` (Python 3.12 and newer) and `region.view()` are views
    of it.  What C exported is an address without a type: `cast` says what lies there, and until
    then there is nothing to view.

    The exporter's memory stays mapped, also after its end, as long as this Region, one that was
    cast from it, or any view of one of them lives.  `close()` and leaving a `with` block give up
    this Region's share early; the views stay valid.

    Thread safety: any thread.
    """

    __slots__ = ("__weakref__", "_address", "_hold", "_layout", "_readonly", "_shape", "_source")

    def __init__(
        self,
        hold: Hold,
        source: Task,
        kind: Layout | None = None,
        shape: tuple[int, ...] | None = None,
        readonly: bool = False,
    ) -> None:
        """Made by `named_import` and `cast`."""
        self._hold: Hold | None = hold
        self._address = hold.facts().address
        self._source = source
        self._layout = kind
        self._shape = shape
        self._readonly = readonly

    @property
    def address(self) -> int:
        """The address, the same in every task of the Root."""
        return self._address

    @property
    def source(self) -> Task:
        """The task that exported it."""
        return self._source

    @property
    def dtype(self) -> Any:
        """The type of an item: a numpy.dtype, a str where there is no NumPy; None before `cast`."""
        return None if self._layout is None else self._layout.dtype

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The number of items along each axis; None before `cast`."""
        return self._shape

    @property
    def nbytes(self) -> int | None:
        """The size in bytes; None before `cast`: C exports no size."""
        if self._layout is None or self._shape is None:
            return None
        return math.prod(self._shape) * self._layout.itemsize

    @property
    def readonly(self) -> bool:
        """Whether the exporter has mapped it read only; False before `cast`."""
        return self._readonly

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._hold is None

    def cast(self, dtype: Any, shape: int | Sequence[int]) -> Region:
        """Say what lies at the address.

        Args:
            dtype: the type of an item: all that `numpy.dtype()` takes, a structured one, too;
                without NumPy a code of a number, 'f8', '<i4', 'B'.
            shape: the number of items, or of those along each axis, row by row; () for one item.

        Returns:
            A Region of its own, of the same memory, read only where the exporter has mapped it so.

        Raises:
            InvalidArgumentError: an unknown dtype, or an axis with fewer than one item.
            InvalidRegionError: the range is not all memory that the exporter has mapped (EFAULT).
            ClosedError: this Region was closed.

        Source: `pip_named_import(3)` gives an address alone.
        """
        hold = self._open()
        kind = layout(dtype)
        axes = (shape,) if isinstance(shape, int) else tuple(int(axis) for axis in shape)
        if any(axis < 1 for axis in axes):
            raise InvalidArgumentError("shape", f"{shape!r} has an axis without items")
        size_bytes = math.prod(axes) * kind.itemsize
        result = -errno.EFAULT
        if self._address + size_bytes < 2**64:
            result = hold.check(self._address, size_bytes)
        if result == -errno.EFAULT:
            raise InvalidRegionError(self._address, size_bytes, str(self._source))
        if result < 0:
            raise call_error(-result, f"checking {size_bytes} bytes at {self._address:#x} failed")
        return Region(hold, self._source, kind, axes, readonly=result == 0)

    def view(self) -> memoryview:
        """The memory as a memoryview of the Region's type and shape.

        Returns:
            A view that keeps the memory for as long as it lives.

        Raises:
            NotCastError: there is no type yet.
            ClosedError: the Region was closed.
        """
        kind, shape, memory = self._memory()
        if kind.code is not None:
            return memory.cast(kind.code, shape)  # type: ignore[call-overload, no-any-return]
        return memoryview(_numpy().ndarray(shape, kind.dtype, memory))

    def close(self) -> None:
        """Give up this Region's share of the memory.  It may be called again."""
        self._hold = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's protocol, version 3.

        `data` is a buffer and not an address: of an address NumPy would keep only this Region
        alive, which may be closed under the array.
        """
        kind, shape, memory = self._memory()
        if not kind.plain:
            # A struct with gaps: it cannot say that, and NumPy asks `__array__` next.
            raise AttributeError("__array_interface__")
        interface = {"version": 3, "shape": shape, "typestr": kind.typestr, "data": memory}
        if kind.descr is not None:
            interface["descr"] = kind.descr
        return interface

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """What NumPy asks when the buffer and the array interface are refused."""
        kind, shape, memory = self._memory()
        array = _numpy().ndarray(shape, kind.dtype, memory)
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))

    def __buffer__(self, flags: int) -> memoryview:
        """PEP 688's protocol, which Python 3.12 and newer ask.

        NumPy cannot read back what it writes of a struct with gaps (the gap at the end is missing);
        refused here, it asks `__array__`.
        """
        if self._layout is not None and not self._layout.plain:
            raise BufferError(
                "a struct with gaps has no buffer format; use view(), or np.asarray()"
            )
        return self.view()

    def __repr__(self) -> str:
        if self._layout is None:
            what = "not cast"
        else:
            what = f"dtype={self._layout.dtype} shape={self._shape}"
            what += " read only" if self._readonly else ""
        state = " closed" if self.closed else ""
        return f"<aiopip.Region {self._address:#x} of {self._source.name!r} {what}{state}>"

    def _open(self) -> Hold:
        if self._hold is None:
            raise ClosedError("the Region is closed")
        return self._hold

    def _memory(self) -> tuple[Layout, tuple[int, ...], memoryview]:
        hold = self._open()
        if self._layout is None or self._shape is None or self.nbytes is None:
            raise NotCastError
        memory = hold.memory(self._address, self.nbytes)
        return self._layout, self._shape, memory.toreadonly() if self._readonly else memory


def _numpy() -> Any:
    """The module, which is there: it has made the dtype that needs it."""
    return importlib.import_module("numpy")
