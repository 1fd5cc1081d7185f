"""Many processes that sleep: time to start all, what they cost, time to reap all that are killed.

The other measures are what there is more with all alive than there was before; memory and mappings
are divided by the number of processes.  `root_kib` is the parent's resident memory; `total_kib` has
the children's too, and counts what is shared once.  `control_reap_ms`, of aiopip, is what the
kernel alone takes: as many bare clones are killed in a space of as many mappings (`floor.c`).
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from bench import usage
from bench.peers.ours import Ours
from bench.quantities import lines

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Child, Starter

SETTLE_S = 0.5
"""For the last ones to come to sleep."""


async def measure(peer: Starter, params: Params) -> Samples:
    """Once."""
    count = params.count
    await anyio.sleep(0.01)  # the loop waits for what it needs itself
    loop = usage.epolls()
    before, had_kib = usage.now(loop), usage.proportional_kib()
    async with peer.opened():
        start = time.perf_counter_ns()
        children = await start_many(peer, lines.started(params), count)
        spawn_ms = (time.perf_counter_ns() - start) / 1e6
        await anyio.sleep(SETTLE_S)
        more = usage.now(loop) - before
        mappings = usage.mappings()
        # Tasks are in our own memory.
        others = [] if isinstance(peer, Ours) else [child.pid for child in children]
        total_kib = usage.proportional_kib() - had_kib + sum(map(usage.proportional_kib, others))
        start = time.perf_counter_ns()
        await end_all(children)
        reap_ms = (time.perf_counter_ns() - start) / 1e6
    samples: Samples = {
        "spawn_ms": [spawn_ms],
        "reap_ms": [reap_ms],
        "root_kib": [more.resident_kib / count],
        "total_kib": [total_kib / count],
        "mappings": [more.mappings / count],
        "descriptors": [more.descriptors],
        "loop_descriptors": [more.loop_descriptors],
        "threads": [more.threads],
    }
    if isinstance(peer, Ours):
        samples["control_reap_ms"] = control("reap", replace(params, warm=0), mappings)["reap_ms"]
    return samples


async def start_many(peer: Starter, line: list[str], count: int) -> list[Child]:
    """Start so many, one after the other."""
    return [await peer.start(*line) for _ in range(count)]


async def end_all(children: list[Child]) -> None:
    """Kill all and wait for all."""
    for child in children:
        child.kill()
    for child in children:
        await child.wait()


def control(what: str, params: Params, mappings: int) -> Samples:
    """What `floor.c` takes for the same in a space of so many mappings."""
    done = subprocess.run(
        lines.floor(what, params, mappings), stdout=subprocess.PIPE, check=True, timeout=60
    )
    samples: Samples = json.loads(done.stdout)
    return samples


def in_c(peer: str, params: Params) -> list[str]:
    """The same in C."""
    if peer == "floor":
        return lines.floor("reap", replace(params, warm=0), 0)
    return lines.children("sleeping", replace(params, warm=0), 0, *lines.started(params))
