# A worker's side of a pool's queue: native/python/calls.c.  `native/include/aiopip_calls.h` has
# more of each call.  _worker.py and _serving.py alone import this.
from typing_extensions import Self

CALL: int
RELEASED: int
STOP: int

FAILED: int
LENDS: int
KEEPS: int

# Where a worker has its calls from.  One thread takes and finishes, any thread gives back.
class Source:
    # Become a worker of the queue at an address, whose owner is a task of a PiP ID and generation,
    # or the root.  From then on all of the owner's memory is held, if it is a task's, and ours when
    # we end.  OSError: this is no task, the owner has ended (ECANCELED), or the queue is none of
    # this version of aiopip.
    def __new__(
        cls, address: int, worker: int, event_fd: int, owner: tuple[int, int], /
    ) -> Self: ...

    # CALL, RELEASED or STOP; of which number; a call's stream and table.  Blocks; the handlers of
    # signals run meanwhile.  The views are of the owner's memory, which nothing keeps when the call
    # has ended; with RELEASED and STOP there are none.
    def take(self) -> tuple[int, int, memoryview, memoryview]: ...

    # Both have to stay where they are until the owner has seen it.
    def ready(self, flags: int, data: bytes, table: bytes, /) -> None: ...

    # Whether both have to stay where they are until RELEASED.
    def finish(self, number: int, flags: int, data: bytes, table: bytes, /) -> bool: ...

    # Nothing here refers to a call's arguments any more.
    def give_back(self, number: int, /) -> None: ...

# Bytes of the owner's, read only; nothing keeps them.
def memory_at(address: int, size_bytes: int, /) -> memoryview: ...
