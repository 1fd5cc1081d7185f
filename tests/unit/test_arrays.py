"""What is said of arrays when they are exported, and what is made of it elsewhere."""

from __future__ import annotations

import array
import ctypes
import mmap
import sys
import types
from typing import Any

import layouts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiopip
from aiopip import _arrays, _dtype
from aiopip._arrays import bounds, describe, row_strides
from aiopip._dtype import decode, encode, layout
from aiopip._ffi import READONLY, TYPED

SCALARS = ["?", "i1", "u2", "<i4", ">i8", "f2", ">f4", "f8", "g", "c8", ">c16", "S3", "U2", "V5"]
SCALARS += ["M8[ns]", "m8[25s]"]


def rebuilt(given: object) -> np.ndarray[Any, Any]:
    """The array that an importer makes: of the facts and the memory alone."""
    facts, keeper = describe(given)
    kind = decode(facts.dtype)
    size = facts.end - facts.start
    memory: Any = (ctypes.c_char * size).from_address(facts.start) if size else bytearray()
    offset = facts.address - facts.start if facts.start else 0
    made: np.ndarray[Any, Any] = np.ndarray(facts.shape, kind.dtype, memory, offset, facts.strides)
    made.flags.writeable = not facts.flags & READONLY
    assert facts.flags & TYPED
    assert keeper is not None
    return made


@pytest.mark.parametrize("number", range(len(layouts.arrays())))
def test_every_layout_is_rebuilt(number: int) -> None:
    made = layouts.arrays()[number]
    again = rebuilt(made)
    assert layouts.traits(again) == layouts.traits(made)
    if made.size:
        assert again.ctypes.data == made.ctypes.data


@pytest.mark.parametrize("number", range(len(layouts.buffers())))
def test_every_buffer_is_rebuilt(number: int) -> None:
    made = layouts.buffers()[number]
    memory = memoryview(made)
    again = rebuilt(made)
    assert (again.shape, again.strides) == (memory.shape, memory.strides)
    assert again.flags.writeable != memory.readonly
    assert again.itemsize == memory.itemsize
    if not memory.format.startswith("T"):
        assert again.tobytes() == memory.tobytes()


@st.composite
def dtypes(draw: st.DrawFn, depth: int = 2) -> Any:
    if depth == 0 or draw(st.booleans()):
        return np.dtype(draw(st.sampled_from(SCALARS)))
    formats = draw(st.lists(dtypes(depth - 1), min_size=1, max_size=3))
    names = draw(
        st.lists(
            st.text(min_size=1, max_size=5), min_size=len(formats), max_size=3, unique=True
        ).filter(lambda found: len(found) == len(formats))
    )
    shapes = [draw(st.sampled_from([(), (2,), (2, 3)])) for _ in formats]
    fields = [(one, shape) if shape else one for one, shape in zip(formats, shapes, strict=True)]
    offsets = [draw(st.integers(0, 40)) for _ in formats]
    size = max(np.dtype(one).itemsize + at for one, at in zip(fields, offsets, strict=True))
    return np.dtype(
        {
            "names": names,
            "formats": fields,
            "offsets": offsets,
            "itemsize": size + draw(st.integers(0, 9)),
        }
    )


@settings(deadline=None, max_examples=100)
@given(dtypes())
def test_any_type_travels_as_text(dtype: Any) -> None:
    text = encode(layout(dtype))
    assert text.isprintable()
    assert decode(text).dtype == dtype
    assert decode(text).itemsize == dtype.itemsize


SLICES = st.builds(
    slice,
    st.none() | st.integers(-6, 6),
    st.none() | st.integers(-6, 6),
    st.sampled_from([-3, -2, -1, 1, 2]),
)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_view_is_rebuilt(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 5), max_size=4))
    dtype = np.dtype(data.draw(st.sampled_from(SCALARS)))
    count = int(np.prod(shape))
    raw = np.resize(np.arange(256, dtype="u1"), count * dtype.itemsize)
    if dtype.kind in "?bUg" or dtype.char == "g":
        raw[:] = 0
    whole = raw.view(dtype).reshape(shape) if count else np.zeros(shape, dtype)
    view: Any = whole.transpose(data.draw(st.permutations(range(len(shape)))))
    index: Any = (..., *(data.draw(SLICES) for _ in shape))  # an array, never an item
    view = view[index]
    if data.draw(st.booleans()):
        view = np.broadcast_to(view, (2, *view.shape))
    again = rebuilt(view)
    assert (again.dtype, again.shape) == (view.dtype, view.shape)
    assert again.tobytes() == view.tobytes()
    assert again.flags.writeable == view.flags.writeable
    low, high = np.lib.array_utils.byte_bounds(view) if view.size else (0, 0)
    facts = describe(view).facts
    assert (facts.start, facts.end) == (low, high)


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((), (), (100, 108)),
        ((3,), (8,), (100, 124)),
        ((3,), (-8,), (84, 108)),
        ((3,), (0,), (100, 108)),
        ((2, 3), (-100, 8), (0, 124)),
        ((2, 0), (8, 8), (0, 0)),
    ],
)
def test_bounds(
    shape: tuple[int, ...], strides: tuple[int, ...], expected: tuple[int, int]
) -> None:
    assert bounds(100, 8, shape, strides) == expected


def test_row_strides() -> None:
    assert row_strides(8, (2, 3, 4)) == (96, 32, 8)
    assert row_strides(8, ()) == ()


class Pointers(ctypes.Structure):
    _fields_ = (("next", ctypes.POINTER(ctypes.c_int)),)


class Bits(ctypes.Structure):
    _fields_ = (("low", ctypes.c_int, 3),)


class Objects(ctypes.Structure):
    _fields_ = (("one", ctypes.py_object),)


def released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


def closed() -> mmap.mmap:
    made = mmap.mmap(-1, 4096)
    made.close()
    return made


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "NoneType has no memory"),
        (3, "int has no memory"),
        ("text", "str has no memory"),
        ([1, 2], "list has no memory"),
        (object(), "object has no memory"),
        (np.array([None]), "references to objects"),
        (np.zeros(2, [("a", "i4"), ("o", "O")]), "references to objects"),
        (np.ma.masked_array([1, 2], [True, False]), "masked array is two"),
        (np.zeros(3, "V0"), "V0"),
        (Pointers(), "pointers have no dtype"),
        ((ctypes.POINTER(ctypes.c_int) * 2)(), "pointers have no dtype"),
        (Bits(), "bitfields have no dtype"),
        (Objects(), "references to objects"),
        (memoryview(bytes(8)).cast("P"), "does not know format 'P'"),
        (released(), "memoryview has no memory"),
        (closed(), "mmap has no memory"),
    ],
)
def test_what_means_nothing_elsewhere_is_refused(given: object, why: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=why) as caught:
        describe(given, "memory")
    assert str(caught.value).startswith("memory: ")


def test_records_become_plain_structures() -> None:
    made = np.rec.array([(1, 2.0)], dtype=[("i", "i4"), ("f", "f8")])
    assert rebuilt(made).dtype == np.dtype([("i", "i4"), ("f", "f8")])


def test_memory_stays_where_it_is() -> None:
    made = bytearray(100)
    kept = describe(made)
    with pytest.raises(BufferError):
        made.extend(bytes(1000))
    numbers = array.array("i", [1])
    with describe(numbers).keeper, pytest.raises(BufferError):  # type: ignore[attr-defined]
        numbers.append(2)
    grown = np.zeros(10)
    view = describe(grown)
    with pytest.raises(ValueError, match="resize"):
        grown.resize(1000)
    del kept, view


# Without NumPy


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert _dtype.numpy() is None


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        (b"abc", "1 |u1"),
        (bytearray(3), "1 |u1"),
        (array.array("d", [1.5]), "8 <f8"),
        (array.array("l", [1]), "8 <i8"),
        (memoryview(bytes(16)).cast("I", (2, 2)), "4 <u4"),
        ((ctypes.c_double * 3)(), "8 <f8"),
        (memoryview(b"12345678")[2:4], "1 |u1"),
        (b"", "1 |u1"),
    ],
)
def test_plain_numbers_need_no_numpy(no_numpy: None, made: Any, dtype: str) -> None:
    memory = memoryview(made)
    facts = describe(made).facts
    assert facts.dtype == dtype
    assert (facts.shape, facts.strides) == (memory.shape, memory.strides)
    assert facts.end - facts.start == memory.nbytes
    assert bool(facts.flags & READONLY) == memory.readonly
    found = decode(dtype)
    assert (found.itemsize, found.dtype) == (memory.itemsize, dtype.split()[1])


def test_numpy_may_be_halfway_through_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    assert describe(bytearray(3)).facts.dtype == "1 |u1"


@pytest.mark.parametrize("made", [memoryview(b"1234")[::2], memoryview(b"1234")[::-1]])
def test_strides_need_numpy(no_numpy: None, made: memoryview) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^memory: format 'B'.* needs NumPy"):
        describe(made, "memory")


@pytest.mark.parametrize(
    ("text", "code", "typestr"),
    [
        ("8 <f8", "d", "<f8"),
        ("1 |u1", "B", "|u1"),
        ("1 |b1", "?", "|b1"),
        ("4 >i4", None, ">i4"),
        ("16 <c16", None, "<c16"),
        ("8 <M8[s]", None, "<M8[s]"),
        ("12 {'names': ['a'], 'formats': ['<i4'], 'offsets': [8], 'itemsize': 12}", None, "|V12"),
    ],
)
def test_any_text_is_read_without_numpy(
    no_numpy: None, text: str, code: str | None, typestr: str
) -> None:
    found = decode(text)
    assert (found.code, found.typestr, found.itemsize) == (
        code,
        typestr,
        int(text.split(maxsplit=1)[0]),
    )


def test_ctypes_base_is_what_it_is_taken_for() -> None:
    for kind in (ctypes.c_int, ctypes.c_int * 2, Bits, ctypes.POINTER(ctypes.c_int)):
        assert issubclass(kind, _arrays._CTYPES)
