"""From the last instruction of a program to the return of the await of its end.

The program writes the time just before its _exit into a file that both have mapped.  `bell_us` is
the control, taken in turn in the same loop: the same for a thread's write into an eventfd.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from typing import TYPE_CHECKING

from bench.bell import bell
from bench.programs import program
from bench.quantities import lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.params import Params, Samples
    from bench.peers import Starter

DELAY_US = 3000
"""How long it lives, for the one who waits to fall asleep first."""


async def measure(peer: Starter, params: Params) -> Samples:
    """One after the other."""
    exits, rings = [], []
    with bell(peer) as rung, _stamp() as (path, stamp):
        line = [program("stamp"), path, str(DELAY_US)]
        async with peer.opened():
            for _ in range(params.warm + params.count):
                child = await peer.start(*line)
                status = await child.wait()
                now = time.monotonic_ns()
                exits.append((now - int.from_bytes(stamp[:8], "little")) / 1e3)
                if status:
                    raise RuntimeError(f"{line} exited with {status}")
                if not peer.blocking:
                    rings.append(await rung.ring(DELAY_US * 1000))
    samples = {"us": exits[params.warm :]}
    return samples | ({"bell_us": rings[params.warm :]} if rings else {})


@contextlib.contextmanager
def _stamp() -> Iterator[tuple[str, mmap.mmap]]:
    """A file in memory: a path that others can open, and what is in it."""
    file = os.memfd_create("stamp")
    try:
        os.ftruncate(file, mmap.PAGESIZE)
        with mmap.mmap(file, mmap.PAGESIZE) as stamp:
            yield f"/proc/{os.getpid()}/fd/{file}", stamp
    finally:
        os.close(file)


def in_c(peer: str, params: Params) -> list[str]:
    """The same in C, which waits in waitpid."""
    if peer == "floor":
        raise ValueError("floor.c has no stamps")
    return lines.children("exit", params, DELAY_US, program("stamp"))
