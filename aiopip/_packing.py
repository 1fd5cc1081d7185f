"""A call, packed: a function and its arguments as they travel, and what of them is refused."""

from __future__ import annotations

from inspect import iscoroutinefunction
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

from aiopip._errors import InvalidArgumentError
from aiopip._named import call_named
from aiopip._pickling import dump, name_unpicklable
from aiopip._worker_chunks import run_chunk
from aiopip._written import check_written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiopip._parcel import Parcel


PICKLES = (TypeError, AttributeError, PicklingError)
"""What pickle itself raises."""


def check_function(function: Any) -> None:
    """Refuse what a worker cannot call.

    Raises:
        InvalidArgumentError: it cannot be called at all, or has to be awaited.
    """
    if not callable(function):
        raise InvalidArgumentError("function", f"{function!r} cannot be called")
    if iscoroutinefunction(function):
        raise InvalidArgumentError(
            "function",
            f"{function!r} is async, and a worker calls plain functions: pass one that does "
            "asyncio.run()",
        )


def pack_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parcel:
    """Pack a call.

    Raises:
        NotPicklableError: the function, or an argument, does not pickle.
        InvalidArgumentError: the function cannot be called, or is async; `out` would be copied, or
            is read only.
    """
    check_function(function)
    return _pack((function, args, kwargs), function, args, kwargs)


def pack_submitted(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parcel:
    """Pack a call of an executor, whose callers look for what an object's own code has raised.

    Raises:
        NotPicklableError: as above, where pickle itself has said so.
        InvalidArgumentError: `out` as above.
        Exception: what an object's own reduction raised.
    """
    return _pack((function, args, kwargs), function, args, kwargs, PICKLES)


def pack_chunk(function: Callable[..., Any], columns: list[Sequence[Any]]) -> Parcel:
    """Pack several calls of an executor, as `run_chunk` runs them.

    Args:
        function: what is called for each row.
        columns: its arguments, each with one for every row.

    Raises:
        NotPicklableError, Exception: as above; of calls with one argument the text counts these.
    """
    try:
        return dump((run_chunk, (function, *columns), {}))
    except PICKLES as error:
        rows = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        raise name_unpicklable(function, tuple(rows), {}, error) from error


def pack_named_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parcel:
    """Pack a call of what has a name: "package.module:function".

    Raises:
        NotPicklableError: an argument does not pickle.
        InvalidArgumentError: the name has another form; `out` as above.
    """
    module, _, function = name.partition(":")
    if not module or not function or ":" in function:
        raise InvalidArgumentError("function", f"{name!r} is not 'module:function'")
    return _pack((call_named, (module, function, *args), kwargs), name, args, kwargs)


def _pack(
    call: tuple[Any, ...],
    function: Callable[..., Any] | str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    named: tuple[type[Exception], ...] = (Exception,),
) -> Parcel:
    """Pack a call; of the errors in `named` the text says which part has raised them."""
    if "out" in kwargs:
        check_written("out", kwargs["out"])
    try:
        return dump(call)
    except named as error:
        raise name_unpicklable(function, args, kwargs, error) from error
