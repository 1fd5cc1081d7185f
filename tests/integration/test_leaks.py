"""What thousands of tasks leave behind in the root: nothing."""

from __future__ import annotations

import contextlib
import gc
import inspect
import re
import signal
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from integration import calls
from integration.server import serve
from integration.usage import ALLOCATES, WARM_UP, Use, little_more, nothing_stays
from integration.worker import work
from jobs import begun, cancelled, start, turns
from support import clean_root, kept_exports, until

import aiopip
from aiopip import _ffi, _ffi_calls

if TYPE_CHECKING:
    from integration.conftest import Programs


async def test_five_thousand_small_tasks_leave_nothing(
    root: aiopip.Root, program: Programs
) -> None:
    path = program("zero")

    async def cycle() -> None:
        assert await (await root.spawn(path)).wait() == 0

    await nothing_stays(root, cycle, 5000)


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
        spawning = start(root.spawn(path))
        await anyio.sleep(count % 20 * 1e-4)
        spawning.cancel()
        with contextlib.suppress(cancelled()):
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
    """aiopip_shares, aiopip_spans."""

    async def cycle() -> None:
        task = await root.spawn("sh", "-c", 'exec "$0"', str(program("pause")))
        assert task.memory().resident_bytes > 0
        await until(lambda: not task.shared)
        assert task.memory().resident_bytes > 0
        task.kill()
        assert await task.wait() == -9

    await nothing_stays(root, cycle, 100)


async def test_exports_and_locks_of_the_root_leave_nothing(root: aiopip.Root) -> None:
    """aiopip_export, _withdraw, _released, _peer_of_client, _peer_pipid and the locks' calls."""
    async with work(root) as worker:

        async def cycle() -> None:
            lock = aiopip.Lock()
            with root.export("lock", lock), root.export("data", bytearray(100_000)):
                await worker.do("""
                    lock = aiopip.Lock(await me.named_import(me.root, "lock"))
                    region = me.named_import_nowait(me.root, "data")
                    lock.acquire_nowait()
                """)
                acquiring = start(lock.acquire())
                cancelled = start(lock.acquire())
                await turns(1)
                cancelled.cancel()
                await worker.do("lock.release(); del lock")
                await acquiring
                lock.release()
                assert not lock.locked
            await worker.do("del region")

        for _ in range(WARM_UP):
            await cycle()
        before = Use.now()
        for _ in range(100):
            await cycle()
        await little_more(before)
        core = root._core
        assert core is not None
        await until(lambda: not kept_exports(core))


async def test_exports_and_imports_of_tasks_leave_nothing(root: aiopip.Root) -> None:
    """aiopip_join, _import, _generation, _expect, _wait, _wake, _hold_narrow in tasks."""
    prepare = "sys.modules['numpy'] = None; me = aiopip.this_task()"  # it takes long to load

    async def cycle() -> None:
        async with work(root, prepare) as one, work(root, prepare) as other:
            await one.do("export = me.export('data', bytearray(range(100)))")
            other.tell(f"region = await me.named_import({one.task.pipid}, 'late')")
            await one.do("me.export('late', me.named_import_nowait(me.pipid, 'data'))")
            await other.answer()
            await other.do("typed = region.cast('B', 8); del region")
            await other.do("me.export('again', typed, keep=True)")
            await one.do("export.withdraw()")
            region = root.named_import_nowait(other.task, "again")
            await one.end()
            await other.end("os.kill(os.getpid(), 9)")
            assert bytes(region.view()) == bytes(range(8))

    await nothing_stays(root, cycle, 25)


async def test_roots_leave_nothing(program: Programs) -> None:
    """aiopip_open, _fd, _heed, _drain, _statistics, _kill, _trim, _abort and _close."""

    async def cycle(how: int) -> None:
        async with clean_root(max_tasks=64) as root:
            tasks = [await root.spawn(program("pause")) for _ in range(how)]
            if tasks:
                tasks[0].terminate()
                await tasks[0].wait()
            root.trim()
        async with aiopip.Root(max_tasks=64) as root:
            await root.spawn(program("pause"))
            root.abort()

    for number in range(WARM_UP):
        await cycle(number % 4)
    gc.collect()
    before = Use.now()
    for number in range(60):
        await cycle(number % 4)
    await little_more(before)  # a thread that was joined may be on its last steps


async def test_stops_and_groups_leave_nothing(program: Programs) -> None:
    """aiopip_listen, _group, _kill_group; the thread for stops comes and goes with the Root."""

    async def cycle() -> None:
        async with clean_root(max_tasks=64) as root:
            stream = root.events()
            task = await root.spawn(program("pause"), stopped=True, process_group=0)
            assert await anext(stream) == aiopip.Stopped(task, signal.SIGSTOP)
            root.signal_group(task, signal.SIGCONT)
            assert await anext(stream) == aiopip.Continued(task)
            task.kill()
            await task.wait()

    for _ in range(WARM_UP):
        await cycle()
    gc.collect()
    before = Use.now()
    for _ in range(60):
        await cycle()
    await little_more(before)  # a thread that was joined may be on its last steps


async def test_pools_leave_nothing(root: aiopip.Root) -> None:
    """aiopip_calls_*, aiopip_hold_memory: workers that end and die, results, a call taken back."""
    pytest.importorskip("numpy")
    data = aiopip.ref(bytearray(100_000))

    async def cycle() -> None:
        async with root.pool(workers=1, on_cancel="kill") as pool:
            assert len(await pool.run(calls.echo, data)) == 100_000
            theirs = await pool.run(calls.ones, 100_000)
            running = await begun(pool.run(signal.pause))
            waiting = await begun(pool.run(abs, -1))
            await until(lambda: pool.statistics().pending == 2)
            for one in (waiting, running):
                one.cancel()
                with pytest.raises(cancelled()):
                    await one
        assert theirs.sum() == 100_000

    await nothing_stays(root, cycle, 40)


def test_every_native_call_appears_in_a_test_of_leaks() -> None:
    """These are the calls of aiopip/_ffi*.py; a new one needs a cycle above."""
    sources = inspect.getsource(_ffi) + inspect.getsource(_ffi_calls)
    called = set(re.findall(r"\blib\.(aiopip_\w+)", sources))
    assert called == {
        # In test_roots_leave_nothing:
        "aiopip_open",
        "aiopip_close",
        "aiopip_abort",
        "aiopip_fd",
        "aiopip_heed",
        "aiopip_drain",
        "aiopip_kill",
        "aiopip_get_statistics",
        "aiopip_trim",
        "aiopip_peer_of_client",
        "aiopip_peer_keep",
        "aiopip_peer_release",
        # In all of them:
        "aiopip_spawn",
        # In test_cancelled_spawns_leave_nothing:
        "aiopip_cancel",
        # In test_tasks_that_exec_leave_nothing:
        "aiopip_shares",
        "aiopip_spans",
        # In test_imports_and_their_views_leave_nothing:
        "aiopip_acknowledge",
        "aiopip_named_import",
        "aiopip_hold_array",
        "aiopip_hold_check",
        "aiopip_hold_narrow",
        "aiopip_hold_release",
        # In test_exports_and_locks_of_the_root_leave_nothing:
        "aiopip_export",
        "aiopip_withdraw",
        "aiopip_released",
        "aiopip_peer_pipid",
        "aiopip_lock_of_peer",
        "aiopip_lock_owner",
        "aiopip_wait",
        "aiopip_wake",
        # In test_exports_and_imports_of_tasks_leave_nothing:
        "aiopip_join",
        "aiopip_import",
        "aiopip_generation",
        "aiopip_expect",
        # In test_pools_leave_nothing:
        "aiopip_calls_new",
        "aiopip_calls_free",
        "aiopip_calls_fd",
        "aiopip_calls_add_worker",
        "aiopip_calls_stop_worker",
        "aiopip_calls_bury_worker",
        "aiopip_calls_push",
        "aiopip_calls_revoke",
        "aiopip_calls_doom",
        "aiopip_calls_taker",  # nothing but a look, of executors' futures
        "aiopip_calls_drain",
        "aiopip_calls_release",
        "aiopip_hold_memory",
        # In test_stops_and_groups_leave_nothing:
        "aiopip_listen",
        "aiopip_group",
        "aiopip_kill_group",
    }
