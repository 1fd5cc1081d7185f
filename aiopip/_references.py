"""Memory of the space as objects: views of an address, and what users refer to on purpose.

Every worker imports this when it starts, so it imports nothing that an interpreter has not loaded
already: the extension module, and with it cffi, only when there is memory to refer to.
"""

from __future__ import annotations

from _functools import partial  # type: ignore[import-not-found]
from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import PickleBuffer
    from typing import Any, NoReturn


def memory(address: int, size_bytes: int, readonly: bool, keeper: object) -> memoryview:
    """The bytes at an address, which is valid in every process of the space.

    Args:
        address: of the first byte.
        size_bytes: how many; with 0 the address means nothing, and the view is empty.
        readonly: whether the view refuses writes.
        keeper: what has to live as long as the view, or any view made of it, does.
    """
    if not size_bytes:
        return memoryview(b"" if readonly else bytearray())
    from aiopip._native import ffi

    # A view keeps its buffer, the buffer its pointer, and the pointer a destructor, which does
    # nothing but refer to the keeper.
    pointer = ffi.gc(ffi.cast("char *", address), partial(_drop, keeper))
    view = memoryview(ffi.buffer(pointer, size_bytes))
    return view.toreadonly() if readonly else view


def _drop(_keeper: object, _pointer: object) -> None:
    """Do nothing: the reference that the bound first argument was goes away by itself."""


def locate(buffer: PickleBuffer) -> tuple[int, int, bool]:
    """Where the memory of a contiguous buffer is: its address, its size, whether it is read only.

    Raises:
        BufferError: it is not contiguous.
    """
    with buffer.raw() as raw:
        size_bytes = raw.nbytes
        return (address_of(raw) if size_bytes else 0), size_bytes, raw.readonly


def address_of(view: memoryview) -> int:
    """The address of the first byte of a contiguous view."""
    from aiopip._native import ffi

    return int(ffi.cast("uintptr_t", ffi.from_buffer("char[]", view)))


class ref:  # noqa: N801  it is called like a function, and is the interface's name
    """An object's memory itself, for a call of a pool: `pool.run(function, aiopip.ref(data))`.

    It arrives as a memoryview of the same memory, of the same format, shape and strides, read only
    where the object is; what either side writes the other one sees.  `bytes`, `bytearray` and
    `array.array` are copied without it, and `mmap` is refused.  NumPy arrays and memoryviews need
    it not: they are never copied.

    The object's memory does not move while this lives: a bytearray cannot be resized.

    Args:
        given: anything with the buffer protocol, or a Region.

    Attributes:
        view: a memoryview of the memory.

    Raises:
        InvalidArgumentError: it exposes no memory.
        NotCastError: a Region without a type.
        ClosedError: a Region that was closed.

    Thread safety: any thread.
    """

    __slots__ = ("view",)

    view: memoryview

    def __init__(self, given: Any) -> None:
        """Take the object; its memory is held from now on."""
        try:
            # Not every Python asks a Region for its buffer, so it is asked for its view.
            self.view = given.view() if _is_region(given) else memoryview(given)
        except (TypeError, ValueError, BufferError) as error:
            from aiopip._errors import AiopipError, InvalidArgumentError

            if isinstance(error, AiopipError):
                raise
            raise InvalidArgumentError(
                "ref",
                f"{_a(given)} has no memory to refer to ({error}); {_way(given)}",
            ) from None

    def __reduce__(self) -> NoReturn:
        # The pickler of pools does not ask this: it knows the class.
        raise TypeError(
            "aiopip.ref() is for calls of aiopip's pools alone: an address means nothing "
            "elsewhere; pickle the object itself"
        )

    def __repr__(self) -> str:
        return f"<aiopip.ref to {self.view.nbytes} bytes of {type(self.view.obj).__name__}>"


def _way(given: object) -> str:
    if isinstance(given, ref):
        return "it refers to some already"
    if hasattr(given, "__array_interface__"):
        return "pass the array as it is: arrays are not copied"
    return "pass it as it is, or make bytes or an array of it"


def _a(value: object) -> str:
    """A value's type with its article."""
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def check_written(name: str, value: Any) -> None:
    """Refuse what a worker is to write into, and would get a copy of.

    Args:
        name: what the caller calls it: "out".
        value: a numpy.ndarray, a memoryview, a ref or a Region; tuples, lists and dicts of such;
            or what cannot be written into: None, a number, the name of a file.

    Raises:
        InvalidArgumentError: it, or the item that the text names, is copied or must not be written.
    """
    if isinstance(value, (list, dict)) and _is_filled(value):
        from aiopip._errors import InvalidArgumentError

        kind = type(value).__name__
        raise InvalidArgumentError(
            name, f"the {kind} is copied, and what is put into it is lost; pass a numpy.ndarray"
        )
    if isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            check_written(f"{name}[{number}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_written(f"{name}[{key!r}]", item)
    elif not _is_plain(value) and (problem := _why_not_written(value)):
        from aiopip._errors import InvalidArgumentError

        raise InvalidArgumentError(name, problem)


def _is_filled(value: Any) -> bool:
    """Whether a list or dict can only be meant to be filled: it is empty, or has numbers."""
    items = value.values() if isinstance(value, dict) else value
    return all(isinstance(item, (int, float, complex)) for item in items)


def _is_plain(value: Any) -> bool:
    """Whether nobody writes into it: the name of a file, say, for functions that call it so."""
    return value is None or isinstance(value, (str, int, float)) or hasattr(value, "__fspath__")


def _why_not_written(value: Any) -> str | None:
    """Why a worker's writing would not reach a value's memory; None when it does."""
    kind = type(value).__name__
    if isinstance(value, ref):
        value = value.view
    if isinstance(value, memoryview) or _is_region(value):
        return f"the {kind} is read only" if value.readonly else None
    numpy = modules.get("numpy")
    ndarray = getattr(numpy, "ndarray", None)
    if ndarray is None or not isinstance(value, ndarray):
        return _why_no_array(value)
    if type(value) not in (ndarray, getattr(numpy, "memmap", None)):
        return f"{_a(value)} is copied; pass the plain array in it, .view(numpy.ndarray) or .data"
    if value.dtype.hasobject:
        return f"its items ({value.dtype}) are Python objects, which are copied"
    # `flags.writeable` would warn of arrays that numpy.broadcast_arrays has made.
    return "the array is read only" if value.__array_interface__["data"][1] else None


def _why_no_array(value: Any) -> str:
    try:
        with memoryview(value) as view:
            readonly = view.readonly
    except (TypeError, ValueError, BufferError):
        return f"{_a(value)} is copied, or has no memory to write into; pass a numpy.ndarray"
    if readonly:
        return f"the {type(value).__name__} is read only"
    return f"{_a(value)} is copied; wrap it in aiopip.ref(), and it arrives as a memoryview"


def _is_region(value: object) -> bool:
    # Nobody has one before its module is imported.
    module = modules.get("aiopip._region")
    return isinstance(value, getattr(module, "Region", ()))
