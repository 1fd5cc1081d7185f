"""What travels as a parcel, and what arrives: within one process, for an address is all."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

import aiopip
from aiopip._arrays import describe
from aiopip._parcel import load
from aiopip._pickling import dump
from aiopip._references import memory

GAPS = np.dtype({"names": ["a", "b"], "formats": ["<u2", ">f8"], "offsets": [2, 8], "itemsize": 24})
"""A type with gaps, one of them at the end."""


class Keeper:
    """What a view keeps alive; its end can be seen."""


class Point:
    """A class that a name leads to."""

    def __init__(self, x: Any) -> None:
        self.x = x


def add(left: int, right: int = 0) -> int:
    return left + right


def sent(obj: object) -> Any:
    """What arrives, which keeps the sender's memory as a worker would."""
    parcel = dump(obj)
    return load(parcel.data, parcel.table, lambda index, *_: parcel.keepers[index])


def address(given: Any) -> int:
    return int(np.asarray(given).__array_interface__["data"][0])


def view_of(array: Any) -> memoryview:
    return memoryview(array)


def address_of(view: memoryview) -> int:
    """Of one item, or of an array of a format that NumPy can read."""
    found = np.frombuffer(view, "u1") if view.c_contiguous else np.asarray(view)
    return int(found.__array_interface__["data"][0])


class Held:
    """The hold of an import."""

    def __init__(self, array: Any) -> None:
        self._facts, self._keeper = describe(array)

    def facts(self) -> Any:
        return self._facts

    def memory(self, address: int, size_bytes: int) -> memoryview:
        return memory(address, size_bytes, False, self._keeper)


def region_of(array: Any) -> aiopip.Region:
    return aiopip.Region(cast("Any", Held(array)), 3)
