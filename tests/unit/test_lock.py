"""Where a lock can lie, and who may use it; what it does is seen in tests/integration."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest

import aiopip


def test_new_lock_has_memory_of_its_own() -> None:
    lock = aiopip.Lock()
    assert (lock.memory.nbytes, bytes(lock.memory)) == (aiopip.Lock.SIZE_BYTES, bytes(64))
    assert not lock.memory.readonly
    assert repr(lock).startswith("<aiopip.Lock 0x")


@pytest.mark.parametrize(
    "memory",
    [bytearray(64), np.zeros(8), np.zeros((4, 4)), mmap.mmap(-1, 4096), memoryview(bytearray(80))],
)
def test_lock_takes_any_memory(memory: Any) -> None:
    lock = aiopip.Lock(memory)
    lock.memory[0] = 1
    assert bytes(memoryview(memory).cast("B")[:64]) == b"\1" + bytes(63)


def test_locks_lie_side_by_side() -> None:
    memory = bytearray(128)
    second = aiopip.Lock(memory, offset=64)
    second.memory[0] = 7
    assert memory.index(7) == 64


@pytest.mark.parametrize(
    ("memory", "offset", "why"),
    [
        (bytearray(63), 0, "memory: .*64 bytes; at 0 of 63"),
        (bytearray(64), 8, "memory: .*at 8 of 64"),
        (bytearray(64), -8, "offset: -8 is before"),
        (bytearray(0), 0, "memory: .*at 0 of 0"),
        (bytes(64), 0, "memory: it is read only"),
        (bytearray(100), 4, "offset: .*multiple of 8"),
        (np.zeros(100)[::2], 0, "memory: it is not in one piece"),
        (np.zeros((10, 10), order="F"), 0, "memory: it is not in one piece"),
        (np.zeros(100)[::-1], 0, "memory: it is not in one piece"),
        ("text", 0, "memory: str has no memory"),
        (3, 0, "memory: int has no memory"),
        (np.zeros(8, "O"), 0, "memory: its items .* are references"),
    ],
)
def test_other_memory_is_refused(memory: Any, offset: int, why: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="^" + why):
        aiopip.Lock(memory, offset=offset)


async def test_process_that_is_neither_root_nor_task_has_no_locks() -> None:
    lock = aiopip.Lock()
    for use in (lock.acquire_nowait, lock.acquire_sync, lock.release, lock.recover):
        with pytest.raises(aiopip.NotInitializedError, match="no Root is open"):
            use()
    with pytest.raises(aiopip.NotInitializedError):
        await lock.acquire()
    with pytest.raises(aiopip.NotInitializedError):
        _ = lock.locked
    assert bytes(lock.memory) == bytes(64)
