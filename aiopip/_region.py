"""Memory of another process of the space, seen in place."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiopip._arrays import Described, make_facts, row_strides
from aiopip._dtype import Layout, decode, dtype_of, layout, numpy
from aiopip._errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidRegionError,
    NotCastError,
    call_error,
    whole_number,
)
from aiopip._ffi import READONLY, TYPED, ArrayFacts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from typing_extensions import Self

    from aiopip._ffi import Hold
    from aiopip._task import Task
    from aiopip._this_task import RemoteRoot

    Source: TypeAlias = Task | RemoteRoot | int


class Region:
    """An array that lies in the memory of a task, or of the root; nothing is copied.

    `np.asarray(region)`, `memoryview(region)` (Python 3.12 and newer) and `region.view()` are views
    of it, of the type, shape and strides that its exporter gave it.  What C exported is an address
    without a type: `cast` says what lies there, and until then there is nothing to view.

    The memory stays mapped, also after its exporter's end, and with its exporter, also when that
    withdraws it, as long as this Region or any view of it lives; of what C exported all of the
    task's memory does, of a Region that was `cast` its range.  `close()` and leaving a `with` block
    give up this Region's share early; the views stay valid.

    A Region may be exported again: who imports that holds the first exporter's memory, too.

    Thread safety: any thread.
    """

    __slots__ = ("__weakref__", "_facts", "_hold", "_layout", "_source")

    def __init__(
        self,
        hold: Hold,
        source: Source,
        facts: ArrayFacts | None = None,
        kind: Layout | None = None,
    ) -> None:
        """Made by `named_import` and `cast`.

        Args:
            hold: what keeps the memory.
            source: where it was imported from.
            facts: where it is; of the import by default.
            kind: the type of its items; what the facts say by default.
        """
        self._hold: Hold | None = hold
        self._source = source
        self._facts = hold.facts() if facts is None else facts
        typed = self._facts.flags & TYPED
        self._layout = decode(self._facts.dtype) if typed and kind is None else kind

    @property
    def address(self) -> int:
        """The address of the first item, the same in every task of the Root."""
        return self._facts.address

    @property
    def source(self) -> Source:
        """What it was imported from: a Task; in a task a PiP ID, or `this_task().root`."""
        return self._source

    @property
    def dtype(self) -> Any:
        """The type of an item: a numpy.dtype, a str where there is no NumPy; None before `cast`."""
        return None if self._layout is None else dtype_of(self._layout)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The number of items along each axis; None before `cast`."""
        return None if self._layout is None else self._facts.shape

    @property
    def strides(self) -> tuple[int, ...] | None:
        """The bytes from one item to the next along each axis; None before `cast`."""
        return None if self._layout is None else self._facts.strides

    @property
    def nbytes(self) -> int | None:
        """The size of all items in bytes; None before `cast`: C exports no size."""
        if self._layout is None:
            return None
        return math.prod(self._facts.shape) * self._layout.itemsize

    @property
    def readonly(self) -> bool:
        """Whether it must not be written, as its exporter has said or mapped it."""
        return bool(self._facts.flags & READONLY)

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
        given = shape if isinstance(shape, Iterable) else (shape,)
        axes = tuple(whole_number("shape", axis) for axis in given)
        if any(axis < 1 for axis in axes):
            raise InvalidArgumentError("shape", f"{shape!r} has an axis without items")
        size_bytes = math.prod(axes) * kind.itemsize
        result = -errno.EFAULT
        if self.address + size_bytes < 2**64:
            result = hold.check(self.address, size_bytes)
        narrow = hold.narrow(self.address, size_bytes) if result >= 0 else result
        if narrow == -errno.EFAULT:
            raise InvalidRegionError(self.address, size_bytes, str(self._source))
        if isinstance(narrow, int):
            raise call_error(-narrow, f"holding {size_bytes} bytes at {self.address:#x} failed")
        facts = make_facts(
            self.address,
            kind,
            axes,
            row_strides(kind.itemsize, axes),
            self.readonly or result == 0,
        )
        return Region(narrow, self._source, facts, kind)

    def view(self) -> memoryview:
        """The memory as a memoryview of the Region's type and shape.

        Returns:
            A view that keeps the memory for as long as it lives.

        Raises:
            NotCastError: there is no type yet.
            ClosedError: the Region was closed.
            BufferError: the buffer protocol cannot say what lies there (dates), or it takes NumPy.
        """
        kind, memory = self._memory()
        shape, strides = self._facts.shape, self._facts.strides
        if kind.code is not None and strides == row_strides(kind.itemsize, shape):
            code: Any = kind.code
            if len(shape) == 1:
                return memory.cast(code)
            if 0 not in shape:
                return memory.cast(code, shape)
        array = self._ndarray(kind, memory)
        try:
            return memoryview(array)
        except ValueError as error:  # dates and times, of which the buffer protocol knows nothing
            raise BufferError(f"{error}; use np.asarray()") from None

    def close(self) -> None:
        """Give up this Region's share of the memory.  It may be called again."""
        self._hold = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """NumPy's protocol, version 3.

        `data` is a buffer and not an address: of an address NumPy would keep only this Region
        alive, which may be closed under the array.
        """
        kind, memory = self._memory()
        if not kind.plain:
            # A struct with gaps: it cannot say that, and NumPy asks `__array__` next.
            raise AttributeError("__array_interface__")
        interface = {
            "version": 3,
            "shape": self._facts.shape,
            "typestr": kind.typestr,
            "data": memory,
            "offset": self._offset(),
            "strides": self._facts.strides,
        }
        if kind.descr is not None:
            interface["descr"] = kind.descr
        return interface

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """What NumPy asks when the buffer and the array interface are refused."""
        array = self._ndarray(*self._memory())
        return array.astype(array.dtype if dtype is None else dtype, copy=bool(copy))

    def __buffer__(self, flags: int) -> memoryview:
        """PEP 688's protocol, which Python 3.12 and newer ask.

        NumPy cannot read back what it writes of a struct with gaps (the gap at the end is missing),
        nor of raw bytes (void); refused here, it asks `__array_interface__` and `__array__`.
        """
        if self._layout is not None and not self._layout.plain:
            raise BufferError(
                "a struct with gaps has no buffer format; use view(), or np.asarray()"
            )
        view, kind = self.view(), self._layout
        module = numpy() if kind is not None and kind.code is None else None
        if module is not None and kind is not None and module.asarray(view).dtype != kind.dtype:
            raise BufferError(f"{self.dtype} has no buffer format; use view(), or np.asarray()")
        return view

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Pools pickle by protocol 5, copy.copy() by 4.  To a worker it goes as the view that it
        # shows, and as an array where the buffer protocol cannot say what lies there; a pickler
        # that is not a pool's refuses the view.
        if protocol < 5:
            return super().__reduce_ex__(protocol)
        try:
            return memoryview, (self.view(),)
        except BufferError:
            kind, memory = self._memory()
            array = self._ndarray(kind, memory)
            return type(array).view, (array,)

    def __repr__(self) -> str:
        if self._layout is None:
            what = "not cast"
        else:
            what = f"dtype={self.dtype} shape={self._facts.shape}"
            what += " read only" if self.readonly else ""
        state = " closed" if self.closed else ""
        return f"<aiopip.Region {self.address:#x} of {self._source} {what}{state}>"

    def _open(self) -> Hold:
        if self._hold is None:
            raise ClosedError("the Region is closed")
        return self._hold

    def _memory(self) -> tuple[Layout, memoryview]:
        """The type, and all bytes from the first to the last that belong to the array."""
        hold = self._open()
        if self._layout is None:
            raise NotCastError
        start, end = self._facts.start, self._facts.end
        memory = hold.memory(start, end - start)
        return self._layout, memory.toreadonly() if self.readonly else memory

    def _offset(self) -> int:
        """Where the first item is in them: not at 0 when a stride is negative."""
        return self._facts.address - self._facts.start if self._facts.start else 0

    def _ndarray(self, kind: Layout, memory: memoryview) -> Any:
        module = numpy()
        if module is None:
            raise BufferError(f"a view of {kind.dtype} with strides {self.strides} needs NumPy")
        return module.ndarray(
            self._facts.shape, kind.dtype, memory, self._offset(), self._facts.strides
        )

    def described(self) -> Described:
        """It as what can be exported again; internal."""
        _, memory = self._memory()
        return Described(self._facts, memory)
