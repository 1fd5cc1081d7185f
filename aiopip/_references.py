"""Memory of the space as objects: views of an address.

Most workers import this in the midst of a call, so it imports nothing that an interpreter has not
loaded already: the extension module, and with it cffi, only when there is memory to refer to.
"""

from _functools import partial  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pickle import PickleBuffer


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


def locate(buffer: "PickleBuffer") -> tuple[int, int, bool]:
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
