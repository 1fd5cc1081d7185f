"""Exceptions on their way from a worker to the caller: with their traceback, as a text."""

from __future__ import annotations

import traceback
from _pickle import loads
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from aiopip._copying import BY_VALUE
from aiopip._errors import AiopipError
from aiopip._main_module import NAME as MP_MAIN
from aiopip._pickling import write

if TYPE_CHECKING:
    from typing import TypeAlias


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
    """A call has raised what cannot be raised here, so here are its type and its text.

    It does not pickle, or cannot be made here; or it is no `Exception`: a SystemExit, a
    KeyboardInterrupt or a CancelledError of a worker's would mean another thing here.

    Attributes:
        type_name: the exception's class, with its module.
    """

    def __init__(self, type_name: str, text: str) -> None:
        """Take what there is of the exception."""
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name


PackedError: TypeAlias = "tuple[bytes | None, str, str, str]"
"""What travels: the exception's pickle, by value, if it has one; its class's name, its text, and
its traceback, which are there also where the exception itself cannot be made."""


def pack_error(error: BaseException, own: int) -> PackedError:
    """An exception as it travels; what its traceback refers to is let go.

    Args:
        error: the exception.
        own: how many lines of the traceback are the worker's own, and are left out if there are
            others behind them.
    """
    shown = error.__traceback__
    for _ in range(own):
        shown = shown and (shown.tb_next or shown)
    text = "".join(traceback.format_exception(type(error), error, shown))
    _let_go(error)
    return _travelling(error), _type_name(error), _text_of(error), text


def pack_unpicklable_result(function: Any, value: object, cause: Exception) -> PackedError:
    """The error for a result that does not pickle."""
    from aiopip._errors import NotPicklableError
    from aiopip._unpicklable import facts

    name = getattr(function, "__qualname__", repr(function))
    text = "".join(traceback.format_exception(type(cause), cause, cause.__traceback__))
    why, *known = facts(cause)
    way_out = known[0] if known else "return what it is made of"
    if isinstance(value, CoroutineType):
        value.close()  # nobody will await it, which would be warned of
        way_out = "a worker calls plain functions: pass one that does asyncio.run()"
    elif isinstance(value, GeneratorType):
        way_out = "return a list of what it yields"
    error = NotPicklableError(name, f"its result, a {_type_name(value)},", why, way_out)
    return _travelling(error), _type_name(error), str(error), text


def unpack_error(packed: PackedError) -> BaseException:
    """The exception to raise."""
    data, type_name, text, tb = packed
    error: BaseException | None = None
    if data is not None:
        try:
            error = loads(data)
        except Exception as raised:  # noqa: BLE001  whatever its own code raises, in this process
            text = f"{text} (which cannot be made here: {type(raised).__name__}: {raised})"
    if not isinstance(error, BaseException):
        error = RemoteError(type_name, text)
    error.__cause__ = RemoteTraceback(tb)
    return error


def as_exception(error: BaseException) -> BaseException:
    """What a coroutine raises for what a worker has raised: it is not cancelled itself."""
    if isinstance(error, Exception) or not isinstance(error.__cause__, RemoteTraceback):
        return error
    remote = RemoteError(_type_name(error), _text_of(error))
    remote.__cause__ = error.__cause__
    return remote


def _let_go(error: BaseException) -> None:
    """Drop the tracebacks of an exception and of those behind it, and what their frames refer to.

    A frame may refer to the exception, and both to arguments, until somebody collects garbage.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left += (one.__cause__, one.__context__, *getattr(one, "exceptions", ()))
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None


def _travelling(error: BaseException) -> bytes | None:
    """Its pickle, if it comes back as what it is: many a one pickles and cannot be read again."""
    try:
        data = write(error, BY_VALUE, None)
        again = loads(data)
    except Exception:  # noqa: BLE001  whatever its own code raises
        return None
    return data if type(again) is type(error) else None


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # noqa: BLE001  its own code, again
        return f"(its text cannot be had: {type(another).__name__})"


def _type_name(value: object) -> str:
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    # The program's file is another module in a worker; its reader knows it by one name.
    module = "__main__" if kind.__module__ == MP_MAIN else kind.__module__
    return f"{module}.{kind.__qualname__}"
