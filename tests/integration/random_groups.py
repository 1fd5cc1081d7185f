"""Groups at random, nested, many at once, and a model that says what each must have raised.

A group notes what it did: which tasks it was handed, how each had to end by itself, what left its
body.  Behind its block every task must have ended and been reaped, and what was raised is exactly:
the failures of those that ended by themselves, and what left the body.  A failure names its seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from jobs import cancelled, gather, on_trio, outcomes, start

import aiopip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from integration.conftest import Programs

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

AT_ONCE = 20
DEEPEST = 2
TERMINATED = {-15, -9}


class OfTheBodyError(Exception):
    """What a body raises by itself."""


def leaves(error: BaseException | None) -> list[BaseException]:
    """All that was raised with an error: of groups, and behind a cancellation of asyncio."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    if isinstance(error, cancelled()):
        cause = error.__cause__ if isinstance(error.__cause__, BaseExceptionGroup) else None
        return [error, *leaves(cause)]
    return [] if error is None else [error]


def errors(error: BaseException | None) -> set[BaseException]:
    """All but the cancellations."""
    return {leaf for leaf in leaves(error) if not isinstance(leaf, cancelled())}


class Model:
    """What one group has done."""

    def __init__(self) -> None:
        self.planned: dict[aiopip.Task, int | None] = {}
        """How each task ends by itself; None for never."""
        self.unchecked: set[aiopip.Task] = set()
        self.cancelled = False
        self.left_body: set[BaseException] = set()
        self.body_cancelled = False

    def check(self, error: BaseException | None, seen: Counter[str]) -> None:
        """Look at what the block has raised, and count it."""
        seen["groups"] += 1
        if any(isinstance(one, cancelled()) for one in leaves(error)):
            seen["cancelled bodies" if self.body_cancelled else "cancelled waits"] += 1
        raised = errors(error)
        failed = {one.task for one in raised - self.left_body if isinstance(one, aiopip.TaskFailed)}
        assert raised - self.left_body == {one for one in raised if task_of(one) in self.planned}
        assert self.left_body <= raised
        for task, planned in self.planned.items():
            assert task.status is not None
            assert not os.path.exists(f"/proc/{task.pid}"), "it is a zombie"  # noqa: PTH110  quick
            by_itself = not task._state.signaled
            seen["failed tasks"] += task in failed
            seen["ended tasks"] += not by_itself
            seen["tasks"] += 1
            assert task.status == planned or (not by_itself and task.status in TERMINATED)
            assert (task in failed) == (by_itself and planned != 0 and task not in self.unchecked)
        if error is None and not self.cancelled:
            assert {task: int(task.status or 0) for task in self.planned} == self.planned


def task_of(error: BaseException) -> aiopip.Task | None:
    return error.task if isinstance(error, aiopip.TaskFailed) else None


class Actor:
    """Opens one group after the other."""

    def __init__(
        self, root: aiopip.Root, programs: dict[str, str], seed: str, seen: Counter[str]
    ) -> None:
        self.root = root
        self.programs = programs
        self.chance = random.Random(seed)
        self.seen = seen

    # What ends a group from outside

    async def act(self) -> None:
        """Open a group, and perhaps cancel it."""
        how = self.chance.choice([*[self._plain] * 4, self._cancelled, self._scope])
        if sys.version_info >= (3, 11) and not on_trio() and self.chance.random() < 0.15:
            how = self._timeout
        await how()

    async def _top(self) -> None:
        await self.group(0)
        await anyio.lowlevel.checkpoint()

    async def _plain(self) -> None:
        [error] = await outcomes(self._top())
        assert error is None or isinstance(error, ExceptionGroup), error

    async def _cancelled(self) -> None:
        job = start(self._top())
        await anyio.sleep(4 * self._soon_s())
        is_late = job.done()
        job.cancel()
        [error] = await outcomes(job)
        assert not isinstance(error, AssertionError), error
        # trio cancels nobody who is about to go on, and that may have been the last wait.  Before
        # Python 3.11 a cancellation is lost when the group's comes in the same iteration.
        if not is_late and not on_trio() and sys.version_info >= (3, 11):
            assert isinstance(error, asyncio.CancelledError), error

    async def _scope(self) -> None:
        async def run() -> None:
            with anyio.move_on_after(4 * self._soon_s()):
                await self._top()

        [error] = await outcomes(run())
        assert error is None or isinstance(error, ExceptionGroup), error

    async def _timeout(self) -> None:
        timeout: Any = asyncio.timeout  # type: ignore[attr-defined]

        async def run() -> None:
            async with timeout(4 * self._soon_s()):
                await self._top()

        [error] = await outcomes(run())
        assert error is None or isinstance(error, (ExceptionGroup, TimeoutError)), error

    def _soon_s(self) -> float:
        return self.chance.random() ** 2 * 0.05

    # A group

    async def group(self, depth: int) -> None:
        """A group, its tasks and groups within, checked behind its block."""
        model = Model()
        try:
            async with self.root.task_group(grace_s=self.chance.choice([0, 0.005, 10])) as group:
                try:
                    for _ in range(self.chance.randrange(6)):
                        await self.chance.choice(self._steps())(group, model, depth)
                    if self.chance.random() < 0.5:
                        await self._take_time(group, model)
                except BaseException as error:
                    model.left_body = errors(error)
                    model.body_cancelled = any(isinstance(e, cancelled()) for e in leaves(error))
                    raise
        except BaseException as error:
            model.check(error, self.seen)
            # What is no cancellation may be dealt with here.
            if not isinstance(error, ExceptionGroup) or self.chance.random() < 0.5:
                raise
        else:
            model.check(None, self.seen)
        finally:
            model.left_body.clear()

    def _steps(self) -> list[Callable[[aiopip.TaskGroup, Model, int], Awaitable[None]]]:
        often = [self._succeed, self._ignore, self._wait_for_one, self._spawn_at_once]
        return [
            *[*often, *often, self._run, self._fail, self._fail, self._within, self._rest],
            *[self._raise, self._cannot_spawn, self._cancel_group, self._scope_within],
        ]

    async def _spawn(
        self, group: aiopip.TaskGroup, model: Model, planned: int | None, *line: str, **options: Any
    ) -> aiopip.Task:
        task = await group.spawn(self.programs[line[0]], *line[1:], **options)
        model.planned[task] = planned
        return task

    async def _succeed(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        await self._spawn(group, model, 0, "code", "0")

    async def _take_time(self, group: aiopip.TaskGroup, model: Model) -> None:
        """So that there is a wait at the end of the block, to be interrupted."""
        await self._spawn(group, model, 0, "sleep", str(4 * self._soon_s()))

    async def _run(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        """A task that somebody has to end."""
        await self._spawn(group, model, None, "pause")
        if self.chance.random() < 0.5:
            group.cancel()
            model.cancelled = True
        else:
            await self._fail(group, model, _)

    async def _fail(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        if self.chance.random() < 0.3:
            how, number = self.chance.choice([("segv", 11), ("abort", 6), ("fpe", 8)])
            await self._spawn(group, model, -number, "fault", how)
        else:
            code = self.chance.randrange(1, 256)
            await self._spawn(group, model, code, "code", str(code))

    async def _ignore(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        task = await self._spawn(group, model, 7, "code", "7", check=False)
        model.unchecked.add(task)

    async def _raise(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        raise OfTheBodyError

    async def _cannot_spawn(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        try:
            await group.spawn("/no/such/program", stdout=subprocess.PIPE)
        except aiopip.ProgramNotFoundError:
            if self.chance.random() < 0.3:
                raise
        except aiopip.ClosedError:
            assert group._ending.urgency

    async def _rest(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        await anyio.sleep(self._soon_s() / 2)

    async def _cancel_group(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        group.cancel()
        model.cancelled = True

    async def _wait_for_one(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        task = await self._spawn(group, model, 0, "code", "0")
        assert await task.wait() in {0, *TERMINATED}

    async def _spawn_at_once(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        """Several coroutines, for which the group may be closed under way."""

        async def spawn() -> None:
            try:
                await self._spawn(group, model, 0, "code", "0")
            except aiopip.ClosedError:
                assert group._ending.urgency
                self.seen["closed spawns"] += 1

        async with anyio.create_task_group() as others:
            for _ in range(3):
                others.start_soon(spawn)

    async def _scope_within(self, group: aiopip.TaskGroup, model: Model, _: int) -> None:
        with anyio.move_on_after(self._soon_s() / 2):
            await self._succeed(group, model, _)
            await anyio.sleep(self._soon_s())

    async def _within(self, group: aiopip.TaskGroup, model: Model, depth: int) -> None:
        if depth < DEEPEST:
            await self.group(depth + 1)


async def random_groups(
    root: aiopip.Root, program: Programs, seed: int, count: int
) -> Counter[str]:
    """Open so many groups, many at once; with the same seed, each actor makes the same choices.

    Returns:
        What was seen, for who wants to know whether all of it was.
    """
    seen: Counter[str] = Counter()
    programs = {name: str(program(name)) for name in ("code", "pause", "fault")}
    programs["sleep"] = "sleep"
    actors = [Actor(root, programs, f"{seed} {number}", seen) for number in range(AT_ONCE)]

    async def act(actor: Actor) -> None:
        while seen["groups"] < count:
            await actor.act()

    await gather(*map(act, actors))
    assert root.statistics().alive == 0
    return seen
