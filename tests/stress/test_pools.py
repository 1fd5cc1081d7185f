"""A million calls, and a minute of workers that are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from integration.pools import call_many_times, kill_under_load
from integration.usage import Use
from loops import running

if TYPE_CHECKING:
    import aiopip


@pytest.fixture(autouse=True)
def _numpy() -> None:
    pytest.importorskip("numpy")


async def test_million_calls_leave_nothing(root: aiopip.Root) -> None:
    count = 1_000_000 if running().name == "asyncio" else 100_000
    await call_many_times(root, count, Use.now)


async def test_a_worker_is_killed_every_50_ms_for_a_minute(root: aiopip.Root) -> None:
    load = await kill_under_load(root, 60 if running().name == "asyncio" else 15, 1)
    assert load.ends["WorkerDiedError"] > 50
    assert load.ends["value"] > 50
    print(load.ends, "in", running().name)  # noqa: T201  with -s
