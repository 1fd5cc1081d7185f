"""What an idle worker that has imported NumPy has of memory for itself alone.

The control is a Python that has imported it, and waits.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import anyio

from bench import usage
from bench.calls import IMPORT_NUMPY
from bench.peers.other_pools import Bare

if TYPE_CHECKING:
    from bench.params import Params, Samples
    from bench.peers import Pool

SETTLE_S = 0.5
"""For the worker to come to rest: it gives back what malloc keeps when it is idle."""


async def measure(peer: Pool | Bare, params: Params) -> Samples:
    """Once."""
    if isinstance(peer, Bare):
        return {"private_kib": [_bare_kib(peer)]}
    async with peer.surroundings(), peer.opened(params.workers):
        pid = await peer.call(eval, IMPORT_NUMPY)
        await anyio.sleep(SETTLE_S)
        return {"private_kib": [peer.private_kib(pid)]}


def _bare_kib(peer: Bare) -> float:
    line = peer.line("import numpy; print(flush=True); input()")
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        kib = usage.private_kib(child.pid)
        child.communicate(b"\n")
    return kib
