"""Which part of a call cannot be pickled: found by trying, when a call has failed."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from aiopip._cloudpickling import MODULE_OR_CLOUDPICKLE, MainNotImportableError, cloudpickle
from aiopip._errors import NotPicklableError
from aiopip._pickling import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def find(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: BaseException,
) -> NotPicklableError:
    """The error that names the first part of a call that cannot be pickled, or else the call."""
    name = _name_of(function)
    for part, value in _parts(function, args, kwargs):
        why = _try(value)
        if why is not None:
            # Of a function its name says more than its type.
            what = part if value is function else f"{part}, a {_type_of(value)},"
            return NotPicklableError(name, what, *facts(why))
    return NotPicklableError(name, None, *facts(error))


def _try(value: object) -> Exception | None:
    try:
        dump(value)
    except Exception as error:  # noqa: BLE001  what a __reduce__ raises is anything
        return error
    return None


def _parts(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    yield "the function", function
    names = _parameters(function)
    for number, value in enumerate(args):
        known = f" ({names[number]!r})" if number < len(names) else ""
        yield f"argument {number + 1}{known}", value
    for name, value in kwargs.items():
        yield f"argument {name!r}", value


def _parameters(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that positional arguments go to."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # functions in C that do not say
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in positional]


def facts(error: BaseException) -> tuple[str, ...]:
    """What pickle says, and the way out where another than the usual one is known."""
    if isinstance(error, MainNotImportableError):
        return error.args[0], MODULE_OR_CLOUDPICKLE
    text = str(error) or type(error).__name__
    nameless = "<lambda>" in text or "<locals>" in text
    return (text, MODULE_OR_CLOUDPICKLE) if nameless and cloudpickle() is None else (text,)


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if name and module else name or repr(function)


def _type_of(value: object) -> str:
    kind = type(value)
    plain = kind.__module__ == "builtins"
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
