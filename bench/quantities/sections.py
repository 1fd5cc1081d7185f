"""How long a spawn and its wait keep the loop's thread in one go, while all else has to wait.

A section is what the loop runs in one go: a callback, or a coroutine from one `await` to the next.
Each is timed where asyncio runs it.  For each spawn there is the longest of its sections, by the
clock and by the thread's own time on a processor, and the sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from bench.quantities import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.params import Params, Samples
    from bench.peers import Starter

Section = tuple[int, int]
"""Nanoseconds by the clock, and of the thread."""


async def measure(peer: Starter, params: Params) -> Samples:
    """One after the other, on asyncio's own loop."""
    line = lines.started(params)
    samples: Samples = {"longest_us": [], "longest_cpu_us": [], "sum_us": []}
    async with peer.opened():
        with _timed() as sections:
            for number in range(params.warm + params.count):
                await asyncio.sleep(0)  # ends the section before
                sections.clear()
                child = await peer.start(*line)
                await child.wait()
                await asyncio.sleep(0)
                if number >= params.warm:
                    samples["longest_us"].append(max(wall for wall, _ in sections) / 1e3)
                    samples["longest_cpu_us"].append(max(cpu for _, cpu in sections) / 1e3)
                    samples["sum_us"].append(sum(wall for wall, _ in sections) / 1e3)
    return samples


@contextlib.contextmanager
def _timed() -> Iterator[list[Section]]:
    """Have each section timed; the list grows by each."""
    sections: list[Section] = []
    run = asyncio.Handle._run  # noqa: SLF001  what the loop calls

    def timed(handle: asyncio.Handle) -> None:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        run(handle)
        sections.append((time.perf_counter_ns() - wall, time.thread_time_ns() - cpu))

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]  # noqa: SLF001
    try:
        yield sections
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001
