"""Arguments that only workers get at their start: queues and locks of multiprocessing.

They pickle only while multiprocessing starts a process, which inherits their descriptors, and so
do our workers.  A semaphore is mapped memory, which is the workers' too: in place of its name,
which one of the "fork" method does not have any more, its address travels.
"""

from __future__ import annotations

import copyreg
from contextlib import contextmanager
from multiprocessing import context, popen_spawn_posix, synchronize
from multiprocessing.reduction import ForkingPickler
from sys import modules
from typing import TYPE_CHECKING, Any

from aiopip._interpreter import make_setup
from aiopip._pickling import dump
from aiopip._reducers import BY_REFERENCE, Table, knows, learn_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiopip._interpreter import Setup
    from aiopip._parcel import Parcel

SEMAPHORES = (
    synchronize.Lock,
    synchronize.RLock,
    synchronize.Semaphore,
    synchronize.BoundedSemaphore,
)


class Inheriting:
    """In place of the Popen of multiprocessing, while arguments are pickled.

    Attributes:
        fds: the descriptors that workers have to inherit.
    """

    DupFd = popen_spawn_posix._DupFd  # noqa: SLF001

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        """A descriptor that the worker has by the same number."""
        self.fds.append(fd)
        return fd


def make_inheriting_setup(
    initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> tuple[Setup, tuple[int, ...]]:
    """What workers do first, and which descriptors they inherit for that."""
    with _spawning() as inheriting:
        setup = make_setup(initializer, initargs, _dump)
    return setup, tuple(dict.fromkeys(inheriting.fds))


@contextmanager
def _spawning() -> Iterator[Inheriting]:
    inheriting = Inheriting()
    outer = context.get_spawning_popen()
    context.set_spawning_popen(inheriting)  # type: ignore[arg-type]  # of this thread alone
    try:
        yield inheriting
    finally:
        context.set_spawning_popen(outer)


def _dump(obj: object) -> Parcel:
    """Pickle as multiprocessing does, and by reference."""
    numpy = modules.get("numpy")
    if numpy is not None and not knows(numpy):
        learn_numpy(numpy)
    theirs = ForkingPickler._extra_reducers  # type: ignore[attr-defined]  # noqa: SLF001
    semaphores: dict[type, Any] = dict.fromkeys(SEMAPHORES, _reduce_semaphore)
    return dump(obj, Table({**theirs, **BY_REFERENCE, **semaphores}))


def _reduce_semaphore(lock: Any) -> tuple[Any, ...]:
    semaphore = lock._semlock  # noqa: SLF001
    state = semaphore.handle, semaphore.kind, semaphore.maxvalue, None
    return copyreg.__newobj__, (type(lock),), state  # type: ignore[attr-defined]
