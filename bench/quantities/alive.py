"""Spawn to exit awaited while others sleep.

`control_us`, of aiopip, is what the kernel alone takes: a bare clone that exits at once, in a space
of as many mappings, which each exit walks (`floor.c`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import usage
from bench.peers.ours import Ours
from bench.programs import program
from bench.quantities import lines
from bench.quantities.sleeping import control, end_all, start_many
from bench.quantities.spawn import run_each

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Starter


async def measure(peer: Starter, params: Params) -> Samples:
    """One after the other."""
    async with peer.opened():
        others = await start_many(peer, [program("sleep")], params.alive)
        samples = {"us": await run_each(peer, lines.started(params), params)}
        mappings = usage.mappings()
        await end_all(others)
    if isinstance(peer, Ours):
        samples["control_us"] = control("walk", params, mappings)["us"]
    return samples


def in_c(peer: str, params: Params) -> list[str]:
    """The same in C."""
    if peer == "floor":
        return lines.floor("walk", params, 0)
    line = [program("sleep"), *lines.started(params)]
    return lines.children("alive", params, params.alive, *line)
