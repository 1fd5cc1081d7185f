"""From a call that does nothing to the return of its await."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.calls import nothing

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Pool


async def measure(peer: Pool, params: Params) -> Samples:
    """One after the other."""
    async with peer.surroundings(), peer.opened(params.workers):
        samples = [await call_ns(peer) / 1e3 for _ in range(params.warm + params.count)]
    return {"us": samples[params.warm :]}


async def call_ns(peer: Pool) -> int:
    """One."""
    start = time.perf_counter_ns()
    await peer.call(nothing)
    return time.perf_counter_ns() - start
