"""How many processes a second come and go, so many of them in flight at once."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import anyio

from bench.quantities import lines

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Child, Starter


async def measure(peer: Starter, params: Params) -> Samples:
    """One number for all of them."""
    line = lines.started(params)
    run = _in_turn if peer.blocking else _at_once
    async with peer.opened():
        await run(peer, line, params.warm, params.in_flight)
        start = time.perf_counter_ns()
        await run(peer, line, params.count, params.in_flight)
        took_ns = time.perf_counter_ns() - start
    return {"per_s": [params.count * 1e9 / took_ns]}


async def _at_once(peer: Starter, line: list[str], count: int, in_flight: int) -> None:
    """By as many coroutines as are to be in flight."""
    left = count

    async def run() -> None:
        nonlocal left
        while left:
            left -= 1
            child = await peer.start(*line)
            await child.wait()

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(run)


async def _in_turn(peer: Starter, line: list[str], count: int, in_flight: int) -> None:
    """For calls that block: whoever was started first is awaited first."""
    running: deque[Child] = deque()
    for _ in range(count):
        if len(running) == in_flight:
            await running.popleft().wait()
        running.append(await peer.start(*line))
    for child in running:
        await child.wait()


def in_c(peer: str, params: Params) -> list[str]:
    """The same in C, which awaits any of them: waitpid(-1)."""
    if peer == "floor":
        raise ValueError("floor.c has one in flight")
    return lines.children("throughput", params, params.in_flight, *lines.started(params))
