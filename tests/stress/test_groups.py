"""Five thousand groups at random on each loop.  AIOPIP_SEED chooses another run."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from integration.random_groups import random_groups
from integration.usage import Use
from support import clean_root, settled

if TYPE_CHECKING:
    import pytest
    from integration.conftest import Programs

SEED = int(os.environ.get("AIOPIP_SEED", "1"))
THOUSANDS = 5
MORE_BYTES = 8 << 20
"""What the allocators may take more from the first thousand on."""


async def test_five_thousand_groups(program: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    seen: Counter[str] = Counter()
    begun_s = time.monotonic()
    async with clean_root() as root:
        for thousand in range(THOUSANDS):
            print(f"seed {SEED}, thousand {thousand}")  # noqa: T201
            seen += await random_groups(root, program, SEED * 1000 + thousand, 1000)
            await settled(root)
            now = Use.now()
            if thousand == 0:
                before = now
            assert now.resident_bytes <= before.resident_bytes + MORE_BYTES, (before, now)
            assert now.descriptors <= before.descriptors
            assert now.mappings <= before.mappings + 40, (before, now)
    kinds = ("cancelled bodies", "cancelled waits", "failed tasks", "ended tasks")
    assert all(seen[kind] > 1 for kind in kinds), seen
    with capsys.disabled():
        print(f"{dict(seen)} in {time.monotonic() - begun_s:.0f} s")  # noqa: T201
