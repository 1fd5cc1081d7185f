# A worker's side of a pool's queue: native/python.  `native/include/aiopip_calls.h` has more of it.
# _worker.py alone imports this.
from collections.abc import Callable
from types import ModuleType
from typing import overload

from typing_extensions import Self

# Where a worker has its calls from.
class Source:
    # Become a worker of the queue at an address, whose owner is a task of a PiP ID and generation,
    # or the root.  From then on all of the owner's memory is held, if it is a task's, and ours when
    # we end.  OSError: this is no task, the owner has ended (ECANCELED), or the queue is none of
    # this version of aiopip.
    def __new__(
        cls, address: int, worker: int, event_fd: int, owner: tuple[int, int], /
    ) -> Self: ...

    # Calls may come; or why they may not, a parcel, whose data and table have to stay where they
    # are until the owner has seen it.
    @overload
    def ready(self) -> None: ...
    @overload
    def ready(self, data: bytes, table: bytes, /) -> None: ...

    # Run calls until the owner says that it is enough, or the limit is reached: the exit status.
    # The limit is 0 for any number of calls, and -1 for one which is a program: that may end by
    # SystemExit, and when it has raised something else the status is 1.  What calls raise is handed
    # over; what the handlers of signals raise, while there is no call, is raised here.  With what
    # `import_pickle` raises all calls fail.  `when_idle` is called, and malloc gives back what is
    # free, when no call has come for a while.
    def serve(
        self, limit: int, import_pickle: Callable[[], ModuleType], when_idle: Callable[[], None], /
    ) -> int: ...

# Bytes of the owner's, read only; nothing keeps them.
def memory_at(address: int, size_bytes: int, /) -> memoryview: ...
