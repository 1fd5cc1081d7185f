"""Pools under load: a worker is killed every now and then, and each call ends exactly once."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from integration import calls
from integration.usage import little_more
from jobs import start
from support import kill_quietly, settled, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from integration.usage import Use

KILL_EVERY_S = 0.05
SIZE = 40_000
"""Of large results, in items: 320,000 bytes."""

SAMPLES = 8


class Load:
    """Calls of all kinds, by several coroutines, until a time has come.

    Attributes:
        ends: how the calls have ended: "value", or WorkerDiedError's name.
        signals: by which workers have died that had a call.
        begun: how many calls were made.
    """

    def __init__(self, pool: aiopip.Pool, seed: int) -> None:
        self._pool = pool
        self._chance = random.Random(seed)
        self._end = 0.0
        self.ends: Counter[str] = Counter()
        self.signals: set[int | None] = set()
        self.begun = 0

    async def run(self, duration_s: float) -> int:
        """Load the pool, and kill workers: how many were."""
        self._end = time.monotonic() + duration_s
        jobs = [
            start(self._repeat(one))
            for one in (self._small, self._small, self._written, self._large, self._mapped)
        ]
        killed = 0
        while time.monotonic() < self._end:
            await anyio.sleep(KILL_EVERY_S)
            pids = [one.pid for one in self._pool.statistics().workers if one.pid is not None]
            if pids:
                kill_quietly(self._chance.choice(pids))
                killed += 1
        for job in jobs:
            await job
        return killed

    async def _repeat(self, one: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._end:
            self.begun += 1
            try:
                with anyio.fail_after(calls.DEADLINE_S):
                    await one()
            except aiopip.WorkerDiedError as error:
                self.ends["WorkerDiedError"] += 1
                self.signals.add(error.signal)
            else:
                self.ends["value"] += 1

    async def _small(self) -> None:
        given = self._chance.random()
        assert await self._pool.run(calls.echo, given) == given

    async def _written(self) -> None:
        import numpy as np

        given, out = np.full(1000, self._chance.random()), np.zeros(1000)
        await self._pool.run(calls.double, given, out=out)
        assert np.array_equal(out, given * 2)

    async def _large(self) -> None:
        number = self._chance.randrange(1000)
        found = await self._pool.run(calls.numbered, number, SIZE)
        assert found.number == number
        # Also when its worker is dead by now.
        await anyio.lowlevel.checkpoint()
        assert (found.array == number).all()

    async def _mapped(self) -> None:
        found = [one async for one in self._pool.map(calls.echo, range(100), chunksize=7)]
        assert found == list(range(100))


async def kill_under_load(root: aiopip.Root, duration_s: float, seed: int) -> Load:
    """Load a pool of four workers and kill these; nothing may be left of it."""
    async with root.pool(workers=4) as pool:
        load = Load(pool, seed)
        killed = await load.run(duration_s)
        await until(lambda: pool.statistics().pending == 0, "all calls end")
        statistics = pool.statistics()
        assert load.begun == load.ends.total() > 0
        assert sum(one.ended for one in statistics.workers) <= killed
        assert statistics.abandoned == 0
        assert load.signals <= {signal.SIGKILL}
        # It is as good as new.
        assert sorted(await pool.broadcast(calls.pid)) == sorted(
            one.pid for one in pool.statistics().workers if one.pid is not None
        )
    await settled(root)
    return load


async def call_many_times(root: aiopip.Root, count: int, now: Callable[[], Use]) -> None:
    """No call leaves memory, in the root or in a worker, nor a mapping."""
    async with root.pool(workers=2) as pool:

        async def some(number: int) -> None:
            left = number
            while left:
                now_ = min(left, 1000)
                found = [one async for one in pool.map(calls.nothing, range(now_), buffer=64)]
                assert found == [None] * now_
                for _ in range(10):
                    await pool.run(calls.nothing)
                left -= now_

        await some(5000)
        workers = [
            root.tasks[one.pipid] for one in pool.statistics().workers if one.pipid is not None
        ]
        assert len(workers) == 2
        memory, before = [one.memory() for one in workers], now()
        await some(count)
        await little_more(before)
        for worker, had in zip(workers, memory, strict=True):
            grown = worker.memory().anonymous_bytes - had.anonymous_bytes
            assert grown < 1 << 20, f"{grown} bytes more in a worker"


def running_pids(pool: aiopip.Pool) -> list[int]:
    """The workers of a pool."""
    return [one.pid for one in pool.statistics().workers if one.pid is not None]
