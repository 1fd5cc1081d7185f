"""From asking another process for the array that it has to its being here, ready to be read.

`import_us`, of aiopip, is the import alone, of what was exported before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.peers.givers import OursGives

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Giver


async def measure(peer: Giver, params: Params) -> Samples:
    """One after the other."""
    asked, imported = [], []
    async with peer.opened(params.size_bytes):
        for _ in range(params.warm + params.count):
            start = time.perf_counter_ns()
            item = await peer.given()
            asked.append((time.perf_counter_ns() - start) / 1e3)
            if item != 1:
                raise RuntimeError(f"{peer.name}: the last item is {item}, not 1")
            peer.drop()
            if isinstance(peer, OursGives):
                start = time.perf_counter_ns()
                peer.nowait()
                imported.append((time.perf_counter_ns() - start) / 1e3)
    samples = {"us": asked[params.warm :]}
    return samples | ({"import_us": imported[params.warm :]} if imported else {})
