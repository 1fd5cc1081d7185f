"""aiopip, on each loop."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bench.peers.base import Child, Starter, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiopip


class Ours(Starter):
    """`Root.spawn` under asyncio."""

    name = "aiopip"
    about = "aiopip"
    root: aiopip.Root

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        import aiopip

        async with aiopip.Root() as self.root:
            yield

    async def start(self, *line: str) -> Child:
        return await self.root.spawn(*line)


class OursOnUvloop(Ours):
    """`Root.spawn` under uvloop."""

    name = "aiopip-uvloop"
    about = "aiopip on uvloop"

    def __init__(self) -> None:
        super().__init__()
        self.options = {"use_uvloop": True}

    def missing(self) -> str:
        return without("uvloop")


class OursOnTrio(Ours):
    """`Root.spawn` under trio."""

    name = "aiopip-trio"
    about = "aiopip on trio"
    backend = "trio"

    def missing(self) -> str:
        return without("trio")
