"""From the start of a pool to the moment in which so many workers have reported, each in a call.

The control: as many times `python -c pass`, all started at once, until the last of them has ended.
"""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import anyio

from bench.gate import gate
from bench.peers.other_pools import Bare

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Pool


async def measure(peer: Pool | Bare, params: Params) -> Samples:
    """Once: a second pool may take what the first one has left, workers even."""
    if isinstance(peer, Bare):
        return {"ms": [_bare_ns(peer, params.workers) / 1e6]}
    return {"ms": [await _pool_ns(peer, params.workers) / 1e6]}


async def _pool_ns(peer: Pool, workers: int) -> int:
    async with peer.surroundings():
        with gate() as held:
            start = time.perf_counter_ns()
            async with peer.opened(workers), anyio.create_task_group() as group:
                for _ in range(workers):
                    group.start_soon(peer.call, exec, held.code, {})
                await held.reported(workers)
                took_ns = time.perf_counter_ns() - start
                held.open()
    return took_ns


def _bare_ns(peer: Bare, count: int) -> int:
    start = time.perf_counter_ns()
    children = [subprocess.Popen(peer.line("pass")) for _ in range(count)]
    statuses = [child.wait() for child in children]
    took_ns = time.perf_counter_ns() - start
    if any(statuses):
        raise RuntimeError(f"{peer.line('pass')} exited with {max(statuses)}")
    return took_ns
