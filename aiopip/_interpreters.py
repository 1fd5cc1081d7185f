"""Python interpreters that a Root offers: pools, functions in tasks, modules.

A Root has these methods, and so has what a task sees of its Root (`this_task().root`): the same
workers, which are the Root's tasks, for whoever asks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Literal

    from aiopip._crew import Host
    from aiopip._ffi import Peer
    from aiopip._loop import Loop
    from aiopip._pool import Pool


class Workplace(NamedTuple):
    """Where workers are started, and by whom.

    Attributes:
        host: starts them.
        peer: this process.
        loop: the one that runs.
        pools: those that are open.
    """

    host: Host
    peer: Peer
    loop: Loop
    pools: set[Pool]


class Interpreters(ABC):
    """What can be asked of a Root that has to do with Python."""

    __slots__ = ()

    @abstractmethod
    def _workplace(self) -> Workplace:
        """Where pools of it have their workers."""

    def pool(
        self,
        workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        cpu: int | Iterable[int] | Sequence[Iterable[int]] | None = None,
        max_calls_per_worker: int | None = None,
        max_pending: int | None = None,
        on_cancel: Literal["abandon", "kill"] = "abandon",
    ) -> Pool:
        """Make a pool of interpreters that run functions, in this address space.

            async with root.pool(workers=4) as pool:
                total = await pool.run(sum, [1, 2, 3])

        Args:
            workers: how many; as many as processors by default.
            initializer: called in each worker before its first call.
            initargs: with what.
            cpu: the processor, or the set of processors, that workers may run on; a sequence of
                sets is one for each worker, in turn.
            max_calls_per_worker: how many calls a worker runs before another one takes its place.
            max_pending: how many calls may be under way before `Pool.run` waits for room.
            on_cancel: what becomes of a call that runs when its caller is cancelled: "abandon" has
                it run to its end, "kill" kills its worker, and replaces it.

        Returns:
            The pool, to be entered by `async with`.

        Raises:
            InvalidArgumentError: one of these is out of its range.
            NotPicklableError: `initializer` or `initargs` does not pickle.
            NotExecutableError: this Python has no interpreter of its own.
            NotPermittedError: the program's main module is being imported by a worker, and does not
                ask for its `__name__`.
            ClosedError: the Root is closed.

        Thread safety: loop thread only.

        Source: `concurrent.futures.ProcessPoolExecutor`
        """
        from aiopip._main_module import check_not_importing
        from aiopip._pool import Pool

        check_not_importing()
        return Pool(
            self._workplace(),
            workers=workers,
            initializer=initializer,
            initargs=initargs,
            cpu=cpu,
            max_calls_per_worker=max_calls_per_worker,
            max_pending=max_pending,
            on_cancel=on_cancel,
        )
