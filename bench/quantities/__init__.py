"""What is measured: `QUANTITIES`, a module each; `COMMANDS`, what programs measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from bench.quantities import (
    alive,
    exits,
    imports,
    pool_array,
    pool_call,
    pool_map,
    pool_memory,
    pool_start,
    pool_submit,
    sections,
    sleeping,
    spawn,
    throughput,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.params import Params, Samples

__all__ = ["COMMANDS", "QUANTITIES", "Quantity"]


class Quantity(Protocol):
    """A module that measures one quantity."""

    async def measure(self, peer: Any, params: Params) -> Samples:
        """Measure it with a peer, of the kind that it is for, in the running loop."""


QUANTITIES: dict[str, Quantity] = {
    "spawn": spawn,
    "throughput": throughput,
    "exit": exits,
    "sleeping": sleeping,
    "alive": alive,
    "import": imports,
    "sections": sections,
    "pool-call": pool_call,
    "pool-submit": pool_submit,
    "pool-array": pool_array,
    "pool-map": pool_map,
    "pool-start": pool_start,
    "pool-memory": pool_memory,
}

COMMANDS: dict[str, Callable[[str, Params], list[str]]] = {
    "spawn": spawn.in_c,
    "throughput": throughput.in_c,
    "exit": exits.in_c,
    "sleeping": sleeping.in_c,
    "alive": alive.in_c,
}
"""Each gives the command line that measures it with one of `peers.IN_C` and prints `Samples`."""
