"""A call with an array as its argument that returns another one of that size.

`nothing_us` is a call that does nothing, taken in turn in the same pool.  Who copies
arrays takes fewer samples.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.calls import answered
from bench.quantities.pool_call import call_ns

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Pool

COPIED_BYTES = 1 << 28
"""So much in all, or one sample, is asked of who copies."""


async def measure(peer: Pool, params: Params) -> Samples:
    """One after the other."""
    import numpy as np

    count, warm = params.count, params.warm
    if peer.copies:
        count = max(1, min(count, COPIED_BYTES // params.size_bytes))
        warm = min(warm, 1)
    array = np.ones(params.size_bytes // 8)
    taken, nothing = [], []
    async with peer.surroundings(), peer.opened(params.workers):
        await peer.call(answered, array[:1])  # imports NumPy there
        for number in range(warm + count):
            nothing.append(await call_ns(peer) / 1e3)
            array[-1] = number
            start = time.perf_counter_ns()
            answer = await peer.call(answered, array)
            last = answer[-1]
            taken.append((time.perf_counter_ns() - start) / 1e3)
            if last != number + 1:
                raise RuntimeError(f"{peer.name}: the last item is {last}, not {number + 1}")
            del answer  # its memory goes back before the next call
    return {"us": taken[warm:], "nothing_us": nothing[warm:]}
