"""How long memory that is shared lives: withdrawals, ends and deaths, and passing it on."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import anyio.to_thread
import numpy as np
import pytest
from integration.server import serve
from integration.worker import QUIET, Told, work
from loops import run_in_thread_loop
from support import clean_root, resident_bytes, settled, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from integration.conftest import Programs

MIB = 1 << 20
NUMPY = "import gc, weakref; import numpy as np; me = aiopip.this_task()"
ENDS = ["sys.exit()", "os._exit(3)", "os.kill(os.getpid(), 9)"]


def data(items: int) -> tuple[Any, weakref.ref[Any]]:
    """An array, and a sight of its end."""
    made = np.arange(items, dtype="f8")
    return made, weakref.ref(made)


@pytest.fixture(scope="session")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


async def gone(reference: weakref.ref[Any]) -> None:
    await until(lambda: (gc.collect(), reference() is None)[1], "the object goes")


# Withdrawn


async def test_object_of_the_root_stays_until_the_last_import_goes(root: aiopip.Root) -> None:
    array, reference = data(10)
    export = root.export("data", array)
    del array
    gc.collect()
    assert reference() is not None
    async with work(root, NUMPY) as one, work(root, NUMPY) as other:
        for worker in (one, other):
            await worker.do("view = np.asarray(me.named_import_nowait(me.root, 'data'))[3:]")
        export.withdraw()
        await one.do("del view")
        assert await other.do("view.tolist()") == [3, 4, 5, 6, 7, 8, 9]
        assert reference() is not None
        await other.do("del view")
        await gone(reference)


async def test_object_of_the_root_goes_with_the_importers_death(root: aiopip.Root) -> None:
    for end in ENDS:
        array, reference = data(10)
        with root.export("data", array):
            del array
            async with work(root, NUMPY) as worker:
                await worker.do("view = np.asarray(me.named_import_nowait(me.root, 'data'))")
                await worker.end(end)
        await gone(reference)


async def test_object_that_nobody_has_goes_at_once(root: aiopip.Root) -> None:
    array, reference = data(10)
    export = root.export("data", array)
    del array
    export.withdraw()
    assert reference() is None


async def test_what_is_exported_goes_with_the_root() -> None:
    for leave in (lambda _: None, aiopip.Root.abort):
        array, reference = data(10)
        async with aiopip.Root() as root:
            export = root.export("data", array)
            del array
            leave(root)
        assert reference() is None
        assert export.withdrawn
        export.withdraw()
        with pytest.raises(aiopip.ClosedError, match="the Root is closed"):
            root.export("b", b"x")


async def test_object_of_a_task_stays_until_the_last_import_goes(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as worker, work(root) as other:
        await worker.do("""
            made = np.arange(5.); reference = weakref.ref(made)
            export = me.export("data", made); del made
        """)
        view = np.asarray(root.named_import_nowait(worker.task, "data"))[1:]
        await other.do(f"region = me.named_import_nowait({worker.task.pipid}, 'data')")
        await worker.do("export.withdraw(); gc.collect()")
        assert await worker.do("(export.withdrawn, reference() is None)") == (True, False)
        del view
        gc.collect()
        await worker.do("gc.collect()")
        assert await worker.do("reference() is None") is False
        await other.do("del region")
        await worker.until("reference() is None")
        await worker.until(QUIET)
        await worker.do("made = np.arange(5.); reference = weakref.ref(made)")
        await worker.do("export = me.export('data', made); del made")
        await other.do(f"region = me.named_import_nowait({worker.task.pipid}, 'data')")
        await worker.do("export.withdraw()")
        await other.end("os.kill(os.getpid(), 9)")
        await worker.until("reference() is None")


async def test_finished_wait_keeps_no_memory_while_another_goes_on(root: aiopip.Root) -> None:
    array, reference = data(10)
    async with work(root, NUMPY) as worker:
        await worker.do("""
            never = asyncio.ensure_future(me.named_import(me.root, "never"))
            soon = asyncio.ensure_future(me.named_import(me.root, "soon"))
            await asyncio.sleep(0)
        """)
        export = root.export("soon", array)
        del array
        await worker.do("region = await soon")
        export.withdraw()
        await worker.do("del region, soon; gc.collect()")
        await gone(reference)
        await worker.do("never.cancel()")


# The exporter's end


@pytest.mark.parametrize("end", ENDS)
async def test_arrays_survive_their_task(root: aiopip.Root, end: str) -> None:
    async with work(root, NUMPY) as worker:
        await worker.do("""
            import array, ctypes, mmap
            mapped = mmap.mmap(-1, 8192); mapped[:8192] = b"m" * 8192
            big = np.arange(1 << 20, dtype="f8")
            for name, one in {
                "mmap": mapped, "big": big, "slice": big[1 << 19::-7], "small": np.full(3, 7, "i2"),
                "bytes": b"b" * 100, "bytearray": bytearray(b"a" * 10_000), "tiny": b"t",
                "array": array.array("i", range(1000)), "ctypes": (ctypes.c_int * 4)(1, 2, 3, 4),
            }.items():
                me.export(name, one)
            del mapped, big, one
        """)
        names = ["mmap", "big", "slice", "small", "bytes", "bytearray", "tiny", "array", "ctypes"]
        seen = {name: np.asarray(root.named_import_nowait(worker.task, name)) for name in names}
        await worker.end(end)
    await until(lambda: root.statistics().held == 1 and not root.statistics().reclaiming)
    big = np.arange(MIB, dtype="f8")
    assert (seen["mmap"] == ord("m")).all()
    assert np.array_equal(seen["big"], big)
    assert np.array_equal(seen["slice"], big[1 << 19 :: -7])
    assert seen["small"].tolist() == [7, 7, 7]
    assert seen["bytes"].tobytes() == b"b" * 100
    assert seen["bytearray"].tobytes() == b"a" * 10_000
    assert seen["tiny"].tobytes() == b"t"
    assert seen["array"].tolist() == list(range(1000))
    assert seen["ctypes"].tolist() == [1, 2, 3, 4]
    seen["big"][:] = 1
    seen.clear()
    await until(lambda: root.statistics().held == 0)


async def test_collected_task_gives_nothing_more_but_what_it_keeps(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as worker, work(root) as other:
        await worker.do("me.export('gone', b'g'); me.export('kept', b'k' * 10, keep=True)")
        pipid = worker.task.pipid
        await worker.end("os.kill(os.getpid(), 9)")
        kept = root.named_import_nowait(worker.task, "kept")
        assert bytes(kept.view()) == b"k" * 10
        assert await other.do(f"bytes(me.named_import_nowait({pipid}, 'kept').view())") == b"k" * 10
        assert bytes(kept.view()) == b"k" * 10
        del kept
        await until(lambda: is_cancelled(root, worker.task, "kept"))
        with pytest.raises(Told, match=r"ImportCanceledError.*keep=True"):
            await other.do(f"me.named_import_nowait({pipid}, 'gone')")


def is_cancelled(root: aiopip.Root, task: aiopip.Task, name: str) -> bool:
    try:
        root.named_import_nowait(task, name).close()
    except aiopip.ImportCanceledError:
        return True
    return False


async def test_kept_export_holds_the_slot_until_it_is_imported_and_dropped() -> None:
    async with clean_root(max_tasks=2) as root:
        async with work(root) as worker:
            await worker.do("me.export('kept', bytearray(100), keep=True)")
            await worker.end()
        await until(lambda: not root.statistics().reclaiming)
        assert root.statistics().held == 1
        region = root.named_import_nowait(worker.task, "kept")
        del region
        await settled(root)


async def test_kept_export_that_nobody_imports_goes_with_the_root() -> None:
    before = resident_bytes()
    async with aiopip.Root() as root:
        async with work(root, NUMPY) as worker:
            await worker.do("me.export('kept', np.ones(8 << 20), keep=True)")
            await worker.end()
        assert resident_bytes() - before > 60 * MIB
    await until(lambda: resident_bytes() - before < 16 * MIB)


# Passed on


@pytest.mark.parametrize("end", ["export.withdraw()", *ENDS])
async def test_who_passes_on_may_go_and_the_first_too(root: aiopip.Root, end: str) -> None:
    async with work(root, NUMPY) as first, work(root) as middle, work(root, NUMPY) as last:
        await first.do("""
            made = np.arange(1000.); reference = weakref.ref(made)
            export = me.export("a", made); del made
        """)
        await middle.do(f"region = me.named_import_nowait({first.task.pipid}, 'a')")
        await middle.do("export = me.export('b', region); del region")
        await last.do(
            f"view = np.asarray(me.named_import_nowait({middle.task.pipid}, 'b')); "
            "again = me.export('c', view[::-2])"
        )
        seen = np.asarray(root.named_import_nowait(last.task, "c"))
        address = seen.ctypes.data
        for worker in (first, middle):
            if end == "export.withdraw()":
                await worker.do(end)
            else:
                await worker.end(end)
        assert await last.do("float(view.sum())") == 499500
        assert seen.sum() == sum(range(1, 1000, 2))
        assert seen.ctypes.data == address
        await last.end()
        await until(lambda: not root.statistics().reclaiming)
        assert seen[0] == 999
        del seen
        if end == "export.withdraw()":
            await first.until("reference() is None")
        else:
            await until(lambda: (gc.collect(), root.statistics().held)[1] == 0)


async def test_region_that_is_passed_on_does_not_inherit_keep(root: aiopip.Root) -> None:
    async with work(root) as first, work(root) as middle:
        await first.do("me.export('a', bytearray(10), keep=True)")
        await middle.do(f"me.export('b', me.named_import_nowait({first.task.pipid}, 'a'))")
        await middle.end()
        with pytest.raises(aiopip.ImportCanceledError):
            root.named_import_nowait(middle.task, "b")
        # Its import was the first, and went with it.
        await first.end()
        await settled(root)


async def test_root_passes_on_between_tasks(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as first, work(root, NUMPY) as last:
        await first.do("me.export('a', np.arange(10.))")
        region = root.named_import_nowait(first.task, "a")
        export = root.export("b", np.asarray(region)[2:])
        del region
        await last.do("view = np.asarray(me.named_import_nowait(me.root, 'b'))")
        export.withdraw()
        await first.end("os.kill(os.getpid(), 9)")
        await until(lambda: not root.statistics().reclaiming)
        assert await last.do("view.tolist()") == [2, 3, 4, 5, 6, 7, 8, 9]
        assert root.statistics().held == 1
        await last.do("del view")
        await until(lambda: (gc.collect(), root.statistics().held)[1] == 0)


# Python and C


async def test_python_and_c_give_to_each_other(root: aiopip.Root, path: Path) -> None:
    async with work(root, NUMPY) as worker, serve(root, path) as server:
        await worker.do("number = np.array([4711], 'i4'); export = me.export('number', number)")
        assert await server.ask(f"import {worker.task.pipid} number") == "OK 4711"
        assert await server.ask("grid 100") == "OK"
        assert await server.ask("export-grid grid") == "OK"
        await worker.do(f"region = await me.named_import({server.task.pipid}, 'grid')")
        with pytest.raises(Told, match=r"NotCastError: .*cast"):
            await worker.do("region.view()")
        with pytest.raises(Told, match=r"NotCastError"):
            await worker.do("me.export('grid', region)")
        with pytest.raises(Told, match=r"InvalidRegionError: .*task|InvalidRegionError"):
            await worker.do("region.cast('f8', 1 << 40)")
        await worker.do("grid = np.asarray(region.cast('f8', (10, 10))); me.export('grid', grid.T)")
        assert await worker.do("float(grid[9, 9])") == 99
        await worker.do("grid[0, 1] = -5")
        assert await server.ask("get 1") == "-5"
        seen = np.asarray(root.named_import_nowait(worker.task, "grid"))
        await worker.do("del region, grid")
        await server.end("kill")
        await worker.end()
        assert (seen[1, 0], seen[9, 9]) == (-5, 99)
        del seen


async def test_c_import_holds_until_the_importer_ends(root: aiopip.Root, path: Path) -> None:
    array = np.array([41], "i4")
    reference = weakref.ref(array)
    export = root.export("number", array)
    del array
    async with serve(root, path) as server:
        assert await server.ask("import -748 number") == "OK 41"
        assert await server.ask("try -748 absent") == "EAGAIN -1"
        export.withdraw()
        gc.collect()
        assert reference() is not None
        await server.end("kill")
        await gone(reference)


# Regions and the end of their process


async def test_regions_may_be_dropped_in_any_thread_of_a_task(root: aiopip.Root) -> None:
    array, reference = data(100)
    export = root.export("data", array)
    del array
    async with work(root, NUMPY) as worker:
        await worker.do("""
            def run():
                for _ in range(100):
                    kept.append(np.asarray(me.named_import_sync(me.root, "data")))
                    if len(kept) > 10: kept.pop(0)
            kept = []
            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            kept.clear()
        """)
        export.withdraw()
        await gone(reference)


async def test_region_in_a_cycle_goes_with_the_collector(root: aiopip.Root) -> None:
    async with work(root) as worker:
        await worker.do("me.export('a', bytearray(10))")
        cycle: list[object] = [root.named_import_nowait(worker.task, "a")]
        cycle.append(cycle)
        await worker.end()
        del cycle
        gc.disable()
        try:
            await until(lambda: not root.statistics().reclaiming)
            assert root.statistics().held == 1
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
        finally:
            gc.enable()
        await until(lambda: root.statistics().held == 0)


async def test_region_outlives_its_root_and_its_loop() -> None:
    kept: list[aiopip.Region] = []

    async def run() -> None:
        async with aiopip.Root() as root, work(root) as worker:
            await worker.do("me.export('a', bytearray(b'abc' * 1000))")
            kept.append(root.named_import_nowait(worker.task, "a"))

    await run_in_thread_loop(run)
    async with clean_root() as root:
        assert bytes(kept[0].view()[:3]) == b"abc"
        export = root.export("again", kept[0])
        async with work(root) as worker:
            found = await worker.do("bytes(me.named_import_nowait(me.root, 'again').view()[:3])")
            assert found == b"abc"
        export.withdraw()
    kept.clear()


async def test_region_in_a_task_lives_when_the_interpreter_ends(root: aiopip.Root) -> None:
    root.export("data", np.arange(10.0))
    async with work(root, NUMPY) as worker:
        status = await worker.end("""
            import atexit, builtins
            builtins.kept = np.asarray(me.named_import_nowait(me.root, "data"))
            atexit.register(lambda: (me.export("last", builtins.kept), builtins.kept.sum()))
            cycle = [builtins.kept]; cycle.append(cycle)
            sys.exit(5)
        """)
        assert status == 5


async def test_other_threads_are_refused_by_the_roots_exports(root: aiopip.Root) -> None:
    export = root.export("a", b"x")
    with pytest.raises(aiopip.WrongThreadError):
        await anyio.to_thread.run_sync(export.withdraw)
    with pytest.raises(aiopip.WrongThreadError):
        await anyio.to_thread.run_sync(root.export, "b", b"x")
    assert not export.withdrawn
