"""Memoryviews, refs and Regions as addresses, and what may be written to."""

from __future__ import annotations

import array
import ctypes
import mmap
import pickle
import sys
from typing import TYPE_CHECKING, Any

import layouts
import numpy as np
import pytest
from unit.parcels import GAPS, address, address_of, region_of, sent, view_of

import aiopip
from aiopip._arrays import describe
from aiopip._copying import copy
from aiopip._parcel import load
from aiopip._pickling import dump
from aiopip._ref import ref
from aiopip._written import check_written

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


# Memoryviews and refs


VIEWS = [
    memoryview(bytearray(b"0123456789")),
    memoryview(b"0123456789")[2:8],
    memoryview(bytearray(24)).cast("d", (1, 3)),
    memoryview(bytearray(24)).cast("@i", (3, 2)),
    memoryview(b"01234567").cast("d", ()),
    memoryview(bytearray(b"0123456789"))[::3],
    memoryview(bytearray(b"0123456789"))[::-3],
    memoryview(bytearray(48)).cast("h")[20:3:-2],
    memoryview(bytearray(8)).cast("i")[1:1],
    memoryview(b""),
    view_of(np.zeros((0, 3))),
    view_of(np.arange(12.0).reshape(3, 4)[::2, ::-1]),
    view_of(np.asfortranarray(np.ones((3, 2)))),
    view_of(np.broadcast_to(np.arange(3), (4, 3))),
    view_of(np.broadcast_to(np.int32(5), (4,))),
    view_of(np.arange(4, dtype=">i4")),
    view_of(np.zeros(3, GAPS)),
    view_of(np.zeros(3, GAPS)["b"]),
    view_of(np.zeros(3, "f2")),
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.format}-{view.strides}")
def test_memoryview_arrives_in_place(view: memoryview) -> None:
    again = sent(view)
    assert type(again) is memoryview
    for fact in ("format", "shape", "readonly", "nbytes", "itemsize"):
        assert getattr(again, fact) == getattr(view, fact), fact
    assert again.tobytes() == view.tobytes()
    if view.nbytes:
        assert again.strides == view.strides
        again_at, was_at = (address_of(each) for each in (again, view))
        assert again_at == was_at


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.format}-{view.strides}")
def test_memoryview_is_copied_on_request(view: memoryview) -> None:
    again = sent(copy(view))
    for fact in ("format", "shape", "readonly"):
        assert getattr(again, fact) == getattr(view, fact), fact
    # In gaps of a copy anything lies.
    assert again.tobytes() == view.tobytes() or "x" in view.format


@pytest.mark.parametrize("number", range(len(layouts.buffers())))
def test_every_buffer_is_referred_to(number: int) -> None:
    made = layouts.buffers()[number]
    again = sent(ref(made))
    was = view_of(made)
    assert (again.shape, again.itemsize) == (was.shape, was.itemsize)
    assert again.readonly == was.readonly
    assert again.tobytes() == was.tobytes()
    if was.nbytes and not was.readonly:
        assert describe(again).facts.address == describe(made).facts.address


@pytest.mark.parametrize("step", [-2, 2])
def test_slice_is_written_in_place(step: int) -> None:
    numbers = array.array("i", range(6))
    again = sent(memoryview(numbers)[::step])
    again[0] = 100
    assert numbers[-1 if step < 0 else 0] == 100


def test_slices_need_no_numpy(no_numpy: None) -> None:
    assert sent(memoryview(array.array("i", range(6)))[4::-2]).tolist() == [4, 2, 0]


def test_what_numpy_alone_can_say_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    view = memoryview((ctypes.c_int64 * 3)(1, 2, 3))
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(aiopip.InvalidArgumentError, match="needs NumPy"):
        dump(view)


def test_memoryview_of_objects_is_refused() -> None:
    with pytest.raises(pickle.PicklingError, match="format 'O'"):
        dump(view_of(np.array([1, "a"], dtype=object)))


def test_view_may_be_released_while_it_is_lent() -> None:
    memory = bytearray(10)
    with memoryview(memory) as view:
        parcel = dump(view)
    with pytest.raises(BufferError, match="re-sized"):
        memory.append(1)
    del parcel
    memory.append(1)


def test_ref_of_bytearray_arrives_as_its_memory() -> None:
    made = bytearray(b"abc")
    again = sent({"out": ref(made)})["out"]
    again[1] = ord("x")
    assert made == b"axc"
    assert not again.readonly
    assert sent(ref(b"abc")).readonly


def test_ref_of_what_has_no_memory_is_refused_when_it_is_made() -> None:
    for made, says in [
        ([1], "a list has no memory"),
        ("text", "pass it as it is"),
        (np.zeros(2, "M8[s]"), "pass the array as it is"),
        (ref(b""), "it refers to some already"),
    ]:
        with pytest.raises(aiopip.InvalidArgumentError, match=says):
            ref(made)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ref_is_for_pools_alone(protocol: int) -> None:
    with pytest.raises(TypeError, match="aiopip's pools alone"):
        pickle.dumps(ref(b"abc"), protocol)


def test_bytes_go_by_value() -> None:
    made = [b"abc", bytearray(b"def"), array.array("d", [1.0]), "text" * 1000]
    parcel = dump(made)
    assert parcel.table == b""
    assert load(parcel.data, parcel.table, lambda *_: None) == made


def test_large_bytes_go_by_value() -> None:
    made = [bytes(300_000), bytearray(300_000), "x" * 300_000, 1]
    assert sent(made) == made


def test_pickle_buffer_goes_in_place() -> None:
    made = bytearray(b"abc")
    again = sent(pickle.PickleBuffer(made))
    again[0] = ord("x")
    assert made == b"xbc"
    assert sent(pickle.PickleBuffer(b"abc")).readonly


def test_pickle_buffer_with_gaps_is_refused() -> None:
    with pytest.raises(pickle.PicklingError, match="non-contiguous"):
        dump(pickle.PickleBuffer(view_of(np.zeros((4, 4))[::2, ::2])))


# Regions


@pytest.mark.parametrize("wrap", [lambda region: region, ref], ids=["Region", "ref"])
def test_region_arrives_as_the_view_of_it(wrap: Any) -> None:
    grid = np.arange(12.0).reshape(3, 4)
    again = sent(wrap(region_of(grid[::-1])))
    assert type(again) is memoryview
    assert again.tolist() == grid[::-1].tolist()
    assert address(again) == address(grid[::-1])
    grid.flags.writeable = False
    assert sent(wrap(region_of(grid))).readonly


def test_region_without_a_view_arrives_as_an_array() -> None:
    days = np.array(["2026-01-01", "2026-01-02"], "M8[D]")
    again = sent(region_of(days))
    assert type(again) is np.ndarray
    assert address(again) == address(days)
    with pytest.raises(aiopip.InvalidArgumentError, match="pass the array as it is"):
        ref(region_of(days))


def test_region_that_was_closed_is_refused() -> None:
    region = region_of(np.zeros(3))
    region.close()
    with pytest.raises(aiopip.ClosedError):
        dump(region)
    with pytest.raises(aiopip.ClosedError):
        ref(region)


# What is to be written


WRITTEN = [
    None,
    "the name of a file",
    5,
    np.zeros(3),
    np.zeros((4, 4))[::2, ::-1],
    memoryview(bytearray(3)),
    ref(bytearray(3)),
    region_of(np.zeros(3)),
    [np.zeros(3), {"a": (np.zeros(2), None)}],
]


@pytest.mark.parametrize("value", WRITTEN, ids=lambda value: type(value).__name__)
def test_what_goes_in_place_can_be_written(value: Any) -> None:
    check_written("out", value)


def test_mapped_file_can_be_written(tmp_path: Path) -> None:
    made = np.memmap(tmp_path / "file", dtype="f4", mode="w+", shape=(8,))
    check_written("out", made)
    made.flush()
    with pytest.raises(aiopip.InvalidArgumentError, match="read only"):
        check_written("out", np.memmap(tmp_path / "file", dtype="f4", mode="r"))


REFUSED = [
    (bytearray(3), r"out: a bytearray is copied; wrap it in aiopip\.ref\(\)"),
    (array.array("d", [1.0]), r"an array is copied; wrap it in aiopip\.ref\(\)"),
    (mmap.mmap(-1, 10), r"wrap it in aiopip\.ref\(\)"),
    (b"abc", "the bytes is read only"),
    (ref(b"abc"), "the ref is read only"),
    (memoryview(b"abc"), "the memoryview is read only"),
    (np.broadcast_to(np.zeros(1), (3,)), "the array is read only"),
    (region_of(np.broadcast_to(np.zeros(1), (3,))), "the Region is read only"),
    (np.zeros(3, object), "Python objects"),
    (np.ma.array([1]), r"a MaskedArray is copied; .* \.data"),
    (copy(np.zeros(3)), r"a copy is copied, .*pass a numpy\.ndarray"),
    ({1, 2}, "a set is copied"),
    ([], "out: the list is copied, and what is put into it is lost"),
    ([0, 1.5], "out: the list is copied"),
    ({}, "out: the dict is copied"),
    ((np.zeros(3), [0]), r"out\[1\]: the list is copied"),
    ([np.zeros(3), bytearray(2)], r"out\[1\]: a bytearray"),
    ({"a": [b"abc"]}, r"out\['a'\]\[0\]: the bytes"),
]


@pytest.mark.parametrize(("value", "says"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_would_be_copied_is_refused(value: Any, says: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=says) as caught:
        check_written("out", value)
    assert caught.value.argument.startswith("out")
