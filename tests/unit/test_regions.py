"""Regions and imports, on memory of the test's own."""

from __future__ import annotations

import errno
import gc
import struct
import sys
import weakref
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from jobs import begun, cancelled
from loops import ABOUT_TO_GO_ON, only
from unit.fake_client import ended

import aiopip
from aiopip import _dtype
from aiopip._ffi import ArrayFacts
from aiopip._records import Published

if TYPE_CHECKING:
    from typing import Any, TypeVar

    from unit.fake_client import Stage

    from aiopip._ffi import Hold

    T = TypeVar("T")

ADDRESS = 0x1000


class Block(bytearray):
    """Memory whose end can be seen."""


class FakeHold:
    """64 bytes of an exporter at ADDRESS, and another 64 behind them that are read only."""

    def __init__(self, address: int = ADDRESS) -> None:
        self.address = address
        self._block = Block(range(128))
        self.block = weakref.ref(self._block)

    def facts(self) -> ArrayFacts:
        return ArrayFacts(self.address, 0, 2**64 - 1, 0, (), (), "")

    def check(self, address: int, size_bytes: int) -> int:
        if address < ADDRESS or address + size_bytes > ADDRESS + 128:
            return -errno.EFAULT
        return int(address + size_bytes <= ADDRESS + 64)

    def narrow(self, address: int, size_bytes: int) -> FakeHold:
        return self

    def memory(self, address: int, size_bytes: int) -> memoryview:
        start = address - ADDRESS
        return memoryview(self._block)[start : start + size_bytes]


def hold(address: int = ADDRESS) -> Hold:
    return cast("Hold", FakeHold(address))


@pytest.fixture
async def task(stage: Stage) -> aiopip.Task:
    return await stage.task()


@pytest.fixture
def region(task: aiopip.Task) -> aiopip.Region:
    return aiopip.Region(hold(), task)


def test_uncast_region_says_to_cast(region: aiopip.Region, task: aiopip.Task) -> None:
    assert (region.address, region.source) == (ADDRESS, task)
    assert (region.dtype, region.shape, region.nbytes, region.readonly) == (None, None, None, False)
    assert "not cast" in repr(region)
    for view in (region.view, lambda: np.asarray(region)):
        with pytest.raises(aiopip.NotCastError, match=r"region\.cast"):
            view()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ is asked from Python 3.12 on")
def test_region_is_a_buffer(region: aiopip.Region) -> None:
    with pytest.raises(aiopip.NotCastError):
        memoryview(region)
    view = memoryview(region.cast("u1", 4))
    assert view.tolist() == [0, 1, 2, 3]


def test_cast_gives_type_and_shape(region: aiopip.Region) -> None:
    grid = region.cast("f8", (2, 4))
    assert (grid.dtype, grid.shape, grid.nbytes) == (np.dtype("f8"), (2, 4), 64)
    view = grid.view()
    assert (view.format, view.shape, view.readonly) == ("d", (2, 4), False)
    array = np.asarray(grid)
    array[1, 2] = 7.5
    assert view[1, 2] == 7.5
    assert "float64" in repr(grid)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("i4", 5),
        ("?", (2, 2)),
        (">i4", (3,)),
        ("c16", (2,)),
        ("S3", 4),
        ([("x", "<i4"), ("y", "<f8")], 3),
        (np.float32, ()),
        (np.dtype({"names": ["a"], "formats": ["<u2"], "offsets": [2], "itemsize": 8}), 2),
    ],
)
def test_view_and_array_agree(region: aiopip.Region, dtype: Any, shape: Any) -> None:
    typed = region.cast(dtype, shape)
    array = np.asarray(typed)
    assert array.dtype == np.dtype(dtype)
    assert array.shape == typed.shape
    assert array.tobytes() == bytes(range(128))[: array.nbytes]
    assert bytes(typed.view().tobytes()) == array.tobytes()
    assert array.flags.writeable


def test_read_only_memory_gives_read_only_views(task: aiopip.Task) -> None:
    region = aiopip.Region(hold(ADDRESS + 32), task).cast("u1", 64)
    assert region.readonly
    assert region.view().readonly
    array = np.asarray(region)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize("shape", [129, (65, 2), 2**61, 2**70])
def test_range_outside_the_exporter_is_refused(region: aiopip.Region, shape: Any) -> None:
    with pytest.raises(aiopip.InvalidRegionError, match="'program'") as caught:
        region.cast("u1", shape)
    assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("shape", [0, -1, (3, 0)])
def test_axis_without_items_is_refused(region: aiopip.Region, shape: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="shape"):
        region.cast("u1", shape)


@pytest.mark.parametrize("shape", [True, (2, False), 2.0, "2"])
def test_axis_that_is_no_number_is_refused(region: aiopip.Region, shape: Any) -> None:
    with pytest.raises(TypeError, match=r"^shape: .* is no integer"):
        region.cast("u1", shape)


@pytest.mark.parametrize("dtype", ["O", "nonsense", "V0", "(2,2)f8", [("a", "O")]])
def test_type_without_meaning_in_a_task_is_refused(region: aiopip.Region, dtype: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="dtype"):
        region.cast(dtype, 1)


def test_views_keep_the_memory_after_close(task: aiopip.Task) -> None:
    fake = FakeHold()
    block = fake.block
    region = aiopip.Region(cast("Hold", fake), task)
    del fake
    with region.cast("u1", 8) as typed:
        view = typed.view()
        array = np.asarray(typed)[2:]
    region.close()
    region.close()
    gc.collect()
    assert region.closed
    assert block() is not None
    assert (view[1], array[0]) == (1, 2)
    for use in (region.view, typed.view, lambda: region.cast("u1", 1), lambda: np.asarray(typed)):
        with pytest.raises(aiopip.ClosedError):
            use()
    del view
    assert block() is not None
    del array
    gc.collect()
    assert block() is None


@pytest.mark.parametrize(
    ("code", "typestr"),
    [("d", "<f8"), ("f8", "<f8"), ("<i4", "<i4"), ("B", "|u1"), ("?", "|b1"), ("@q", "<i8")],
)
def test_plain_numbers_need_no_numpy(
    monkeypatch: pytest.MonkeyPatch, region: aiopip.Region, code: str, typestr: str
) -> None:
    monkeypatch.setattr(_dtype, "numpy", lambda: None)
    typed = region.cast(code, 2)
    assert typed.dtype == code
    assert typed.__array_interface__["typestr"] == typestr
    view = typed.view()
    assert view.itemsize == np.dtype(typestr).itemsize
    assert view[1] == struct.unpack_from(view.format, bytes(range(128)), view.itemsize)[0]
    assert np.asarray(typed).dtype == np.dtype(typestr)


@pytest.mark.parametrize("code", ["c16", ">i4", "f16", "", "ii", "<@i", float, "U4"])
def test_others_say_that_they_need_numpy(
    monkeypatch: pytest.MonkeyPatch, region: aiopip.Region, code: Any
) -> None:
    monkeypatch.setattr(_dtype, "numpy", lambda: None)
    with pytest.raises(aiopip.InvalidArgumentError, match="NumPy"):
        region.cast(code, 1)


# Imports


async def test_import_waits_for_the_export(stage: Stage, task: aiopip.Task) -> None:
    waits = [await begun(stage.root.named_import(task, name)) for name in ("grid", "other")]
    stage.client.deliver(Published(0, 1))
    assert task.loaded
    stage.client.imports[b"grid"] = hold()
    stage.client.deliver(Published(0, 1))
    region = await waits[0]
    assert (region.address, region.source) == (ADDRESS, task)
    assert not waits[1].done()
    waits[1].cancel()
    with pytest.raises(cancelled()):
        await waits[1]


async def test_export_before_the_end_is_not_lost(stage: Stage, task: aiopip.Task) -> None:
    found, missing = await begun(task.named_import("a")), await begun(task.named_import("b"))
    stage.client.imports[b"a"] = hold()
    stage.client.deliver(ended(0))
    assert stage.client.calls[-2:] == [("import", 0, b"a"), ("import", 0, b"b")]
    assert (await found).address == ADDRESS
    with pytest.raises(aiopip.ImportCanceledError, match="keep=True"):
        await missing


async def test_cancelled_import_takes_nothing(stage: Stage, task: aiopip.Task) -> None:
    wait = await begun(task.named_import("a"))
    wait.cancel()
    stage.client.deliver(Published(0, 1))  # before the cancelled one has run
    with pytest.raises(cancelled()):
        await wait
    assert stage.calls("import") == [("import", 0, b"a")]


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_hold_of_a_cancelled_import_is_released(stage: Stage, task: aiopip.Task) -> None:
    fake = FakeHold()
    block = fake.block
    wait = await begun(task.named_import("a"))
    stage.client.imports[b"a"] = cast("Hold", fake)
    stage.client.deliver(Published(0, 1))  # hands the hold over
    stage.client.imports.clear()
    del fake
    wait.cancel()
    with pytest.raises(cancelled()):
        await wait
    del wait
    gc.collect()
    assert block() is None


async def test_import_nowait_would_block(stage: Stage, task: aiopip.Task) -> None:
    with pytest.raises(aiopip.WouldBlock, match="'grid'"):
        stage.root.named_import_nowait(task, "grid")
    stage.client.imports[b"grid"] = hold()
    assert stage.root.named_import_nowait(task, "grid").address == ADDRESS


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ECANCELED, errno.ESRCH])
async def test_import_from_an_ended_task_is_canceled(
    stage: Stage, task: aiopip.Task, number: int
) -> None:
    stage.client.deliver(ended(0))
    stage.client.imports[b"grid"] = -number
    with pytest.raises(aiopip.ImportCanceledError):
        task.named_import_nowait("grid")
    with pytest.raises(aiopip.ImportCanceledError):
        await task.named_import("grid")


@pytest.mark.parametrize("name", ["", "x" * 256, "\u00e9" * 128, "\ud800", "a\0b", b"grid", 3])
async def test_name_is_refused(task: aiopip.Task, name: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="name"):
        await task.named_import(name)


@pytest.mark.parametrize("name", ["x" * 255, "\u00e9" * 127, "a b\nc"])
async def test_name_is_taken(stage: Stage, task: aiopip.Task, name: str) -> None:
    stage.client.imports[name.encode()] = hold()
    assert (await task.named_import(name)).address == ADDRESS


@pytest.mark.parametrize("other", [None, 0, "task"])
async def test_what_is_no_task_is_refused(stage: Stage, other: Any) -> None:
    with pytest.raises(aiopip.InvalidTaskError):
        await stage.root.named_import(other, "grid")
    with pytest.raises(aiopip.InvalidTaskError):
        stage.root.named_import_nowait(other, "grid")
