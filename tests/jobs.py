"""Coroutines that run beside a test, by what each event loop has for that itself.

On asyncio a job is an `asyncio.Task`: one `cancel()` raises CancelledError once, at the `await`
where it stands, even when what it awaits has come in the same iteration of the loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.lowlevel

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


def start(coroutine: Coroutine[Any, Any, T]) -> Job[T]:
    """Run a coroutine beside the test."""
    return asyncio.get_running_loop().create_task(coroutine)


async def begun(coroutine: Coroutine[Any, Any, T]) -> Job[T]:
    """Start a coroutine, and let it run up to where it waits."""
    job = start(coroutine)
    await turns(1)
    return job


async def turns(count: int) -> None:
    """Let the loop run for a number of iterations."""
    for _ in range(count):
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
