"""Tasks that have pools, killed at random moments."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from integration.test_tasks_have_pools import kill_under_load
from support import mapping_count, settled

if TYPE_CHECKING:
    import aiopip


async def test_fifty_tasks_killed_while_their_pools_work(root: aiopip.Root) -> None:
    moments = random.Random(1)
    await kill_under_load(root, 0.1)
    await settled(root)
    before = mapping_count()
    for _ in range(50):
        await kill_under_load(root, moments.uniform(0, 0.15))
    await settled(root)
    assert mapping_count() <= before + 4
    assert root.statistics().untracked == 0
