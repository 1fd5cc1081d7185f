"""What threatens a Root in several tests: kills at random moments, and memory that is watched."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import anyio
from jobs import gather
from support import pipe, settled

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXECS = ("sh", "-c", 'exec "$0" "$@"')
"""The beginning of a command line whose task execs the rest of it."""


@contextlib.contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[None]:
    """Call a function again and again in another thread while the block runs."""
    stop = threading.Event()
    problems: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                function()
        except BaseException as problem:  # noqa: BLE001  raised again behind the block
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if problems:
        raise problems[0]


async def kill_at_random_moments(
    root: aiopip.Root, lines: list[tuple[str, ...]], count: int, longest_s: float, seed: int
) -> None:
    """Start such programs, several at a time, and kill each at some moment of its life."""
    chance = random.Random(seed)

    async def one() -> None:
        line = chance.choice(lines)
        task = await root.spawn(line[0], *line[1:], stdout=subprocess.DEVNULL)
        moment_s = chance.random() ** 3 * longest_s
        if moment_s > longest_s / 100:
            await anyio.sleep(moment_s)
        with contextlib.suppress(aiopip.TaskEndedError):
            if chance.random() < 0.5:
                os.kill(task.pid, signal.SIGKILL)
            else:
                task.kill()
        assert await task.wait() in (-9, 0)

    for _ in range(count // 4):
        await gather(*[one() for _ in range(4)])


BLOCK = 256 * 1024


class Canaries:
    """Memory mapped after tasks have died; nobody may write into it."""

    def __init__(self) -> None:
        self.pattern = bytes(range(1, 256)) + b"\xa5"
        self.blocks: list[mmap.mmap] = []

    def add(self) -> None:
        block = mmap.mmap(-1, BLOCK)
        block.write(self.pattern * (BLOCK // len(self.pattern)))
        self.blocks.append(block)

    def check(self) -> None:
        whole = self.pattern * (BLOCK // len(self.pattern))
        assert all(block[:] == whole for block in self.blocks)

    def close(self) -> None:
        for block in self.blocks:
            block.close()


async def kill_in_posix_spawn(root: aiopip.Root, path: Path, child: Path, count: int) -> int:
    """Kill tasks that loop in posix_spawn, while memory is mapped; how many waits there were."""
    canaries = Canaries()
    with in_thread(lambda: canaries.add() if len(canaries.blocks) < 400 else canaries.check()):
        for number in range(0, count, 10):
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(10):
                    made = await stack.enter_async_context(pipe())
                    await root.spawn(path, child, stdout=made.writer)
                    await made.line()
                if number % 20:
                    await anyio.sleep(0.001)
                tasks = list(root.tasks.values())
                root.kill_all()
                assert [await task.wait() for task in tasks] == [-9] * 10
        await settled(root)
        await anyio.sleep(0.05)
    canaries.check()
    canaries.close()
    return root.statistics().orphan_waits
