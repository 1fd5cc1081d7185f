"""What users refer to on purpose: `aiopip.ref`."""

from __future__ import annotations

from sys import modules
from typing import TYPE_CHECKING

from aiopip._reducers import BY_REFERENCE, reduce_view

if TYPE_CHECKING:
    from typing import Any, NoReturn

    from aiopip._reducers import Reduced


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
            self.view = given.view() if is_region(given) else memoryview(given)
        except (TypeError, ValueError, BufferError) as error:
            from aiopip._errors import AiopipError, InvalidArgumentError

            if isinstance(error, AiopipError):
                raise
            raise InvalidArgumentError(
                "ref",
                f"{a_kind(given)} has no memory to refer to ({error}); {_way(given)}",
            ) from None

    def __reduce__(self) -> NoReturn:
        # The pickler of pools does not ask this: it knows the class.
        raise TypeError(
            "aiopip.ref() is for calls of aiopip's pools alone: an address means nothing "
            "elsewhere; pickle the object itself"
        )

    def __repr__(self) -> str:
        return f"<aiopip.ref to {self.view.nbytes} bytes of {type(self.view.obj).__name__}>"


def _reduce(given: ref) -> Reduced:
    """As the memoryview that it is."""
    return reduce_view(given.view)


BY_REFERENCE[ref] = _reduce


def _way(given: object) -> str:
    if isinstance(given, ref):
        return "it refers to some already"
    if hasattr(given, "__array_interface__"):
        return "pass the array as it is: arrays are not copied"
    return "pass it as it is, or make bytes or an array of it"


def a_kind(value: object) -> str:
    """A value's type with its article."""
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def is_region(value: object) -> bool:
    """Whether it is a `Region`; nobody has one before its module is imported."""
    module = modules.get("aiopip._region")
    return isinstance(value, getattr(module, "Region", ()))
