"""From a call that does nothing to its return, where there is no event loop: all of it blocks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.calls import nothing

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import BlockingPool


async def measure(peer: BlockingPool, params: Params) -> Samples:
    """One after the other."""
    samples = []
    with peer.pool(params.workers):
        for _ in range(params.warm + params.count):
            start = time.perf_counter_ns()
            peer.call_blocking(nothing)
            samples.append((time.perf_counter_ns() - start) / 1e3)
    return {"us": samples[params.warm :]}
