"""A look at one task of this Root: its memory, its state, its time on processors."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from aiopip._errors import TaskEndedError, call_error
from aiopip._memory import of_process, of_spans
from aiopip._processes import statistics as statistics_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._core import Core
    from aiopip._memory import TaskMemory
    from aiopip._processes import TaskStatistics
    from aiopip._state import TaskState

T = TypeVar("T")


def memory(core: Core, state: TaskState) -> TaskMemory:
    """How much memory a task has; `Task.memory` has the contract."""
    _check_alive(core, state)
    spans = core.client.spans(state.pipid, state.generation)
    if isinstance(spans, int):
        raise TaskEndedError(state.name, state.pipid)
    if core.shares(state):
        return _look(core, state, lambda: of_spans("self", spans))
    return _look(core, state, lambda: of_process(state.pid))


def statistics(core: Core, state: TaskState) -> TaskStatistics:
    """How a task is; `Task.statistics` has the contract."""
    _check_alive(core, state)
    return _look(core, state, lambda: statistics_of(state.pid))


def _check_alive(core: Core, state: TaskState) -> None:
    if state.status is not None:
        raise TaskEndedError(state.name, state.pipid)
    core.check()


def _look(core: Core, state: TaskState, look: Callable[[], T]) -> T:
    """Look at what is the task's, if it still is when that is over."""
    try:
        found: T | OSError = look()
    except OSError as error:
        found = error
    # If it has not been reaped by now, its process ID was nobody else's before, nor its memory.
    if core.client.group(state.pipid, state.generation) == -errno.ESRCH:
        raise TaskEndedError(state.name, state.pipid)
    if isinstance(found, OSError):
        number = found.errno or errno.EIO
        raise call_error(number, f"{state} cannot be looked at: {found.strerror}", found.filename)
    return found
