"""Arrays as addresses, copies on request, and the memory that is kept for them."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import TYPE_CHECKING, Any, cast

import layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.parcels import GAPS, Keeper, Point, address, address_of, region_of, sent, view_of

from aiopip._arrays import describe
from aiopip._copying import copy
from aiopip._parcel import load
from aiopip._pickling import dump
from aiopip._ref import ref
from aiopip._references import memory

if TYPE_CHECKING:
    from pathlib import Path

content: Any = layouts.scope["content"]


# Arrays


@pytest.mark.parametrize("number", range(len(layouts.arrays())))
def test_array_of_every_layout_arrives_in_place(number: int) -> None:
    made = layouts.arrays()[number]
    again = sent(made)
    assert type(again) is np.ndarray
    assert layouts.traits(again) == layouts.traits(made)
    if made.size:
        assert address(again) == address(made)


SCALARS = ["?", "i1", "u2", "<i4", ">i8", "f2", ">f4", "f8", "g", "c8", ">c16", "S3", "U2", "V5"]
SCALARS += ["M8[ns]", "m8[25s]", "q", "Q"]


@st.composite
def views(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """An array, and a view of it by slices, transposed, perhaps broadcast and read only."""
    dtype = np.dtype(draw(st.sampled_from([*SCALARS, GAPS, "3i2"])))
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    order = cast("Any", draw(st.sampled_from("CF")))
    base = dtype.base if dtype.subdtype else dtype
    items = int(np.prod(shape)) * base.itemsize * 3
    seed = np.arange(items % 251 + items, dtype="u1")[:items] % 2
    whole = seed.view(base)[: int(np.prod(shape))].reshape(shape, order=order)
    step = st.sampled_from([1, 2, -1, -2])
    # With ... the result is an array also of no dimensions.
    cuts: Any = (*(slice(draw(st.integers(0, 2)), None) for _ in shape), ...)
    steps: Any = (*(slice(None, None, draw(step)) for _ in shape), ...)
    axes = draw(st.permutations(range(len(shape))))
    view: np.ndarray[Any, Any] = whole[cuts][steps].transpose(axes)
    if draw(st.booleans()):
        view = np.broadcast_to(view, (draw(st.integers(0, 3)), *view.shape))
    elif draw(st.booleans()):
        view.flags.writeable = False
    return view


@settings(max_examples=300, deadline=None)
@given(views())
def test_any_view_arrives_in_place(view: np.ndarray[Any, Any]) -> None:
    again = sent(view)
    assert again.dtype == view.dtype
    assert again.shape == view.shape
    assert again.flags.writeable == view.flags.writeable
    if not view.size:
        return
    assert address(again) == address(view)
    for count, stride, was in zip(view.shape, again.strides, view.strides, strict=True):
        assert stride == was or count == 1
    if view.flags.writeable:
        again[...] = np.zeros((), view.dtype)
        assert content(view) == content(np.zeros_like(view))


@settings(max_examples=100, deadline=None)
@given(views())
def test_any_view_is_copied_on_request(view: np.ndarray[Any, Any]) -> None:
    again = sent(copy(view))
    # NumPy's own reduction gives arrays with gaps this machine's byte order.
    assert again.dtype.newbyteorder("=") == view.dtype.newbyteorder("=")
    assert again.shape == view.shape
    assert content(again) == content(view.astype(again.dtype))
    assert not np.shares_memory(again, view)


def test_writing_shows_on_both_sides() -> None:
    grid = np.zeros((4, 6))
    again = sent(grid[1::2, ::-1])
    again[0, 0] = 5
    assert grid[1, 5] == 5
    grid[3, 0] = 7
    assert again[1, 5] == 7


def test_array_twice_is_one_array() -> None:
    made = np.arange(3)
    first, second = sent((made, made))
    assert first is second


def test_arrays_that_overlap_overlap() -> None:
    made = np.arange(10)
    first, second = sent([made[:6], made[4:]])
    first[5] = -1
    assert second[1] == -1
    assert made[5] == -1


def test_empty_arrays_need_no_pointer() -> None:
    parcel = dump([np.zeros((0, 3)), np.zeros((3, 0), "i2")[::-1]])
    assert parcel.table == b""
    assert parcel.keepers == []


def test_array_that_broadcast_arrays_made_is_read_only() -> None:
    made, _ = np.broadcast_arrays(np.arange(3), np.zeros((2, 3)))
    again = sent(made)  # with warnings as errors
    assert not again.flags.writeable
    assert again.strides == made.strides


def test_types_are_told_whole() -> None:
    for dtype in [np.dtype("f8", metadata={"unit": "m"}), GAPS, np.dtype([("a", "i4", (2,))])]:
        again = sent(np.zeros(3, dtype))
        assert again.dtype == dtype
        assert again.dtype.metadata == dtype.metadata


def test_objects_go_by_value_and_their_arrays_in_place() -> None:
    inner = np.arange(3)
    made = np.array([inner, "text", None], dtype=object)
    again = sent(made)
    assert address(again) != address(made)
    assert address(again[0]) == address(inner)
    assert list(again[1:]) == ["text", None]


def test_items_without_bytes_go_by_value() -> None:
    assert sent(np.zeros(3, "V0")).shape == (3,)


def test_mapped_file_arrives_as_an_array_of_the_mapping(tmp_path: Path) -> None:
    made = np.memmap(tmp_path / "file", dtype="f4", mode="w+", shape=(8, 2))
    again = sent(made[::2])
    assert type(again) is np.ndarray
    again[1] = 3
    assert made[2].tolist() == [3, 3]


def test_subclasses_keep_their_class() -> None:
    masked = np.ma.array([1, 2, 3], mask=[False, True, False])
    again = sent(masked)
    assert type(again) is type(masked)
    assert again.tolist() == [1, None, 3]
    record = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert type(sent(record)) is np.recarray
    assert sent(record).b[0] == 2.0
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1, 2]])
    assert type(sent(matrix)) is np.matrix


def test_in_an_object_it_is_in_place_too() -> None:
    made = np.arange(3)
    assert address(sent(Point({"deep": [made]})).x["deep"][0]) == address(made)


# Copies


def test_copy_has_memory_of_its_own() -> None:
    made = np.arange(100_000)
    again = sent(copy([made, view_of(made), ref(made), region_of(made)]))
    for each in again:
        assert np.array_equal(np.asarray(each), made)
        assert not np.shares_memory(np.asarray(each), made)
    again[0][0] = 5
    again[1][0] = 6
    again[2][0] = 7
    assert made[0] == 0


def test_copy_in_a_copy_is_one() -> None:
    assert sent(copy({"a": copy(b"abc"), "b": [copy(1)]})) == {"a": b"abc", "b": [1]}


def test_copy_beside_a_reference() -> None:
    made = np.arange(3)
    copied, referred = sent((copy(made), made))
    assert address(copied) != address(made) == address(referred)


def test_large_copy_is_made_by_the_receiver() -> None:
    parcel = dump(copy(np.zeros(1_000_000)))
    assert len(parcel.data) < 100
    assert len(parcel.keepers) == 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_copy_is_transparent_to_other_picklers(protocol: int) -> None:
    again = pickle.loads(pickle.dumps(copy(np.arange(100_000)), protocol))
    assert np.array_equal(again, np.arange(100_000))


# Memory


def test_memory_keeps_its_keeper_and_views_do() -> None:
    block = bytearray(b"0123456789")
    keeper = Keeper()
    seen = weakref.ref(keeper)
    view = memory(address_of(memoryview(block)), 10, False, keeper)
    part: Any = np.asarray(view)[2:].reshape(2, 4)[1]
    del keeper, view
    gc.collect()
    part[0] = ord("x")
    assert block == b"012345x789"
    assert seen() is not None
    del part
    assert seen() is None


def test_memory_read_only() -> None:
    block = bytearray(b"0123")
    assert memory(address_of(memoryview(block)), 4, True, None).readonly
    assert memory(0, 0, False, None).nbytes == 0
    assert memory(0, 0, True, None).readonly


@pytest.mark.parametrize(
    "made",
    [np.arange(3), np.arange(6)[::-2], memoryview(bytearray(3)), memoryview(bytearray(9))[::2]],
    ids=["array", "strides", "view", "slice"],
)
def test_memory_is_given_back_with_the_last_view(made: Any) -> None:
    parcel = dump([made, made])
    lent: list[weakref.ref[Keeper]] = []
    asked = []

    def keeper_of(index: int, address: int, size_bytes: int) -> Keeper:
        keeper = Keeper()
        lent.append(weakref.ref(keeper))
        asked.append((index, address, size_bytes))
        return keeper

    again = load(parcel.data, parcel.table, keeper_of)
    assert [index for index, _, _ in asked] == [0]
    part = again[0][1:]
    del again
    assert lent[0]() is not None
    del part
    assert lent[0]() is None


def test_keepers_keep_the_sender_s_memory() -> None:
    made = np.arange(1000)
    seen = weakref.ref(made)
    parcel = dump([made[::2], view_of(made)])
    del made
    gc.collect()
    assert seen() is not None
    assert len(parcel.keepers) * 24 == len(parcel.table) == 48
    del parcel
    assert seen() is None


def test_keepers_are_asked_for_in_order() -> None:
    arrays = [np.arange(3), np.arange(10)[::3], memoryview(b"abc")]
    parcel = dump(arrays)
    asked: list[tuple[int, int, int]] = []
    load(parcel.data, parcel.table, lambda *facts: asked.append(facts))
    facts = [describe(each).facts for each in arrays]
    assert asked == [
        (number, each.start, each.end - each.start) for number, each in enumerate(facts)
    ]


def test_load_takes_foreign_memory_and_lets_go_of_it() -> None:
    made = np.arange(3)
    parcel = dump({"x": made, "y": b"z" * 1000})
    data, table = bytearray(parcel.data), bytearray(parcel.table)
    with memoryview(data) as stream, memoryview(table) as places:
        again = load(stream, places, lambda *_: None)
    data.clear()
    table.clear()
    assert address(again["x"]) == address(made)
    assert again["y"] == b"z" * 1000


def test_load_that_fails_lets_go_of_everything() -> None:
    parcel = dump([np.arange(3), Point(1)])
    data = bytearray(parcel.data.replace(b"Point", b"Joint"))
    table = bytearray(parcel.table)
    keepers: list[weakref.ref[Keeper]] = []

    def keeper_of(*_: int) -> Keeper:
        keeper = Keeper()
        keepers.append(weakref.ref(keeper))
        return keeper

    try:
        load(memoryview(data), memoryview(table), keeper_of)
    except AttributeError as error:
        kept = error  # with its traceback, as a user's variable
    data.clear()
    table.clear()
    assert "Joint" in str(kept)
    assert keepers[0]() is None


def test_error_of_the_keeper_passes() -> None:
    parcel = dump(np.arange(3))

    def keeper_of(*_: int) -> object:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        load(parcel.data, parcel.table, keeper_of)


# Others' buffers


def test_arrow_goes_in_place() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = pyarrow.table({"x": np.arange(1000), "text": ["a", "bc"] * 500})
    again = sent(table)
    assert again.equals(table)
    was, now = (each["x"].chunk(0).buffers()[1] for each in (table, again))
    assert now.address == was.address
    buffer = pyarrow.py_buffer(b"abc")
    assert not sent(buffer).is_mutable
    assert sent(buffer).address == buffer.address


def test_pandas_goes_in_place() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"x": np.arange(10.0), "y": np.arange(10.0), "z": ["a"] * 10})
    for each in (frame, frame[["x"]]):  # of rows with gaps pandas makes a copy itself
        again = sent(each)
        pandas.testing.assert_frame_equal(again, each)
        assert np.shares_memory(again["x"].to_numpy(), frame["x"].to_numpy())
