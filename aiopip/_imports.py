"""Imports that wait for their export.

The native core answers at once: there, not yet, or never.  For "not yet" it reports when the task
has exported something since, and the waiting imports are tried again.  At a task's end they are
tried a last time while its memory is still there, so an export made before the end is never lost.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from aiopip._errors import (
    ImportCanceledError,
    InvalidArgumentError,
    InvalidTaskError,
    WouldBlock,
    call_error,
)

if TYPE_CHECKING:
    from aiopip._ffi import Client, Hold
    from aiopip._loop import Future, Loop
    from aiopip._state import TaskState

NAME_BYTES = 255


class Imports:
    """The imports of a Root."""

    __slots__ = ("_client", "_loop")

    def __init__(self, client: Client, loop: Loop) -> None:
        self._client = client
        self._loop = loop

    def import_nowait(self, state: TaskState, name: str) -> Hold:
        """Import what is exported by now.

        Raises:
            WouldBlock: it is not.
        """
        result = self._try(state, encode_name(name))
        if result == -errno.EAGAIN and state.status is None:
            raise WouldBlock(f"{state} has not exported {name!r} yet")
        return _hold(result, state, name)

    async def wait(self, state: TaskState, name: str) -> Hold:
        """Import, once it is exported."""
        encoded = encode_name(name)
        result = self._try(state, encoded)
        if result == -errno.EAGAIN and state.status is None:
            waiter: Future[Any] = self._loop.create_future()
            pending = encoded, waiter
            state.imports.append(pending)
            try:
                # asyncio refers to the future until this coroutine waits again, which it need not
                # do before it drops the region: so the hold is taken out of the future.
                result = (await waiter).pop()
            except BaseException:
                if pending in state.imports:
                    state.imports.remove(pending)
                raise
            finally:
                # A hold that was handed to a waiter which was then cancelled goes with the future,
                # and that must not wait for the traceback, which refers to this frame.
                del pending, waiter
        else:
            try:
                await self._loop.checkpoint()
            except BaseException:
                del result  # as above
                raise
        return _hold(result, state, name)

    def retry(self, state: TaskState) -> None:
        """The task has exported something."""
        waiting, state.imports = state.imports, []
        for name, waiter in waiting:
            if waiter.done():
                continue  # cancelled, and has not run since
            result = self._try(state, name)
            if result == -errno.EAGAIN:
                state.imports.append((name, waiter))
            else:
                waiter.set_result([result])

    def finish(self, state: TaskState) -> None:
        """The task has ended, and its memory is still there: the last try."""
        self.retry(state)
        for _, waiter in state.imports:
            waiter.set_result([-errno.ECANCELED])
        state.imports.clear()

    def _try(self, state: TaskState, name: bytes) -> Hold | int:
        return self._client.named_import(state.pipid, state.generation, name)


def encode_name(name: str) -> bytes:
    """The UTF-8 of an export's name.

    Raises:
        InvalidArgumentError: it is not a str of 1 to 255 bytes, none of them NUL.
    """
    if not isinstance(name, str):
        raise InvalidArgumentError("name", f"{name!r} is not a str")
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError("name", f"{name!r} has no UTF-8 form") from None
    if b"\0" in encoded:
        raise InvalidArgumentError("name", f"{name!r} has a NUL in it, which C could not say")
    if not 1 <= len(encoded) <= NAME_BYTES:
        size = len(encoded)
        raise InvalidArgumentError("name", f"it has {size} bytes of UTF-8, not 1 to {NAME_BYTES}")
    return encoded


def _hold(result: Hold | int, state: TaskState, name: str) -> Hold:
    if not isinstance(result, int):
        return result
    # EAGAIN comes here only from a task that has ended; ESRCH is a generation that is over.
    if result in (-errno.ECANCELED, -errno.EAGAIN, -errno.ESRCH):
        raise ImportCanceledError(str(state), name)
    if result == -errno.EINVAL:
        raise InvalidTaskError(state)
    raise call_error(-result, f"importing {name!r} from {state} failed")
