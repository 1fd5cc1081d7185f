"""What is measured of pools of workers, with whom: a part of `bench.catalogue`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.case import Case
from bench.params import Params

if TYPE_CHECKING:
    from collections.abc import Iterable

OURS = ("pool", "executor")
EXECUTORS = ("process-pool", "mp-pool", "loky", "interpreters")
"""Others whose calls can be made without an event loop."""

WITH_NUMPY = ("process-pool", "mp-pool", "loky", "to_process")
"""Others that have processes, into which NumPy can be loaded; into an interpreter it cannot."""

STARTED = ("process-pool", "process-pool-spawn", "mp-pool", "loky", "to_process", "interpreters")
"""Others whose workers take time to start, as threads do not."""

WORKERS = 2
READY = 8


def cases() -> Iterable[Case]:
    """All that is measured of pools."""
    yield from _calls()
    yield from _arrays()
    yield from _maps()
    yield from _workers()


def _calls() -> Iterable[Case]:
    yield Case(
        "pool-call",
        "a call that does nothing, awaited",
        "us",
        Params(count=1000, warm=200, workers=WORKERS),
        (*OURS, *EXECUTORS, "to_process", "to_thread"),
    )
    yield Case(
        "pool-submit",
        "the same without a loop: `submit().result()`",
        "us",
        Params(count=1000, warm=200, workers=WORKERS),
        ("executor", *EXECUTORS),
    )


ARRAY_MIB = (64, 1024)


def _arrays() -> Iterable[Case]:
    for mebibytes in ARRAY_MIB:
        size = f"{mebibytes} MiB" if mebibytes < 1024 else "1 GiB"
        # Those that copy a gibibyte take half a minute for it, and seven of memory.
        others = () if mebibytes == 1024 else WITH_NUMPY
        yield Case(
            f"pool-array/{mebibytes}",
            f"a call with an array of {size} that returns another one",
            "us",
            Params(count=100, warm=10, workers=1, size_bytes=mebibytes << 20),
            (*OURS, *others, "to_thread"),
            rounds=2,
        )


CHUNKS = (1, 100)


def _maps() -> Iterable[Case]:
    for chunk in CHUNKS:
        yield Case(
            f"pool-map/{chunk}",
            f"100,000 small calls by `map`, {chunk} at a time",
            "per_s",
            Params(count=100_000, warm=1000, workers=WORKERS, chunk=chunk),
            (*OURS, *EXECUTORS),
            rounds=2 if chunk == 1 else 3,
        )


def _workers() -> Iterable[Case]:
    yield Case(
        "pool-start",
        f"{READY} workers ready",
        "ms",
        Params(count=1, warm=0, workers=READY),
        (*OURS, *STARTED, "bare"),
    )
    yield Case(
        "pool-memory",
        "private memory of an idle worker with NumPy",
        "private_kib",
        Params(count=1, warm=0, workers=1),
        ("pool", *WITH_NUMPY, "process-pool-spawn", "bare"),
        rounds=3,
    )
