"""Arrays of every layout; tests run the text in several processes, which must agree."""

from __future__ import annotations

from typing import Any

SOURCE = """
import array, ctypes, mmap
import numpy as np

class Point(ctypes.Structure):
    _fields_ = [("tag", ctypes.c_int8), ("x", ctypes.c_double), ("next", ctypes.c_void_p)]

def fixed(made):
    made.flags.writeable = False
    return made

def arrays():
    grid = np.arange(60.0).reshape(3, 4, 5)
    gaps = np.dtype({"names": ["a", "b"], "formats": ["<u2", ">f8"], "offsets": [2, 8],
                     "itemsize": 24})
    laps = np.dtype({"names": ["all", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0]})
    nested = np.dtype([("p", [("x", "f4"), ("n", "S3")]), ("m", "i4", (2, 3))])
    raw = np.arange(240, dtype="u1")
    mapped = mmap.mmap(-1, 4096)
    mapped[:5] = b"abcde"
    return [
        grid, np.asfortranarray(grid), grid[::-1], grid[::2, ::-1, 1:4], grid.transpose(1, 2, 0),
        grid[1, 2, 3:4], grid[0, 0, 0:1].reshape(()), np.array(7, "i2"), np.zeros((0, 3)),
        np.zeros((3, 0), order="F"), np.broadcast_to(np.arange(3), (4, 3)), fixed(np.ones(5)),
        np.diagonal(grid[0, :4, :4]),
        np.lib.stride_tricks.sliding_window_view(np.arange(8), 3),
        raw.view(gaps), raw[:40].view(laps), raw[:42 * 5].view(nested) if nested.itemsize == 42
        else np.zeros(2, nested), raw.view(gaps)["b"], raw.view(gaps)[::-2],
        np.array(["2026-01-01", "NaT"], "M8[D]"), np.arange(4, dtype="m8[25s]"),
        np.array(["ab", "\\u00e9\\U0001f600"]), np.array([b"ab", b"c"]), raw[:14].view("V7"),
        np.arange(4, dtype="f2"), np.arange(4, dtype="c8"), np.arange(4, dtype="c16"),
        raw[:64].view("longdouble"), np.arange(4, dtype=">i4"), np.arange(4, dtype=">f8"),
        np.array([True, False]), np.arange(4, dtype="i1"), np.arange(4, dtype="u8"),
        np.zeros(1), np.zeros((1,) * 32),
    ]

def buffers():
    mapped = mmap.mmap(-1, 4096)
    mapped[:5] = b"abcde"
    return [
        b"bytes", bytearray(b"bytearray"), array.array("d", [1, 2]), array.array("H", [3]),
        array.array("l", [-1, -2]), memoryview(b"0123456789")[2:8],
        memoryview(b"01234567").cast("I"), memoryview(bytearray(b"0123456789"))[::-3],
        memoryview(bytearray(24)).cast("d", (1, 3)), b"", (ctypes.c_int64 * 3)(1, 2, 3),
        (ctypes.c_double * 2 * 3)(), (Point * 2)(),
        Point(1, 2.0, 3), ctypes.c_int16(-5), (ctypes.c_char * 4)(*b"abcd"), mapped,
        np.float32(1.5),
    ]

def content(made):
    # Of a structure with gaps a copy has whatever lay there.
    names = made.dtype.names
    return b"".join(content(made[name]) for name in names) if names else made.tobytes()

def traits(region):
    made = np.asarray(region)
    # Of an array without items the buffer protocol gives any strides.
    strides = made.strides if made.size else ()
    return (repr(made.dtype), made.shape, strides, made.flags.writeable, content(made).hex())
"""

scope: dict[str, Any] = {}
exec(SOURCE, scope)
arrays, buffers, traits = scope["arrays"], scope["buffers"], scope["traits"]
