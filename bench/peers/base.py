"""What each kind of peer has to offer."""

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
    """Who is measured.

    Attributes:
        name: as the command line and the results have it.
        about: in a few words, for tables.
        backend: the kind of event loop, as `anyio.run` names it.
        options: anyio's options for that.
    """

    name: str
    about: str
    backend = "asyncio"
    options: dict[str, Any]

    def __init__(self) -> None:
        self.options = {}

    def missing(self) -> str:
        """What this machine lacks for it, empty when nothing."""
        return ""


class Starter(Peer):
    """One way to start a process.

    Attributes:
        blocking: whether its calls block, and the loop stands still meanwhile.
    """

    blocking = False

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Have all ready that is needed once."""
        yield

    @abstractmethod
    async def start(self, *line: str) -> Child:
        """Start a program, whose path comes first; its streams are this process's own."""


class Giver(Peer):
    """One way to get an array that another process has computed."""

    @abstractmethod
    def opened(self, size_bytes: int) -> contextlib.AbstractAsyncContextManager[None]:
        """Have another process that has such an array of its own, all of it ones."""

    @abstractmethod
    async def given(self) -> float:
        """Ask for the array and look at its last item once it is here; that item."""

    def drop(self) -> None:
        """Give back what `given` has made."""


def without(module: str) -> str:
    """That a module is not installed, if so."""
    import importlib.util

    return "" if importlib.util.find_spec(module) else f"{module} is not installed"
