"""What a worker is asked to write into: `out=`, which must not be a copy."""

from __future__ import annotations

from sys import modules
from typing import TYPE_CHECKING

from aiopip._errors import InvalidArgumentError
from aiopip._ref import a_kind, is_region, ref

if TYPE_CHECKING:
    from typing import Any


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
    if isinstance(value, memoryview) or is_region(value):
        return f"the {kind} is read only" if value.readonly else None
    numpy = modules.get("numpy")
    ndarray = getattr(numpy, "ndarray", None)
    if ndarray is None or not isinstance(value, ndarray):
        return _why_no_array(value)
    if type(value) not in (ndarray, getattr(numpy, "memmap", None)):
        return (
            f"{a_kind(value)} is copied; pass the plain array in it, .view(numpy.ndarray) or .data"
        )
    if value.dtype.hasobject:
        return f"its items ({value.dtype}) are Python objects, which are copied"
    # `flags.writeable` would warn of arrays that numpy.broadcast_arrays has made.
    return "the array is read only" if value.__array_interface__["data"][1] else None


def _why_no_array(value: Any) -> str:
    try:
        with memoryview(value) as view:
            readonly = view.readonly
    except (TypeError, ValueError, BufferError):
        return f"{a_kind(value)} is copied, or has no memory to write into; pass a numpy.ndarray"
    if readonly:
        return f"the {type(value).__name__} is read only"
    return f"{a_kind(value)} is copied; wrap it in aiopip.ref(), and it arrives as a memoryview"
