"""Arrays between Pythons: the root and its tasks, each to each, and waiting for them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import layouts
import numpy as np
import pytest
from integration.server import pending, serve
from integration.worker import QUIET, Told, work
from jobs import start, turns
from support import kept_exports

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs


@pytest.fixture(scope="session")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


# Who gives to whom


async def test_root_gives_to_a_task_and_writes_are_seen_both_ways(root: aiopip.Root) -> None:
    array = np.arange(5.0)
    export = root.export("params", array)
    assert (export.name, export.withdrawn) == ("params", False)
    async with work(root) as worker:
        await worker.do("import numpy as np")
        await worker.do("region = await me.named_import(me.root, 'params')")
        assert await worker.do("(region.shape, region.readonly, region.address)") == (
            (5,),
            False,
            array.ctypes.data,
        )
        assert await worker.do("region.source is me.root") is True
        await worker.do("array = np.asarray(region); array[0] = 99")
        assert array[0] == 99
        array[1] = -1
        assert await worker.do("array.tolist()") == [99, -1, 2, 3, 4]


async def test_task_gives_to_the_root_and_writes_are_seen_both_ways(root: aiopip.Root) -> None:
    async with work(root) as worker:
        await worker.do("import numpy as np; array = np.arange(12.).reshape(3, 4)")
        assert await worker.do("me.export('grid', array[:, ::-2])") == "<aiopip.Export 'grid'>"
        region = await root.named_import(worker.task, "grid")
        seen = np.asarray(region)
        assert seen.tolist() == [[3, 1], [7, 5], [11, 9]]
        assert (region.strides, region.source) == ((32, -16), worker.task)
        seen[0, 0] = 50
        assert await worker.do("float(array[0, 3])") == 50
        await worker.do("array[2, 1] = 60")
        assert seen[2, 1] == 60


async def test_task_gives_to_a_task(root: aiopip.Root) -> None:
    async with work(root) as one, work(root) as other:
        await one.do("data = bytearray(b'from one'); me.export('data', data)")
        for how in ("await me.named_import", "me.named_import_sync", "me.named_import_nowait"):
            assert await other.do(f"bytes(({how}({one.task.pipid}, 'data')).view())") == b"from one"
        await other.do(f"me.named_import_nowait({one.task.pipid}, 'data').view()[0] = 70")
        assert await one.do("bytes(data)") == b"From one"


async def test_task_imports_from_itself(root: aiopip.Root) -> None:
    async with work(root) as worker:
        pipid = worker.task.pipid
        assert await worker.do("me.pipid") == pipid
        with pytest.raises(Told, match=r"DeadlockError: .*wait for itself.*'own'"):
            await worker.do("await me.named_import(me.pipid, 'own')")
        with pytest.raises(Told, match="DeadlockError"):
            await worker.do("me.named_import_sync(me.pipid, 'own', 5)")
        with pytest.raises(Told, match=rf"WouldBlock: task {pipid} has not exported 'own'"):
            await worker.do("me.named_import_nowait(me.pipid, 'own')")
        await worker.do("me.export('own', b'x')")
        assert await worker.do("bytes((await me.named_import(me.pipid, 'own')).view())") == b"x"


async def test_read_only_stays_read_only(root: aiopip.Root) -> None:
    root.export("bytes", b"abc")
    async with work(root, "import numpy as np; me = aiopip.this_task()") as worker:
        await worker.do("region = me.named_import_nowait(me.root, 'bytes')")
        assert await worker.do("(region.readonly, region.view().readonly)") == (True, True)
        with pytest.raises(Told, match=r"ValueError: .*read-only"):
            await worker.do("np.asarray(region)[0] = 1")
        with pytest.raises(Told, match="TypeError: cannot modify read-only memory"):
            await worker.do("region.view()[0] = 1")
        with pytest.raises(Told, match="InvalidArgumentError: memory: it is read only"):
            await worker.do("aiopip.Lock(region)")


async def test_numpy_is_not_imported_before_it_is_wanted(root: aiopip.Root) -> None:
    root.export("grid", np.arange(6.0).reshape(2, 3))
    async with work(root) as worker:
        await worker.do("""
            me.export("lock", aiopip.Lock())
            me.export("bytes", bytearray(8))
            region = await me.named_import(me.root, "grid")
            facts = region.shape, region.strides, region.nbytes
            view = region.view()
        """)
        assert await worker.do("'numpy' in sys.modules") is False
        assert await worker.do("facts") == ((2, 3), (24, 8), 48)
        assert await worker.do("(view.format, view.tolist())") == ("d", [[0, 1, 2], [3, 4, 5]])
        assert await worker.do("str(region.dtype)") == "float64"
        assert await worker.do("'numpy' in sys.modules") is True


# Layouts


ARRAYS = layouts.arrays()
BUFFERS = layouts.buffers()


async def test_tasks_arrays_of_every_layout_arrive_exactly(root: aiopip.Root) -> None:
    async with work(root, layouts.SOURCE) as worker:
        await worker.do("me = aiopip.this_task(); made = [*arrays(), *buffers()]")
        await worker.do("for i, one in enumerate(made): me.export(f'n{i}', one)")
        for number, array in enumerate(ARRAYS):
            region = root.named_import_nowait(worker.task, f"n{number}")
            assert layouts.traits(region) == layouts.traits(array)
            with contextlib.suppress(BufferError):  # dates and overlaps have no format
                assert region.view().nbytes == array.nbytes
        for number, buffer in enumerate(BUFFERS, len(ARRAYS)):
            region = root.named_import_nowait(worker.task, f"n{number}")
            check_buffer(layouts.traits(region), buffer)


async def test_roots_arrays_of_every_layout_arrive_exactly(root: aiopip.Root) -> None:
    for number, array in enumerate([*ARRAYS, *BUFFERS]):
        root.export(f"n{number}", array)
    async with work(root, layouts.SOURCE) as worker:
        await worker.do("me = aiopip.this_task()")
        for number, array in enumerate(ARRAYS):
            found = await worker.do(f"traits(me.named_import_nowait(me.root, 'n{number}'))")
            assert found == layouts.traits(array)
        for number, buffer in enumerate(BUFFERS, len(ARRAYS)):
            found = await worker.do(f"traits(me.named_import_nowait(me.root, 'n{number}'))")
            check_buffer(found, buffer)


def check_buffer(found: tuple[Any, ...], buffer: Any) -> None:
    """Compare what arrived with an object; what type its items have for NumPy is not asked."""
    memory = memoryview(buffer)
    strides = memory.strides if memory.nbytes else ()
    assert found[1:4] == (memory.shape, strides, not memory.readonly), buffer
    if memory.format.startswith("T"):
        assert "'x'" in found[0], found
    else:
        assert found[4] == memory.tobytes().hex(), buffer


async def test_without_numpy_plain_arrays_arrive(root: aiopip.Root) -> None:
    root.export("numbers", np.arange(6, dtype="i4").reshape(2, 3))
    root.export("pairs", np.zeros(2, "i4,f8"))
    async with work(root, "sys.modules['numpy'] = None; me = aiopip.this_task()") as worker:
        await worker.do("region = me.named_import_nowait(me.root, 'numbers')")
        assert await worker.do("region.view().tolist()") == [[0, 1, 2], [3, 4, 5]]
        assert await worker.do("(region.dtype, region.shape)") == ("<i4", (2, 3))
        await worker.do("region = me.named_import_nowait(me.root, 'pairs')")
        with pytest.raises(Told, match=r"BufferError: .*NumPy"):
            await worker.do("region.view()")
        await worker.do("me.export('back', memoryview(bytearray(8)).cast('d'))")
        await worker.do("me.export('pairs', region)")
        with pytest.raises(Told, match=r"InvalidArgumentError: array: .*needs NumPy"):
            await worker.do("me.export('half', memoryview(bytes(8))[::2])")
        assert np.asarray(root.named_import_nowait(worker.task, "back")).tolist() == [0.0]
        pairs = np.asarray(root.named_import_nowait(worker.task, "pairs"))
        assert pairs.dtype == np.dtype("i4,f8")


# Names


async def test_name_is_taken_once(root: aiopip.Root) -> None:
    first = root.export("name", b"1")
    with pytest.raises(aiopip.AlreadyExportedError, match="'name' is exported already") as caught:
        root.export("name", b"2")
    assert caught.value.errno == 16
    first.withdraw()
    first.withdraw()
    assert first.withdrawn
    assert repr(first) == "<aiopip.Export 'name' withdrawn>"
    with root.export("name", b"2") as second:
        assert repr(second) == "<aiopip.Export 'name'>"
        with pytest.raises(aiopip.AlreadyExportedError):
            root.export("name", b"3")
    assert second.withdrawn
    root.export("name", b"4")
    async with work(root) as worker:
        assert await worker.do("bytes(me.named_import_nowait(me.root, 'name').view())") == b"4"
        await worker.do("me.export('name', b'5')")
        with pytest.raises(Told, match="AlreadyExportedError: 'name'"):
            await worker.do("me.export('name', b'6')")


@pytest.mark.parametrize("name", ["", "x" * 256, "\u00e9" * 128, "\ud800", b"x", None])
async def test_impossible_name_is_refused(root: aiopip.Root, name: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^name: "):
        root.export(name, b"x")


async def test_long_and_strange_names_are_taken(root: aiopip.Root) -> None:
    names = ["x" * 255, "\u00e9" * 127, " ", "\n", "a", "a "]
    for number, name in enumerate(names):
        root.export(name, bytes([number]))
    async with work(root) as worker:
        for number, name in enumerate(names):
            await worker.do(f"region = me.named_import_nowait(me.root, {name!r})")
            assert await worker.do("region.view()[0]") == number
            await worker.do(f"me.export({name!r}, region)")
            assert root.named_import_nowait(worker.task, name).view()[0] == number
        with pytest.raises(Told, match="InvalidArgumentError: name: it has 256 bytes"):
            await worker.do("me.named_import_nowait(me.root, 'x' * 256)")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("-1", "neither"),
        ("True", "neither"),
        ("'0'", "neither"),
        ("None", "neither"),
        ("-748", "neither"),
        ("5000", "no slot 5000"),
        ("2**70", "no slot"),
        ("16", "no slot 16"),
    ],
)
async def test_impossible_source_is_refused(source: str, what: str) -> None:
    async with aiopip.Root(max_tasks=16) as root, work(root) as worker:
        for call in ("await me.named_import", "me.named_import_sync", "me.named_import_nowait"):
            with pytest.raises(Told, match=f"InvalidArgumentError: source: .*{what}"):
                await worker.do(f"{call}({source}, 'x')")


@pytest.mark.parametrize("given", [None, 3, "text", [1], object(), np.array([None]), {}])
async def test_what_has_no_memory_is_refused(root: aiopip.Root, given: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^array: "):
        root.export("x", given)
    root.export("x", b"the name is free")


# Waiting


async def test_task_waits_for_the_root(root: aiopip.Root) -> None:
    async with work(root) as worker:
        with pytest.raises(Told, match=r"WouldBlock: the root \(process \d+\) has not exported"):
            await worker.do("me.named_import_nowait(me.root, 'late')")
        worker.tell("bytes(me.named_import_sync(me.root, 'late').view())")
        await worker.asleep()
        root.export("other", b"no")
        root.export("late", b"yes")
        assert await worker.answer() == b"yes"
        worker.tell("bytes((await me.named_import(me.root, 'later')).view())")
        await turns(3)
        root.export("later", b"also")
        assert await worker.answer() == b"also"


async def test_task_waits_for_a_task_that_is_not_started_yet(root: aiopip.Root) -> None:
    async with work(root, pipid=3) as worker:
        worker.tell("bytes(me.named_import_sync(7, 'late').view())")
        await worker.asleep()
        async with work(root, pipid=7) as other:
            await other.do("me.export('late', b'seven')")
            assert await worker.answer() == b"seven"


async def test_root_waits_for_a_task(root: aiopip.Root) -> None:
    async with work(root) as worker:
        waiting = start(root.named_import(worker.task, "late"))
        assert await pending(waiting)
        with pytest.raises(aiopip.WouldBlock, match="has not exported 'late' yet"):
            root.named_import_nowait(worker.task, "late")
        await worker.do("me.export('late', b'yes')")
        assert bytes((await waiting).view()) == b"yes"


async def test_many_imports_wait_at_once(root: aiopip.Root) -> None:
    async with work(root) as worker:
        worker.tell("""
            waits = [asyncio.ensure_future(me.named_import(me.root, f"n{i}")) for i in range(300)]
            await asyncio.sleep(0)
            me.export("waiting", b"")
            sums = sum([(await one).view()[0] for one in waits])
        """)
        await root.named_import(worker.task, "waiting")
        for number in reversed(range(300)):
            root.export(f"n{number}", bytes([number % 200]))
        await worker.answer()
        assert await worker.do("sums") == sum(number % 200 for number in range(300))
        await worker.until(QUIET)


async def test_withdrawn_name_is_waited_for_again(root: aiopip.Root) -> None:
    export = root.export("name", b"first")
    async with work(root) as worker:
        await worker.do("first = await me.named_import(me.root, 'name')")
        export.withdraw()
        with pytest.raises(Told, match="WouldBlock"):
            await worker.do("me.named_import_nowait(me.root, 'name')")
        worker.tell("second = me.named_import_sync(me.root, 'name')")
        await worker.asleep()
        root.export("name", b"second")
        await worker.answer()
        assert await worker.do("(bytes(first.view()), bytes(second.view()))") == (
            b"first",
            b"second",
        )


async def test_sync_import_takes_a_time(root: aiopip.Root) -> None:
    async with work(root) as worker:
        for timeout in ("0", "-1", "0.01", "1e-9"):
            with pytest.raises(Told, match=r"CallError: the root .*'late' within"):
                await worker.do(f"me.named_import_sync(me.root, 'late', {timeout})")
        assert await worker.do("issubclass(raised, TimeoutError)")
        for timeout in ("float('nan')", "'soon'"):
            with pytest.raises(Told, match=r"InvalidArgumentError: timeout_s: .* no number"):
                await worker.do(f"me.named_import_sync(me.root, 'late', {timeout})")
        for timeout in ("float('inf')", "1e300", "1e15", "None"):
            worker.tell(f"me.named_import_sync(me.root, 'late', {timeout}).closed")
            await worker.asleep()
            with root.export("late", b""):
                assert await worker.answer() is False


async def test_cancelled_import_holds_nothing(root: aiopip.Root) -> None:
    async with work(root) as worker:
        for _ in range(20):
            await worker.do("""
                waiting = asyncio.ensure_future(me.named_import(me.root, "late"))
                await asyncio.sleep(0)
                waiting.cancel()
                outcome, = await asyncio.gather(waiting, return_exceptions=True)
            """)
            assert await worker.do("type(outcome).__name__") == "CancelledError"
        await worker.until(QUIET)
        core = root._core
        assert core is not None
        export = root.export("late", bytearray(10))
        export.withdraw()
        assert not kept_exports(core)


async def test_exporter_that_ends_cancels_the_wait(root: aiopip.Root, path: Path) -> None:
    async with work(root) as worker:
        for end in ("sys.exit()", "os._exit(3)", "os.kill(os.getpid(), 9)"):
            for call in ("await me.named_import", "me.named_import_sync"):
                async with work(root) as other:
                    pipid = other.task.pipid
                    worker.tell(f"{call}({pipid}, 'late')")
                    await turns(5)
                    await other.end(end)
                    with pytest.raises(Told, match=rf"ImportCanceledError: .*'late': task {pipid}"):
                        await worker.answer()
        async with serve(root, path) as server:
            worker.tell(f"await me.named_import({server.task.pipid}, 'late')")
            await server.end("kill")
            with pytest.raises(Told, match=r"ImportCanceledError.*keep=True"):
                await worker.answer()


async def test_later_task_in_the_slot_is_another(root: aiopip.Root) -> None:
    async with work(root, pipid=0) as worker:
        async with work(root, pipid=5) as one:
            worker.tell("await me.named_import(5, 'late')")
            await turns(5)
            await one.do("me.export('other', b'')")
            await one.end()
        async with work(root, pipid=5) as other:
            await other.do("me.export('late', b'of the second')")
            with pytest.raises(Told, match="ImportCanceledError"):
                await worker.answer()
            assert await worker.do("bytes(me.named_import_nowait(5, 'late').view())") == (
                b"of the second"
            )


async def test_export_made_before_the_end_is_found(root: aiopip.Root) -> None:
    async with work(root) as worker:
        for end in ("sys.exit()", "os._exit(3)", "os.kill(os.getpid(), 9)"):
            async with work(root) as other:
                waiting = start(other.task.named_import("last"))
                await turns(3)
                other.tell(f"me.export('last', bytearray(b'words')); {end}")
                assert bytes((await waiting).view()) == b"words"
                found = await worker.do(
                    f"bytes(me.named_import_nowait({other.task.pipid}, 'last').view())"
                )
                assert found == b"words"
