"""From the call that starts a program to the return of the await of its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.quantities import lines

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Starter


async def measure(peer: Starter, params: Params) -> Samples:
    """One after the other."""
    line = lines.started(params)
    resident = bytearray(b"x") * params.resident_bytes
    async with peer.opened():
        samples = await run_each(peer, line, params)
    del resident
    return {"us": samples}


async def run_each(peer: Starter, line: list[str], params: Params) -> list[float]:
    """Microseconds of each, without those of the warm-up."""
    samples = []
    for _ in range(params.warm + params.count):
        start = time.perf_counter_ns()
        child = await peer.start(*line)
        status = await child.wait()
        samples.append((time.perf_counter_ns() - start) / 1e3)
        if status:
            raise RuntimeError(f"{line} exited with {status}")
    return samples[params.warm :]


def in_c(peer: str, params: Params) -> list[str]:
    """The same in C."""
    if peer == "floor":
        return lines.floor("spawn", params, params.resident_bytes)
    return lines.children("spawn", params, params.resident_bytes, *lines.started(params))
