"""Who is measured: `PEERS` in Python, `IN_C` as programs of their own."""

from __future__ import annotations

from bench.peers.base import Child, Giver, Peer, Starter
from bench.peers.blocking import Popen, PosixSpawn
from bench.peers.givers import OursGives, Pipe, SharedMemory
from bench.peers.loops import Anyio, Asyncio, AsyncioThreaded, Trio, Uvloop
from bench.peers.other_pools import Bare, MpPool, ToProcess, ToThread
from bench.peers.our_pools import OursExecutor, OursPool
from bench.peers.ours import Ours, OursOnTrio, OursOnUvloop
from bench.peers.pools import (
    BlockingPool,
    Interpreters,
    Loky,
    Pool,
    ProcessPool,
    ProcessPoolBySpawn,
)

__all__ = [
    "ABOUT",
    "IN_C",
    "PEERS",
    "BlockingPool",
    "Child",
    "Giver",
    "Peer",
    "Pool",
    "Starter",
]

PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        *(Ours, OursOnUvloop, OursOnTrio),
        *(Asyncio, AsyncioThreaded, Uvloop, Anyio, Trio),
        *(Popen, PosixSpawn),
        *(OursGives, SharedMemory, Pipe),
        *(OursPool, OursExecutor),
        *(ProcessPool, ProcessPoolBySpawn, MpPool, Loky, ToProcess, ToThread, Interpreters, Bare),
    )
}

IN_C = {"c": "C posix_spawn", "floor": "C clone(CLONE_VM)"}
"""The names and descriptions of those that are programs: `children.c`, `floor.c`."""

ABOUT = {name: peer.about for name, peer in PEERS.items()} | IN_C
"""What tables call them."""
