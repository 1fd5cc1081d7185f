"""Exceptions on their way from a worker to the caller: with their traceback, as a text."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from aiopip._errors import AiopipError
from aiopip._pickling import dump, load

if TYPE_CHECKING:
    from types import TracebackType


class RemoteTraceback(Exception):
    """Where in a worker an exception was raised; the `__cause__` of what a call raises.

    Attributes:
        tb: the traceback, as Python prints it.
    """

    def __init__(self, tb: str) -> None:
        """Take the text."""
        super().__init__(tb)
        self.tb = tb

    def __str__(self) -> str:
        return f'\n"""\n{self.tb}"""'


class RemoteError(AiopipError):
    """A call has raised an exception that does not pickle, so here are its type and its text.

    Attributes:
        type_name: the exception's class, with its module.
    """

    def __init__(self, type_name: str, text: str) -> None:
        """Take what there is of the exception."""
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name


PackedError = tuple[BaseException, str]
"""What travels: an exception that pickles, and its traceback."""


def pack_error(error: BaseException) -> PackedError:
    """An exception as it travels; what its traceback refers to is let go."""
    text = "".join(traceback.format_exception(type(error), error, _own(error)))
    error.__traceback__ = None
    return (error if _travels(error) else _described(error)), text


def pack_unpicklable_result(function: Any, value: object, cause: Exception) -> PackedError:
    """The error for a result that does not pickle."""
    from aiopip._errors import NotPicklableError

    name = getattr(function, "__qualname__", repr(function))
    text = "".join(traceback.format_exception(type(cause), cause, cause.__traceback__))
    return NotPicklableError(name, f"its result, a {_type_name(value)},", str(cause)), text


def unpack_error(packed: PackedError) -> BaseException:
    """The exception to raise."""
    error, text = packed
    error.__cause__ = RemoteTraceback(text)
    return error


def _own(error: BaseException) -> TracebackType | None:
    """The traceback from the called function on, without the lines of the worker's own."""
    traceback = error.__traceback__
    return traceback if traceback is None or traceback.tb_next is None else traceback.tb_next


def _travels(error: BaseException) -> bool:
    """Whether it comes back as what it is: many an exception pickles and cannot be read again."""
    try:
        parcel = dump(error)
        again = load(parcel.data, parcel.table, lambda *_: parcel)
    except Exception:  # noqa: BLE001  whatever its own code raises
        return False
    return type(again) is type(error)


def _described(error: BaseException) -> RemoteError:
    try:
        text = str(error)
    except Exception as another:  # noqa: BLE001  its own code, again
        text = f"(its text cannot be had: {type(another).__name__})"
    return RemoteError(_type_name(error), text)


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
