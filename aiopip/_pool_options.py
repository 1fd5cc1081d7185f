"""The arguments of `Root.pool`, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiopip._errors import InvalidArgumentError, whole_number
from aiopip._interpreter import make_setup
from aiopip._options import pack_cpus
from aiopip._pickling import name_unpicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._interpreter import Setup


def positive(name: str, value: int) -> int:
    """A number from 1 on."""
    value = whole_number(name, value)
    if value < 1:
        raise InvalidArgumentError(name, f"{value} is less than 1")
    return value


def limit(name: str, value: int | None) -> int:
    """A number from 1 on; 0 where there is no limit."""
    return 0 if value is None else positive(name, value)


def setup(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> Setup:
    """What each worker does first.

    Raises:
        NotPicklableError: the initializer or its arguments do not pickle.
    """
    try:
        return make_setup(initializer, initargs)
    except Exception as error:
        raise name_unpicklable(initializer, initargs, {}, error) from error


def processors(cpu: Any) -> tuple[frozenset[int], ...]:
    """Those of each worker, in turn: one set for all, or a sequence of sets."""
    if cpu is None:
        return ()
    given = list(cpu) if isinstance(cpu, Iterable) and not isinstance(cpu, (str, bytes)) else [cpu]
    some = given if any(isinstance(one, Iterable) for one in given) else [given]
    sets = [list(one) if isinstance(one, Iterable) else [one] for one in some]
    if not sets:
        raise InvalidArgumentError("cpu", "no processor is left: give one, or a set of them")
    for one in sets:
        pack_cpus(one)
    return tuple(map(frozenset, sets))
