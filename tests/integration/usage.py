"""What this process uses, and cycles that must not make it more."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, NamedTuple

import anyio
import pytest
from loops import running
from support import (
    DEADLINE_S,
    descriptor_count,
    mapping_count,
    resident_bytes,
    settled,
    thread_count,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiopip

WARM_UP = 10
FEW = 15
"""Cycles on the loops but asyncio's own: most of what could stay is the native core's, which knows
of no loop."""
MORE_MAPPINGS = 4
MORE_BYTES = 2 << 20

ALLOCATES = """if True:
    block = bytearray(100_000_000)
    block[::4096] = b"x" * len(block[::4096])
    assert block.count(b"x") == len(block[::4096])
"""


class Use(NamedTuple):
    """What this process uses."""

    mappings: int
    resident_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Use:
        return cls(mapping_count(), resident_bytes(), descriptor_count(), thread_count())

    def is_little_more_than(self, before: Use) -> bool:
        return (
            self.mappings <= before.mappings + MORE_MAPPINGS
            and self.resident_bytes <= before.resident_bytes + MORE_BYTES
            and self.descriptors <= before.descriptors
            and self.threads <= before.threads
        )


async def nothing_stays(
    root: aiopip.Root, cycle: Callable[[], Awaitable[object]], count: int
) -> None:
    """Run so many cycles; behind the first ten nothing more may be used."""
    if running().name != "asyncio":
        count = max(FEW, count // 20)
    for _ in range(WARM_UP):
        await cycle()
    await settled(root)
    before = Use.now()
    for _ in range(count - WARM_UP):
        await cycle()
    await settled(root)
    await little_more(before)


async def little_more(before: Use) -> None:
    """Wait until little more is used than before."""
    end = time.monotonic() + DEADLINE_S
    while not (now := Use.now()).is_little_more_than(before):
        if time.monotonic() > end:
            pytest.fail(f"before: {before}\nafter:  {now}")
        gc.collect()
        await anyio.sleep(0.05)
