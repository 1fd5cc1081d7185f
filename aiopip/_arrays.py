"""Where an object's memory is, and what lies there: the facts of which an export is made."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple

from aiopip._dtype import Layout, encode, layout, number, numpy
from aiopip._errors import InvalidArgumentError
from aiopip._ffi import MAX_NDIM, READONLY, TYPED, ArrayFacts, address_of

_CTYPES: type = ctypes.Structure.__mro__[1]
"""What all of ctypes derives from; it has no public name."""


class Described(NamedTuple):
    """An object's memory.

    Attributes:
        facts: where it is and what lies there.
        keeper: what keeps the memory where it is, as long as it lives.
    """

    facts: ArrayFacts
    keeper: object


def describe(given: object, argument: str = "array") -> Described:
    """Describe the memory of an object that exposes it; nothing is copied.

    Args:
        given: a NumPy array, of any strides, or anything with the buffer protocol.
        argument: what its caller calls it.

    Raises:
        InvalidArgumentError: it exposes no memory, or memory that means nothing in another process.
    """
    module = sys.modules.get("numpy")
    # A module that another thread is just importing has not all of its names, nor anybody arrays.
    if isinstance(given, getattr(module, "ndarray", ())):
        return _describe_ndarray(module, given, argument)
    try:
        memory = memoryview(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidArgumentError(
            argument,
            f"{type(given).__name__} has no memory that can be shared ({error}); make an array of "
            "it (numpy.asarray), or bytes of a text (.encode())",
        ) from None
    kind = _plain_layout(memory.format)
    if kind is None or not memory.c_contiguous:
        return _describe_ndarray(*as_ndarray(given, memory, argument), argument)
    address = address_of(memory) if memory.nbytes else 0
    shape, strides = tuple(memory.shape or ()), tuple(memory.strides or ())
    facts = make_facts(address, kind, shape, strides, memory.readonly)
    return Described(facts, memory)


def make_facts(
    address: int,
    kind: Layout,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    readonly: bool,
) -> ArrayFacts:
    """The facts of an array, whose first item is at the address."""
    start, end = bounds(address, kind.itemsize, shape, strides)
    flags = TYPED | (READONLY if readonly else 0)
    return ArrayFacts(address, start, end, flags, shape, strides, encode(kind))


def bounds(
    address: int, itemsize: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[int, int]:
    """The addresses of the first byte of an array and behind its last; 0 and 0 when it has none."""
    if 0 in shape:
        return 0, 0
    reach = [(count - 1) * stride for count, stride in zip(shape, strides, strict=True)]
    start = address + sum(step for step in reach if step < 0)
    end = address + sum(step for step in reach if step > 0) + itemsize
    return start, end


def row_strides(itemsize: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of an array that lies row by row without gaps."""
    strides = []
    for count in reversed(shape):
        strides.append(itemsize)
        itemsize *= count
    return tuple(reversed(strides))


def as_ndarray(given: object, memory: memoryview, argument: str) -> tuple[Any, Any]:
    """NumPy, and an object's memory as one of its arrays; internal.

    Args:
        given: the object.
        memory: a view of it.
        argument: what its caller calls it.

    Raises:
        InvalidArgumentError: there is no NumPy, or it does not know the format.
    """
    module = numpy()
    if module is None:
        raise InvalidArgumentError(
            argument, f"format {memory.format!r}, strides {memory.strides}: this needs NumPy"
        )
    try:
        if not isinstance(given, _CTYPES):
            return module, module.asarray(memory)
        # What ctypes writes of structures as a format leaves out their gaps, before Python 3.12;
        # NumPy reads the type itself.
        item: Any = type(given)
        while issubclass(item, ctypes.Array):
            item = item._type_
        return module, module.ndarray(memory.shape, module.dtype(item), memory)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidArgumentError(
            argument, f"NumPy does not know format {memory.format!r}: {error}"
        ) from None


def _describe_ndarray(module: Any, array: Any, argument: str) -> Described:
    if array.dtype.hasobject:
        raise InvalidArgumentError(
            argument, f"its items ({array.dtype}) are references to objects of this process"
        )
    if not array.dtype.itemsize or array.ndim > MAX_NDIM:
        raise InvalidArgumentError(argument, f"{array.dtype} in {array.ndim} dimensions")
    if isinstance(array, module.ma.MaskedArray):
        raise InvalidArgumentError(argument, "a masked array is two; export its data and its mask")
    facts = make_facts(
        array.__array_interface__["data"][0],
        layout(array.dtype),
        tuple(array.shape),
        tuple(array.strides),
        not array.flags.writeable,
    )
    # A view of it: the memory of an array that is viewed is not moved by its resize().
    return Described(facts, array.view(module.ndarray))


def _plain_layout(form: str) -> Layout | None:
    """The layout of a buffer format that is a plain number of this machine."""
    bare = form.lstrip("@=<" if sys.byteorder == "little" else "@=>")
    if len(bare) != 1 or bare not in "?bBhHiIlLqQfd" or (form[0] in "=<>" and bare in "lL"):
        return None
    return number(bare)
