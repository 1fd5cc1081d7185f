"""What is measured: `QUANTITIES`, a module each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bench.quantities import exits, spawn, throughput

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Peer

__all__ = ["QUANTITIES", "Quantity"]


class Quantity(Protocol):
    """A module that measures one quantity."""

    async def measure(self, peer: Peer, params: Params) -> Samples:
        """Measure it with a peer, in the running loop."""

    def in_c(self, peer: str, params: Params) -> list[str]:
        """The command line that measures it with one of `peers.IN_C` and prints `Samples`."""


QUANTITIES: dict[str, Quantity] = {
    "spawn": spawn,
    "throughput": throughput,
    "exit": exits,
}
