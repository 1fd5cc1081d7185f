"""How many small calls a second a `map` makes, so many of them handed over at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.calls import same
from bench.peers.our_pools import OursPool

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import BlockingPool


async def measure(peer: OursPool | BlockingPool, params: Params) -> Samples:
    """One number for all of them."""
    async with peer.surroundings(), peer.opened(params.workers):
        await _map(peer, params.warm, params.chunk)
        start = time.perf_counter_ns()
        await _map(peer, params.count, params.chunk)
        took_ns = time.perf_counter_ns() - start
    return {"per_s": [params.count * 1e9 / took_ns]}


async def _map(peer: OursPool | BlockingPool, count: int, chunk: int) -> None:
    items = range(count)
    if isinstance(peer, OursPool):
        total = sum([result async for result in peer.map(same, items, chunk)])
    else:
        total = sum(peer.map(same, items, chunk))
    if total != sum(items):
        raise RuntimeError(f"{peer.name}: the results' sum is {total}, not {sum(items)}")
