"""What thousands of tasks leave behind in the root: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from typing import TYPE_CHECKING

import pytest
from integration.server import serve
from integration.usage import ALLOCATES, WARM_UP, Use, nothing_stays
from support import clean_root, until

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


async def test_five_thousand_small_tasks_leave_nothing(
    root: aiopip.Root, program: Programs
) -> None:
    path = program("zero")

    async def cycle() -> None:
        assert await (await root.spawn(path)).wait() == 0

    await nothing_stays(root, cycle, 5000)
    assert root.statistics().spawned == 5000


async def test_fifty_python_tasks_of_a_hundred_megabytes_leave_nothing(root: aiopip.Root) -> None:
    async def cycle() -> None:
        assert await (await root.spawn(sys.executable, "-c", ALLOCATES)).wait() == 0

    await nothing_stays(root, cycle, 50)


async def test_tasks_with_threads_and_numpy_leave_nothing(root: aiopip.Root) -> None:
    pytest.importorskip("numpy")
    source = """if True:
        import mmap, threading
        import numpy as np
        block = mmap.mmap(-1, 30_000_000)
        grown = np.zeros(1_000_000); grown.resize(4_000_000)
        multiply = lambda: np.ones((500, 500)) @ np.ones((500, 500))
        threads = [threading.Thread(target=multiply) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """

    async def cycle() -> None:
        assert await (await root.spawn(sys.executable, "-c", source)).wait() == 0

    await nothing_stays(root, cycle, 25)


async def test_failed_spawns_leave_nothing(root: aiopip.Root, program: Programs) -> None:
    async def cycle() -> None:
        for program, options in (
            ("/no/such/program", {}),
            ("/tmp", {}),
            ("true", {"cwd": "/no/such/folder"}),
            ("true", {"stdin": 987}),
            ("true", {"env": {"X": "x" * 200_000}}),
        ):
            with pytest.raises(aiopip.SpawnError):
                await root.spawn(program, **options)

    await nothing_stays(root, cycle, 200)


async def test_cancelled_spawns_leave_nothing(root: aiopip.Root, program: Programs) -> None:
    path = program("pause")
    count = 0

    async def cycle() -> None:
        nonlocal count
        count += 1
        spawning = asyncio.create_task(root.spawn(path))
        await asyncio.sleep(count % 20 * 1e-4)
        spawning.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await spawning).kill()

    await nothing_stays(root, cycle, 300)


async def test_imports_and_their_views_leave_nothing(
    root: aiopip.Root, pip_program: Programs
) -> None:
    """aiopip_named_import, aiopip_hold_address, _check, _release and aiopip_acknowledge."""
    path = pip_program("server")

    async def cycle() -> None:
        async with serve(root, path) as server:
            assert await server.ask("grid 1000") == "OK"
            assert await server.ask("export-grid grid") == "OK"
            region = (await root.named_import(server.task, "grid")).cast("f8", 1000)
            view = region.view()
            with pytest.raises(aiopip.InvalidRegionError):
                region.cast("f8", 2**50)
            with pytest.raises(aiopip.WouldBlock):
                root.named_import_nowait(server.task, "absent")
            await server.end()
            assert view[999] == 999

    await nothing_stays(root, cycle, 100)


async def test_tasks_that_exec_leave_nothing(root: aiopip.Root, program: Programs) -> None:
    """aiopip_shares."""

    async def cycle() -> None:
        task = await root.spawn("sh", "-c", 'exec "$0"', str(program("pause")))
        await until(lambda: not task.shared)
        task.kill()
        assert await task.wait() == -9

    await nothing_stays(root, cycle, 100)


async def test_roots_leave_nothing(program: Programs) -> None:
    """aiopip_open, _fd, _drain, _statistics, _kill, _abort and _close."""

    async def cycle(how: int) -> None:
        async with clean_root(max_tasks=64) as root:
            tasks = [await root.spawn(program("pause")) for _ in range(how)]
            if tasks:
                tasks[0].terminate()
                await tasks[0].wait()
        async with aiopip.Root(max_tasks=64) as root:
            await root.spawn(program("pause"))
            root.abort()

    for number in range(WARM_UP):
        await cycle(number % 4)
    gc.collect()
    before = Use.now()
    for number in range(60):
        await cycle(number % 4)
    gc.collect()
    now = Use.now()
    assert now.is_little_more_than(before), (before, now)
