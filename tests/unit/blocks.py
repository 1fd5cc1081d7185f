"""The blocks of task groups that run beside a test, and what they raise."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio
from jobs import cancelled, start, turns

import aiopip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from unit.fake_client import Stage

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

FAILS = 3 << 8
"""The wait status of an exit with 3."""


class Block:
    """A group's block that runs in a job of its own.

    Its body waits until `end`, or until the group cancels it.
    """

    def __init__(
        self, stage: Stage, body: Callable[[Block], Awaitable[None]] | None, grace_s: float
    ) -> None:
        self.group = stage.root.task_group(grace_s=grace_s)
        self.end = anyio.Event()
        self.body_cancelled = 0
        self._body = body or Block.wait
        self._error: BaseException | None = None
        self.running = start(self._run())

    async def _run(self) -> None:
        try:
            async with self.group:
                await self._body(self)
        except BaseException as error:
            # Before Python 3.11 a cancellation is made anew for who awaits the task.
            self._error = error
            raise

    async def wait(self) -> None:
        """What the body does."""
        try:
            await self.end.wait()
        except cancelled():
            self.body_cancelled += 1
            raise

    async def raised(self) -> BaseException | None:
        """What the block raises."""
        try:
            await self.running
        except BaseException:
            if not self.running.done():
                raise
        error, self._error = self._error, None
        return error


async def block(
    stage: Stage,
    body: Callable[[Block], Awaitable[None]] | None = None,
    *,
    tasks: int = 1,
    grace_s: float = 3600,
) -> Block:
    """A block that is open, and has so many tasks: numbers 0, 1, 2 ..."""
    made = Block(stage, body, grace_s)
    await turns(2)
    for _ in range(tasks):
        await stage.member(made.group)
    return made


def leaves(error: BaseException | None) -> list[BaseException]:
    """The exceptions of a group, those of groups in it too, in their order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [] if error is None else [error]


def failures(error: BaseException | None) -> dict[int, int]:
    """Which tasks have failed, and how, when these and nothing else are in an ExceptionGroup."""
    assert isinstance(error, ExceptionGroup)
    found = leaves(error)
    assert all(isinstance(one, aiopip.TaskFailed) for one in found), found
    return {
        one.task.pipid: int(one.status)
        for one in found
        if isinstance(one, aiopip.TaskFailed) and one.task is not None
    }


def signals_to(stage: Stage, number: int) -> list[object]:
    return [call[2] for call in stage.calls("kill") if call[1] == number]


TERMINATED = [signal.SIGTERM, signal.SIGCONT]
KILLED = [*TERMINATED, signal.SIGKILL]
