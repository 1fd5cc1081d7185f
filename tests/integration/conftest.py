"""A Root for each test, and the C programs of tests/programs."""

from __future__ import annotations

import gc
import multiprocessing
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Protocol

import pytest
from support import PROGRAMS, clean_root

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from conftest import CompileC

    import aiopip


class Programs(Protocol):
    """Compile a program of tests/programs, once a session."""

    def __call__(self, name: str, *flags: str) -> Path:
        """Return the program's path."""


@pytest.fixture(scope="session")
def program(c_program: CompileC) -> Programs:
    """Plain C programs, which know nothing of PiP."""
    return lambda name, *flags: c_program((PROGRAMS / f"{name}.c").read_text(), *flags, name=name)


@pytest.fixture(scope="session")
def pip_program(pipcc: CompileC) -> Programs:
    """Programs against <pip/pip.h>, compiled by the installed pipcc."""
    return lambda name, *flags: pipcc((PROGRAMS / f"{name}.c").read_text(), *flags, name=name)


@pytest.fixture(scope="module")
def multiprocessings() -> Iterator[None]:
    """What multiprocessing starts or maps once, and keeps: it is there before a module's tests.

    Its process goes with the last of them, since others' tests wait for any child.
    """
    resource_tracker.ensure_running()
    value = multiprocessing.get_context("spawn").Value("i", 0)
    yield
    del value
    gc.collect()
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.fixture
async def root(anyio_backend: object) -> AsyncIterator[aiopip.Root]:
    """A Root; behind the test its tasks are ended, and must leave nothing."""
    async with clean_root() as root:
        yield root
