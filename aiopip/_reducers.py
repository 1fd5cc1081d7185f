"""How arrays and memoryviews are pickled: as the address of their memory.

A reducer makes a PickleBuffer of the memory; where a pickler has a buffer callback its address is
what travels, and elsewhere its bytes do.  The stream of an array names NumPy alone, that of a
memoryview `restore_view` and `restore_slice`.

Most workers import this in the midst of a call, so it imports neither NumPy nor `pickle`.  NumPy's
types get their reducer at the first `learn_numpy` after somebody else has imported it: nobody has
an array before.
"""

import copyreg
from _pickle import PickleBuffer, PicklingError
from sys import modules

from aiopip._references import address_of, memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Reduced: TypeAlias = tuple[Any, ...]
_CASTS = "?bBhHiIlLqQnNfdcP"
"""The formats that memoryview.cast() takes, alone or behind an '@'."""

_PLAIN = frozenset("?bBhHiIlLqQefdgFDGSU")
"""The codes of NumPy's types that its arrays can expose as a buffer and `dtype.str` says all of."""

_BUILTIN_TYPES = 24
"""NumPy numbers its own types below this; those of others are not told by their `dtype.str`."""


class Table(dict[type, "Callable[[Any], Reduced]"]):
    """A pickler's dispatch table: reducers of ours, and copyreg's for all other types.

    The method of copyreg's dict itself is what a miss calls, so that no Python code runs for each
    object that is pickled.
    """

    __slots__ = ()
    __missing__ = copyreg.dispatch_table.__getitem__


class _Known:
    """The NumPy whose types have their reducer."""

    numpy: "Any" = None


def learn_numpy(module: "Any") -> None:
    """Have NumPy's arrays go by reference."""
    ndarray, memmap = getattr(module, "ndarray", None), getattr(module, "memmap", None)
    # A module that another thread is just importing has not all of its names, nor anybody arrays.
    if ndarray is not None and memmap is not None:
        BY_REFERENCE[ndarray] = BY_REFERENCE[memmap] = reduce_array
        _Known.numpy = module


def knows(module: object) -> bool:
    """Whether `learn_numpy` was told of this module."""
    return module is _Known.numpy


def reduce_array(array: "Any") -> "Reduced":
    """A numpy.ndarray as an ndarray of the same memory, of the same strides and writeability."""
    dtype = array.dtype
    if dtype.hasobject or not dtype.itemsize:
        # Items that are objects are pickled one by one, items without bytes have no memory.
        reduced: Reduced = array.__reduce_ex__(5)
        return reduced
    ndarray = _Known.numpy.ndarray
    if dtype.char in _PLAIN and array.flags.c_contiguous and dtype.metadata is None and array.size:
        return ndarray, (array.shape, dtype.str, PickleBuffer(array))
    shape, strides = array.shape, array.strides
    kind = dtype.str if _is_told_by_str(dtype) else dtype
    # It also says of arrays that broadcast_arrays() has made, without a warning, that they are read
    # only: writing them is what is deprecated.
    address, readonly = array.__array_interface__["data"]
    if not array.size:
        return ndarray, (shape, kind, b"" if readonly else bytearray(), 0, strides)
    steps = [(count - 1) * stride for count, stride in zip(shape, strides, strict=True)]
    before = -sum(step for step in steps if step < 0)
    size_bytes = before + sum(step for step in steps if step > 0) + dtype.itemsize
    span = PickleBuffer(memory(address - before, size_bytes, readonly, array))
    return ndarray, (shape, kind, span, before, strides)


def _is_told_by_str(dtype: "Any") -> bool:
    return dtype.names is None and dtype.metadata is None and dtype.num < _BUILTIN_TYPES


def reduce_view(view: memoryview) -> "Reduced":
    """A memoryview as one of the same memory, format, shape, strides and writeability."""
    form = view.format
    if _can_be_cast(view):
        # A view of the view: its owner may release it, which an exported buffer forbids.
        lent = PickleBuffer(memoryview(view))
        if view.ndim == 1:
            return (memoryview, (lent,)) if form == "B" else (restore_view, (lent, form, None))
        return restore_view, (lent, form, view.shape)
    step, rest = _step(view)
    if rest:
        return memoryview, (as_array(view),)
    # A slice with a step: all between its first and its last item goes, and is sliced there.
    reach = (len(view) - 1) * abs(step) * view.itemsize
    start = address_of(view[:1]) if step > 0 else address_of(view[-1:])
    span = memory(start, reach + view.itemsize, view.readonly, memoryview(view))
    return restore_slice, (PickleBuffer(span), form, step)


def restore_view(data: "Any", form: "Any", shape: tuple[int, ...] | None) -> memoryview:
    """Bytes as a view of a type and a shape, row by row."""
    view = memoryview(data)
    return view.cast(form) if shape is None else view.cast(form, shape)


def restore_slice(data: "Any", form: "Any", step: int) -> memoryview:
    """Bytes as every step-th item of a type, the last one first when the step is negative."""
    return memoryview(data).cast(form)[::step]


def has_cast(form: str) -> bool:
    return form in _CASTS or (form[0] == "@" and form[1:] in _CASTS)


def _can_be_cast(view: memoryview) -> bool:
    # Of shapes without items cast() takes one alone: that of an empty sequence.
    return view.c_contiguous and has_cast(view.format) and bool(view.nbytes or view.ndim == 1)


def _step(view: memoryview) -> tuple[int, int]:
    """A sequence's stride in items, and the bytes left over; (0, 1) for what is no such slice."""
    strides = view.strides
    if not strides or len(strides) > 1 or not strides[0] or not view.nbytes:
        return 0, 1
    return divmod(strides[0], view.itemsize) if has_cast(view.format) else (0, 1)


def as_array(view: memoryview) -> "Any":
    """An array of a view's memory, for what memoryview alone cannot say.

    Its format may be written otherwise there: 'i' for '<i'.
    """
    from aiopip._arrays import as_ndarray

    # NumPy cannot read all that it writes: it leaves out a struct's gap at the end.  The array
    # itself has it, and so has an object of ctypes.
    source: Any = view.obj
    whole = _is_all_of(view, source)
    numpy: Any = modules.get("numpy")
    array = source
    if not whole or not isinstance(source, getattr(numpy, "ndarray", ())):
        numpy, array = as_ndarray(source if whole else view, view, "memoryview")
    if not knows(numpy):
        learn_numpy(numpy)
    array = array.view(numpy.ndarray)
    if view.readonly:
        array.flags.writeable = False
    if array.dtype.hasobject or (array.itemsize, array.shape) != (view.itemsize, view.shape):
        raise PicklingError(
            f"NumPy does not know what a memoryview of format {view.format!r} is; pass the object "
            "that it is a view of"
        )
    return array


def _is_all_of(view: memoryview, source: "Any") -> bool:
    with memoryview(source) as whole:
        return (view.format, view.shape, view.strides) == (whole.format, whole.shape, whole.strides)


BY_REFERENCE = Table({memoryview: reduce_view})
"""How what has memory is pickled where it stays in place; a `ref` too, once there are any."""
