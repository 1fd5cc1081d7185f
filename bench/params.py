"""How a quantity is measured in one fresh process."""

from __future__ import annotations

import dataclasses

Samples = dict[str, list[float]]
"""What one process has measured, by the measure's name, which ends in its unit."""


@dataclasses.dataclass(frozen=True)
class Params:
    """How to measure.

    Attributes:
        program: what is started: a name of `bench.programs`, or a path, and its arguments.
        count: how many samples to take, or processes to start.
        warm: how many are started before, and not counted.
        in_flight: how many run at once.
        resident_bytes: memory that the parent has touched beforehand.
        alive: how many others sleep meanwhile.
        size_bytes: of the array.
        workers: how many a pool has.
        chunk: how many calls are handed over at a time.
    """

    program: tuple[str, ...] = ("zero",)
    count: int = 100
    warm: int = 10
    in_flight: int = 1
    resident_bytes: int = 0
    alive: int = 0
    size_bytes: int = 0
    workers: int = 1
    chunk: int = 1
