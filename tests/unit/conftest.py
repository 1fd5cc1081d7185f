"""A Root on a client without processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from unit.fake_client import FakeClient, Stage

import aiopip
from aiopip import _lifetime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The client that the next Root opens."""
    client = FakeClient()
    monkeypatch.setattr(_lifetime, "open_client", lambda *_: client)
    return client


@pytest.fixture
def new_client(monkeypatch: pytest.MonkeyPatch) -> Callable[[], FakeClient]:
    """Have the next Root open another client."""

    def renew() -> FakeClient:
        client = FakeClient()
        monkeypatch.setattr(_lifetime, "open_client", lambda *_: client)
        return client

    return renew


@pytest.fixture
async def stage(client: FakeClient, anyio_backend: object) -> AsyncIterator[Stage]:
    """A Root that is open for the test, and ended by force behind it."""
    root = aiopip.Root(max_tasks=4, grace_s=0.01)
    await root.__aenter__()
    stage = Stage(root, client)
    yield stage
    if stage.core.phase.value in ("open", "closing"):
        stage.core.live.clear()
        root.abort()
