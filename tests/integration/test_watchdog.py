"""The watchdog that fails a test in which the library blocks the loop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from watchdog import LIBRARY, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND_S = 0.05

SOURCE = """
def block(sleep):
    sleep()

def open_core(sleep):
    sleep()

async def wait(sleep):
    await sleep()
"""


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog(BOUND_S)
    yield dog
    dog.end()


def of_library(function: str, file: str = "_made_for_this_test.py") -> Callable[..., Any]:
    """A function of SOURCE that stands in a file of the package."""
    space: dict[str, Any] = {}
    exec(compile(SOURCE, LIBRARY + file, "exec"), space)
    made: Callable[..., Any] = space[function]
    return made


def sleep(blocked: list[str]) -> Callable[[], object]:
    """What sleeps for many bounds, or until the watchdog has found it; none of its frames is ours.

    A second thread waits for that, since a frame of the tests would be taken for the test's own.
    """
    over = threading.Event()

    def end() -> None:
        for _ in range(10):
            if not blocked:
                time.sleep(BOUND_S / 2)
        over.set()

    threading.Thread(target=end).start()
    return over.wait


async def test_library_code_that_sleeps_is_found(dog: Watchdog) -> None:
    with dog.watch() as blocked:
        of_library("block")(sleep(blocked))
    assert len(blocked) == 1
    assert "_made_for_this_test.py" in blocked[0]
    assert "in block" in blocked[0]
    assert "test_library_code_that_sleeps_is_found" in blocked[0]


async def test_library_code_that_awaits_is_not_found(dog: Watchdog) -> None:
    with dog.watch() as blocked:
        await of_library("wait")(lambda: anyio.sleep(10 * BOUND_S))
    assert blocked == []


async def test_code_of_the_test_may_sleep(dog: Watchdog) -> None:
    def sleep_here() -> None:
        sleep(blocked)()

    with dog.watch() as blocked:
        sleep_here()
        of_library("block")(sleep_here)
    assert blocked == []


async def test_library_code_that_is_documented_to_block_may(dog: Watchdog) -> None:
    with dog.watch() as blocked:
        of_library("open_core", "_lifetime.py")(sleep(blocked))
    assert blocked == []


async def test_library_code_that_works_is_not_found(dog: Watchdog) -> None:
    """It is called again and again, each time for less than the bound."""
    block, ended = of_library("block"), threading.Event()
    timer = threading.Timer(10 * BOUND_S, ended.set)
    timer.start()
    with dog.watch() as blocked:
        while not ended.is_set():
            block(lambda: sum(range(1000)))
            await anyio.lowlevel.checkpoint()
    timer.join()
    assert blocked == []


async def test_each_time_counts(dog: Watchdog) -> None:
    with dog.watch() as blocked:
        of_library("block")(sleep(blocked))
    with dog.watch() as again:
        of_library("block")(sleep(again))
    assert (len(blocked), len(again)) == (1, 1)


async def test_every_async_test_is_watched(request: pytest.FixtureRequest) -> None:
    assert "no_blocking" in request.fixturenames
    dog: Watchdog = request.getfixturevalue("watchdog")
    assert dog._watched == (threading.get_ident(), threading.get_native_id())
