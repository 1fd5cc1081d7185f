"""A lock that lies in memory which tasks and their root share."""

from __future__ import annotations

import errno
import threading
from functools import partial
from typing import TYPE_CHECKING

from aiopip._arrays import describe
from aiopip._errors import (
    ClosedError,
    DeadlockError,
    ForkedError,
    InvalidArgumentError,
    NotPermittedError,
    OwnerDiedError,
    WouldBlock,
    call_error,
    whole_number,
)
from aiopip._ffi import LOCK_BYTES, READONLY, Peer
from aiopip._loop import running_loop
from aiopip._peers import current_peer
from aiopip._region import Region
from aiopip._waiter import Wait, wait_here, wait_in_thread

if TYPE_CHECKING:
    from typing_extensions import Self

ALIGNMENT = 8


class Lock:
    """A lock between processes of one space: tasks, and their root; in Python and in C.

    It is 64 bytes of memory, all zero when nobody has it.  One process makes and exports it, the
    others make a Lock of what they import::

        lock = aiopip.Lock()                            lock = aiopip.Lock(region)
        root.export("lock", lock)                       with lock: ...

    Its owner is a process.  Within one, threads and coroutines exclude each other too, and any of
    them may release it.  Taking and releasing a lock that nobody waits for makes no system call.

    It is robust: when its owner dies, the next one gets it and is told by OwnerDiedError.  The lock
    is that one's then; what it guards may be halfway.  Who has put it right calls `recover()`, and
    until somebody has, everyone who gets the lock is told.  `with lock` and `async with lock` take
    and release it; where they raise OwnerDiedError the block is not entered, and the lock is the
    caller's, to be released::

        try:
            async with lock:
                change(table)
        except aiopip.OwnerDiedError:
            repair(table)
            lock.recover()
            lock.release()

    Args:
        memory: 64 writable bytes on an address that 8 divides: a Region, a NumPy array, anything
            with the buffer protocol; longer is fine.  New memory by default.
        offset: where in it the lock begins, in bytes.

    Raises:
        InvalidArgumentError: the memory is too short, read only, or not in one piece.

    Thread safety: any thread.

    Source: pthread_mutexattr_setrobust(3), futex(2)
    """

    __slots__ = ("__weakref__", "_address", "_memory", "_thread")

    SIZE_BYTES = LOCK_BYTES
    """What a lock takes of memory."""

    def __init__(self, memory: object = None, *, offset: int = 0) -> None:
        if memory is None:
            memory = bytearray(LOCK_BYTES)
        described = memory.described() if isinstance(memory, Region) else describe(memory, "memory")
        facts = described.facts
        size_bytes = facts.end - facts.start
        if facts.flags & READONLY:
            raise InvalidArgumentError("memory", "it is read only")
        offset = whole_number("offset", offset)
        if offset < 0:
            raise InvalidArgumentError("offset", f"{offset} is before the memory begins")
        if offset > size_bytes - LOCK_BYTES:
            raise InvalidArgumentError(
                "memory", f"a lock takes {LOCK_BYTES} bytes; at {offset} of {size_bytes} are fewer"
            )
        if (facts.start + offset) % ALIGNMENT:
            raise InvalidArgumentError("offset", f"the address is no multiple of {ALIGNMENT}")
        try:
            whole = memoryview(described.keeper).cast("B")  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError("memory", f"it is not in one piece: {error}") from None
        self._address = facts.start + offset
        self._memory = whole[offset : offset + LOCK_BYTES]
        self._thread: int | None = None

    @property
    def memory(self) -> memoryview:
        """Its 64 bytes, which can be exported."""
        return self._memory

    @property
    def locked(self) -> bool:
        """Whether a process that runs has it, perhaps this one."""
        owner = current_peer().lock_owner(self._address)
        return owner is not None and owner != -errno.EOWNERDEAD

    async def acquire(self) -> None:
        """Take the lock; others run meanwhile.

        Raises:
            OwnerDiedError: it is taken; its last owner died with it (EOWNERDEAD).
            NotInitializedError: this process has no open Root and is no task (EPERM).
            ClosedError: the Root was left meanwhile.

        Cancellation:
            The lock is not taken.
        """
        peer = current_peer()
        result = self._try(peer)
        if isinstance(result, Wait):

            def lost(result: int) -> None:
                if result in (0, -errno.EOWNERDEAD):
                    peer.release_lock(self._address)

            result = await wait_in_thread(running_loop(), partial(self._try, peer), lost)
        self._taken(result)

    def acquire_nowait(self) -> None:
        """Take the lock if nobody has it.

        Raises:
            WouldBlock: somebody has it (EAGAIN).
            OwnerDiedError, NotInitializedError: as `acquire`.
        """
        result = current_peer().try_lock_nowait(self._address)
        if result == -errno.EBUSY:
            raise WouldBlock(f"{self} is somebody else's")
        self._taken(result)

    def acquire_sync(self, timeout_s: float | None = None) -> None:
        """Take the lock; this thread sleeps meanwhile.  Not for the thread of an event loop.

        Args:
            timeout_s: how long to wait, for ever by default.

        Raises:
            TimeoutError: it was not to be had in that time (ETIMEDOUT).
            DeadlockError: this thread has it, by this object (EDEADLK).
            OwnerDiedError, NotInitializedError, ClosedError: as `acquire`.
        """
        peer = current_peer()

        def poll() -> int | Wait:
            result = self._try(peer)
            if isinstance(result, Wait) and self._is_this_threads(peer):
                raise DeadlockError(f"this thread has {self}, and would wait for itself")
            return result

        self._taken(wait_here(poll, timeout_s, f"{self} was not released"))

    def release(self) -> None:
        """Give the lock back.

        Raises:
            NotPermittedError: this process does not have it (EPERM).
        """
        peer, self._thread = current_peer(), None
        self._check_ours(peer.release_lock(self._address))

    def recover(self) -> None:
        """Say that what the lock guards is right again, after OwnerDiedError.

        Raises:
            NotPermittedError: this process does not have it (EPERM).
        """
        self._check_ours(current_peer().recover_lock(self._address))

    def __enter__(self) -> Self:
        self.acquire_sync()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<aiopip.Lock {self._address:#x}>"

    def _try(self, peer: Peer) -> int | Wait:
        """0, -EOWNERDEAD, another errno, or what to wait for before the next try."""
        result, words = peer.try_lock(self._address)
        return Wait(words) if words else result

    def _is_this_threads(self, peer: Peer) -> bool:
        """Whether this thread took it by this object, and the process has it still.

        It may have been released by another object, and be somebody else's by now.
        """
        ours = peer.lock_owner(self._address) == peer.pipid
        return ours and self._thread == threading.get_ident()

    def _taken(self, result: int) -> None:
        if result in (0, -errno.EOWNERDEAD):
            self._thread = threading.get_ident()
        if result == -errno.ESHUTDOWN:
            raise ClosedError("the Root was left while the lock was waited for")
        if result == -errno.EOWNERDEAD:
            raise OwnerDiedError(
                f"the owner of {self} died; it is yours, and what it guards may be halfway: put "
                "that right, then call recover(), and release() as ever"
            )
        if result == -errno.ESRCH:
            raise ForkedError
        if result < 0:
            raise call_error(-result, f"taking {self} failed")

    def _check_ours(self, result: int) -> None:
        if result == -errno.ESRCH:
            raise ForkedError
        if result < 0:
            raise NotPermittedError(f"{self} is not this process's: acquire it first")
