"""What every way to start a process has to offer."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Child(Protocol):
    """A process that was started; the classes of most peers are just so."""

    @property
    def pid(self) -> int:
        """Its process ID."""

    async def wait(self) -> int:
        """Wait for its end; its exit status."""

    def kill(self) -> None:
        """Send it SIGKILL."""


class Peer(ABC):
    """One way to start a process.

    Attributes:
        name: as the command line and the results have it.
        about: in a few words, for tables.
        backend: the kind of event loop, as `anyio.run` names it.
        options: anyio's options for that.
        blocking: whether its calls block, and the loop stands still meanwhile.
    """

    name: str
    about: str
    backend = "asyncio"
    options: dict[str, Any]
    blocking = False

    def __init__(self) -> None:
        self.options = {}

    def missing(self) -> str:
        """What this machine lacks for it, empty when nothing."""
        return ""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Have all ready that is needed once."""
        yield

    @abstractmethod
    async def start(self, *line: str) -> Child:
        """Start a program, whose path comes first; its streams are this process's own."""


def without(module: str) -> str:
    """That a module is not installed, if so."""
    import importlib.util

    return "" if importlib.util.find_spec(module) else f"{module} is not installed"
