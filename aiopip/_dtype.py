"""What lies in a Region: the type of its items, with NumPy or without it.

NumPy is imported when a Region is cast, if it is installed, and all that its `dtype()` takes can
be said then.  Without it a plain number is what can be said, as a struct module's code ('d', '@i')
or as NumPy writes it ('f8', '<i4').  A Region that has a type, and a buffer that is exported, take
it no earlier than somebody asks for what it alone can give: to import NumPy takes a tenth of a
second, in which an event loop stands still.

Between processes a type travels as text, "8 <f8": the bytes of an item, then NumPy's code, or for
structured types a Python literal of names, formats and offsets, which knows gaps and overlaps.
"""

from __future__ import annotations

import ast
import importlib
import struct
import sys
from typing import Any, NamedTuple

from aiopip._errors import InvalidArgumentError

_NATIVE = "?bBhHiIlLqQfd"
"""The codes that memoryview.cast() takes, spelled the same in NumPy and in struct."""
_KINDS = dict(zip(_NATIVE, "biuiuiuiuiuff", strict=True))
_NATIVE_ORDER = "<" if sys.byteorder == "little" else ">"


class Layout(NamedTuple):
    """The type of the items of a Region.

    Attributes:
        dtype: a numpy.dtype, or its code as a str; `dtype_of` is for users.
        itemsize: bytes an item.
        typestr: the array interface's code.
        descr: the array interface's description of fields, None for a plain type.
        code: memoryview's code, None when it has none.
        plain: whether typestr and descr say all of it.
    """

    dtype: Any
    itemsize: int
    typestr: str
    descr: Any
    code: str | None
    plain: bool = True


def numpy() -> Any | None:
    """The module, None when it is not installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


def layout(dtype: Any) -> Layout:
    """The layout that a user's dtype means.

    Raises:
        InvalidArgumentError: nothing is known of such a dtype, its items have no size, or they are
            references to Python objects, which mean nothing in another task.
    """
    module = numpy()
    if module is None:
        return _plain(dtype)
    try:
        found = module.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError("dtype", str(error)) from None
    if found.hasobject:
        raise InvalidArgumentError("dtype", f"{found} refers to Python objects of another task")
    if not found.itemsize or found.subdtype is not None:
        raise InvalidArgumentError("dtype", f"{found} is no type of one item; put it into shape")
    code = found.char if found.isnative and found.char in _NATIVE else None
    descr = found.descr if found.names and _describes(module, found) else None
    plain = descr is not None or not found.names
    return Layout(found, found.itemsize, found.str, descr, code, plain)


def number(code: str) -> Layout:
    """The layout of a plain number, without NumPy."""
    size = struct.calcsize(code)
    order = "|" if size == 1 else _NATIVE_ORDER
    return Layout(code, size, f"{order}{_KINDS[code]}{size}", None, code)


def dtype_of(kind: Layout) -> Any:
    """A numpy.dtype, or the code as a str where there is no NumPy."""
    module = numpy() if isinstance(kind.dtype, str) else None
    return kind.dtype if module is None else module.dtype(kind.dtype)


def encode(kind: Layout) -> str:
    """The text of a layout; `decode` reads it in another process."""
    described = kind.typestr if isinstance(kind.dtype, str) else _literal(kind.dtype)
    text = described if isinstance(described, str) else repr(described)
    return f"{kind.itemsize} {text}"


def decode(text: str) -> Layout:
    """The layout that `encode` made the text of, perhaps in a process with another NumPy."""
    size, _, described = text.partition(" ")
    if described[0] in "{(":
        module = numpy()
        if module is not None:
            return layout(_from_literal(module, described))
        described = f"|V{size}"
    return Layout(described, int(size), described, None, _code(described))


def _literal(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return _literal(base), shape
    if not dtype.names:
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": list(dtype.names),
        "formats": [_literal(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }


def _from_literal(module: Any, described: Any) -> Any:
    if isinstance(described, str) and described[0] in "{(":
        described = ast.literal_eval(described)
    if isinstance(described, tuple):
        return module.dtype((_from_literal(module, described[0]), described[1]))
    if isinstance(described, dict):
        formats = [_from_literal(module, each) for each in described["formats"]]
        return module.dtype({**described, "formats": formats})
    return module.dtype(described)


def _describes(module: Any, dtype: Any) -> bool:
    """Whether a dtype's description gives it back: gaps come back as fields, overlaps have none."""
    try:
        return bool(module.dtype(dtype.descr) == dtype)
    except ValueError:
        return False


def _plain(dtype: Any) -> Layout:
    code = _code(dtype) if isinstance(dtype, str) else None
    if code is None:
        raise InvalidArgumentError(
            "dtype", f"{dtype!r} is no code of a number ('f8', '<i4', 'B'); others need NumPy"
        )
    return number(code)._replace(dtype=dtype)


def _code(dtype: str) -> str | None:
    bare = dtype.lstrip("@=" + _NATIVE_ORDER + "|")
    if len(dtype) - len(bare) > 1:
        return None
    if len(bare) == 1 and bare in _NATIVE:
        return bare
    for code in _NATIVE:  # of two for one number, 'l' and 'q', the one that NumPy takes
        if bare == f"{_KINDS[code]}{struct.calcsize(code)}":
            return code
    return None
