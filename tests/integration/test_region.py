"""Regions: a task's memory as arrays, in place, for as long as anybody looks at it."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from integration.server import serve
from support import clean_root, mapping_count, mappings, resident_bytes, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from integration.conftest import Programs
    from integration.server import Server

MIB = 1 << 20


@pytest.fixture(scope="session")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


async def grid_of(root: aiopip.Root, server: Server, items: int) -> aiopip.Region:
    """The untyped Region of a grid of doubles 0, 1, 2 ..."""
    assert await server.ask(f"grid {items}") == "OK"
    assert await server.ask("export-grid grid") == "OK"
    return await root.named_import(server.task, "grid")


# What it is a view of


async def test_cast_gives_an_array_in_place(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = (await grid_of(root, server, 1200)).cast("f8", (30, 40))
        array = np.asarray(region)
        assert (array.shape, array.dtype) == ((30, 40), np.dtype("f8"))
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data == region.address
        assert np.array_equal(array.ravel(), np.arange(1200.0))
        assert (region.shape, region.nbytes, region.readonly) == ((30, 40), 9600, False)
        assert region.source is server.task


async def test_writes_are_seen_both_ways(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = (await grid_of(root, server, 100)).cast(np.float64, 100)
        array, view = np.asarray(region), region.view()
        assert await server.ask("set 7 -1.5") == "OK"
        assert array[7] == view[7] == -1.5
        array[8] = 2.5
        view[9] = 3.5  # type: ignore[call-overload]
        assert [await server.ask(f"get {number}") for number in (8, 9)] == ["2.5", "3.5"]
        array[:] = 2
        assert await server.ask("sum") == "200"


async def test_view_has_type_and_shape(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 12)
        view: Any = region.cast("f8", (3, 4)).view()
        assert (view.format, view.shape, view.itemsize, view.readonly) == ("d", (3, 4), 8, False)
        assert view[2, 3] == 11
        assert view.tolist() == np.arange(12.0).reshape(3, 4).tolist()
        raw = region.cast("B", 96).view()
        assert bytes(raw) == np.arange(12.0).tobytes()
        assert region.cast("f8", ()).view()[()] == 0
        assert np.asarray(region.cast("f8", ())) == 0


async def test_structured_types_are_taken(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        pairs = np.asarray((await grid_of(root, server, 10)).cast([("a", "f8"), ("b", "f8")], 5))
        assert pairs["b"].tolist() == [1, 3, 5, 7, 9]
        pairs["a"] = 0
        assert await server.ask("sum") == "25"


async def test_uncast_region_has_no_view(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 10)
        assert (region.dtype, region.shape, region.nbytes) == (None, None, None)
        with pytest.raises(aiopip.NotCastError, match="cast") as caught:
            region.view()
        assert isinstance(caught.value, TypeError)
        with pytest.raises(aiopip.NotCastError):
            np.asarray(region)


@pytest.mark.parametrize(
    ("dtype", "shape", "argument"),
    [
        ("O", 1, "dtype"),
        ("nonsense", 1, "dtype"),
        ("V0", 1, "dtype"),
        ("f8", 0, "shape"),
        ("f8", (3, 0), "shape"),
        ("f8", -1, "shape"),
    ],
)
async def test_impossible_cast_is_refused(
    root: aiopip.Root, path: Path, dtype: str, shape: int | tuple[int, ...], argument: str
) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 10)
        with pytest.raises(aiopip.InvalidArgumentError, match=argument):
            region.cast(dtype, shape)


async def test_memory_that_the_task_has_made_read_only_is_so(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 10)
        assert await server.ask("read-only") == "OK"
        fixed = region.cast("f8", 10)
        assert fixed.readonly
        assert fixed.view().readonly
        array = np.asarray(fixed)
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(TypeError):
            fixed.view()[0] = 1
        assert array[9] == 9


# Ranges that are not the exporter's


async def test_cast_beyond_the_mapping_is_refused(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 1 << 17)
        region.cast("f8", 1 << 17)
        for items in (1 << 40, 1 << 50, 2**60, 2**61, 2**64):
            with pytest.raises(aiopip.InvalidRegionError) as caught:
                region.cast("f8", items)
            assert caught.value.errno == 14


@pytest.mark.parametrize(
    "address", [0, 8, 4095, 0x7FFFFFFFF000, 0xFFFFFFFFFF600000, 2**63, 2**64 - 1, 2**64 - 8]
)
async def test_wild_address_is_refused(root: aiopip.Root, path: Path, address: int) -> None:
    async with serve(root, path) as server:
        assert await server.ask(f"export-at wild {address:#x}") == "OK"
        region = await root.named_import(server.task, "wild")
        assert region.address == address
        for items in (1, 8, 4096):
            with pytest.raises(aiopip.InvalidRegionError):
                region.cast("B", items)


async def test_memory_of_others_is_refused(root: aiopip.Root, path: Path) -> None:
    """An address of the root's, or of another task's, is not the exporter's."""
    mine = ctypes.create_string_buffer(4096)
    async with serve(root, path) as server, serve(root, path) as other:
        theirs = (await other.ask("addresses")).split()
        for number, address in enumerate([hex(ctypes.addressof(mine)), *theirs[:2]]):
            assert await server.ask(f"export-at foreign{number} {address}") == "OK"
            region = await root.named_import(server.task, f"foreign{number}")
            with pytest.raises(aiopip.InvalidRegionError):
                region.cast("B", 4)


async def test_stack_data_and_code_are_the_tasks(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        assert await server.ask("grid 512") == "OK"
        stack, data, grid, code = (await server.ask("addresses")).split()
        for name, address, readonly in (
            ("stack", stack, False),
            ("data", data, False),
            ("grid", grid, False),
            ("code", code, True),
        ):
            assert await server.ask(f"export-at {name} {address}") == "OK"
            region = (await root.named_import(server.task, name)).cast("i4", 1)
            assert region.readonly == readonly, name
            np.asarray(region).sum()
        assert np.asarray((await root.named_import(server.task, "data")).cast("i4", 1))[0] == 41


async def test_range_over_the_gap_behind_the_stack_is_refused(
    root: aiopip.Root, path: Path
) -> None:
    async with serve(root, path) as server:
        stack = int((await server.ask("addresses")).split()[0], 16)
        assert await server.ask(f"export-at stack {stack:#x}") == "OK"
        region = await root.named_import(server.task, "stack")
        region.cast("B", 64)
        with pytest.raises(aiopip.InvalidRegionError):
            region.cast("B", 16 * MIB)


async def test_last_bytes_before_a_hole_may_be_cast_and_one_more_not(
    root: aiopip.Root, path: Path
) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 512)
        # The mappings behind its own may follow without a hole.
        end = region.address
        for one in mappings():
            if one.start <= end < one.end and "r" in one.protection:
                end = one.end
        region.cast("B", end - region.address)
        with pytest.raises(aiopip.InvalidRegionError):
            region.cast("B", end - region.address + 1)


async def test_memory_that_the_task_has_unmapped_is_refused(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        region = await grid_of(root, server, 1 << 16)
        assert await server.ask("unmap") == "OK"
        with pytest.raises(aiopip.InvalidRegionError):
            region.cast("f8", 1 << 16)


# How long it lives


async def test_views_keep_the_memory_beyond_the_tasks_end(root: aiopip.Root, path: Path) -> None:
    before = resident_bytes()
    async with serve(root, path) as server:
        region = (await grid_of(root, server, 8 * MIB)).cast("f8", 8 * MIB)
        array = np.asarray(region)
        row = array[MIB : 2 * MIB]
        await server.end()
    del array, region
    gc.collect()
    await until(lambda: root.statistics().held == 1)
    assert row[0] == MIB
    assert row.sum() == sum(range(MIB, 2 * MIB))
    assert resident_bytes() - before > 60 * MIB
    count = mapping_count()
    del row
    await until(lambda: root.statistics().held == 0 and resident_bytes() - before < 16 * MIB)
    assert mapping_count() < count


async def test_every_kind_of_view_keeps_the_memory(root: aiopip.Root, path: Path) -> None:
    kinds: dict[str, Callable[[Any], Any]] = {
        "region": lambda region: region,
        "cast": lambda region: region.cast("u1", 80),
        "view": lambda region: region.view(),
        "slice": lambda region: region.view()[2:3],
        "cast view": lambda region: region.view().cast("B"),
        "array": np.asarray,
        "array's view": lambda region: np.asarray(region)[::2].view("i8"),
        "array of view": lambda region: np.frombuffer(region.view()),
        "memoryview of array": lambda region: memoryview(np.asarray(region)),  # type: ignore[arg-type]
    }
    for name, make in kinds.items():
        async with serve(root, path) as server:
            kept = make((await grid_of(root, server, 10)).cast("f8", 10))
            await server.end()
        gc.collect()
        await until(lambda: not root.statistics().reclaiming and not root.statistics().alive)
        assert root.statistics().held == 1, name
        if name != "region" and name != "cast":
            assert len(bytes(kept)) > 0
        del kept
        await until(lambda: (gc.collect(), root.statistics().held)[1] == 0, f"{name} goes")


async def test_copy_keeps_nothing(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        copy = np.array((await grid_of(root, server, 10)).cast("f8", 10))
        await server.end()
    await until(lambda: (gc.collect(), root.statistics().held)[1] == 0)
    assert copy.sum() == 45


async def test_closed_region_is_refused_and_its_views_live(root: aiopip.Root, path: Path) -> None:
    async with serve(root, path) as server:
        untyped = await grid_of(root, server, 10)
        with untyped.cast("f8", 10) as region:
            array, view = np.asarray(region), region.view()
        assert region.closed
        region.close()
        for use in (region.view, lambda: np.asarray(region), lambda: region.cast("B", 1)):
            with pytest.raises(aiopip.ClosedError):
                use()
        untyped.close()
        await server.end()
    await until(lambda: root.statistics().held == 1)
    assert array.sum() == view[9] * 5 == 45
    del array, view, use
    await until(lambda: (gc.collect(), root.statistics().held)[1] == 0)


async def test_views_keep_the_memory_beyond_the_root(path: Path) -> None:
    count = mapping_count()
    async with aiopip.Root() as root, serve(root, path) as server:
        array = np.asarray((await grid_of(root, server, MIB)).cast("f8", MIB))
    async with clean_root() as another:
        await (await another.spawn("true")).wait()
        assert array.sum() == sum(range(MIB))
        array[:] = 1
    assert array.sum() == MIB
    del array, root, server
    await until(lambda: (gc.collect(), mapping_count())[1] <= count + 8)


async def test_views_may_be_dropped_in_any_thread(root: aiopip.Root, path: Path) -> None:
    import threading

    for _ in range(10):
        async with serve(root, path) as server:
            kept = [np.asarray((await grid_of(root, server, 10)).cast("f8", 10))]
            await server.end()
        dropping = threading.Thread(target=kept.clear)
        dropping.start()
        dropping.join()
    await until(lambda: (gc.collect(), root.statistics().held)[1] == 0)


async def test_system_calls_read_and_write_a_region(
    root: aiopip.Root, path: Path, tmp_path: Path
) -> None:
    async with serve(root, path) as server:
        view = (await grid_of(root, server, 4096)).cast("f8", 4096).view()
        (tmp_path / "file").write_bytes(view)
        assert np.array_equal(np.fromfile(tmp_path / "file"), np.arange(4096.0))
        with (tmp_path / "file").open("r+b") as file:
            file.write(os.urandom(16))
            file.seek(0)
            file.readinto(view)
            file.seek(0)
            assert file.read(16) == bytes(view[:2])
