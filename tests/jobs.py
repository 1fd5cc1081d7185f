"""Coroutines that run beside a test, by what each event loop has for that itself.

On asyncio a job is an `asyncio.Task`: one `cancel()` raises CancelledError once, at the `await`
where it stands, even when what it awaits has come in the same iteration of the loop.

On trio it is a system task with a cancel scope: from `cancel()` on every `await` raises Cancelled,
but none whose task is about to go on since what it awaits has come.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel
import trio

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Job(Protocol[T_co]):
    """A coroutine that runs beside the test; awaiting it gives its result, or raises its error."""

    def __await__(self) -> Generator[Any, Any, T_co]: ...

    def cancel(self) -> object:
        """Cancel it."""

    def done(self) -> bool:
        """Whether it has ended."""

    def cancelled(self) -> bool:
        """Whether it has ended by its cancellation."""

    def result(self) -> T_co:
        """What it has returned."""


class _TrioJob(Generic[T]):
    """A job on trio."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._returned: list[T] = []
        self._error: BaseException | None = None
        trio.lowlevel.spawn_system_task(self._run, coroutine)

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> None:
        with self._scope:
            try:
                self._returned.append(await coroutine)
            except BaseException as error:  # noqa: BLE001  raised where it is awaited
                self._error = error
        self._ended.set()

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self._ended.wait().__await__()
        return self.result()

    def cancel(self) -> None:
        self._scope.cancel()

    def done(self) -> bool:
        return self._ended.is_set()

    def cancelled(self) -> bool:
        return isinstance(self._error, trio.Cancelled)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._returned[0]


def start(coroutine: Coroutine[Any, Any, T]) -> Job[T]:
    """Run a coroutine beside the test."""
    if on_trio():
        return _TrioJob(coroutine)
    return asyncio.get_running_loop().create_task(coroutine)


def on_trio() -> bool:
    """Whether trio runs in this thread."""
    return trio.lowlevel.in_trio_run()


async def begun(coroutine: Coroutine[Any, Any, T]) -> Job[T]:
    """Start a coroutine, and let it run up to where it waits."""
    job = start(coroutine)
    await turns(1)
    return job


async def turns(count: int) -> None:
    """Let the loop run for a number of iterations."""
    # trio runs those who can go on in any order: in the second iteration all have had their turn.
    for _ in range(2 * count if on_trio() else count):
        await anyio.lowlevel.checkpoint()


async def gather(*coroutines: Coroutine[Any, Any, T] | Job[T]) -> list[T]:
    """Run all of them at once, and give their results in this order."""
    jobs = [_job(one) for one in coroutines]
    return [await job for job in jobs]


async def outcomes(*coroutines: Coroutine[Any, Any, T] | Job[T]) -> list[T | BaseException]:
    """Run all of them at once, and give their results, or their errors, in this order."""
    jobs = [_job(one) for one in coroutines]
    return [await _outcome(job) for job in jobs]


def _job(one: Coroutine[Any, Any, T] | Job[T]) -> Job[T]:
    return start(one) if asyncio.iscoroutine(one) else one


async def _outcome(job: Job[T]) -> T | BaseException:
    try:
        return await job
    except BaseException as error:
        if not job.done():
            raise  # it is ours: who called is cancelled
        return error


def cancelled() -> type[BaseException]:
    """What a cancellation raises in this loop."""
    return anyio.get_cancelled_exc_class()
