"""What is to be reached, and how far a run is from it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bench.catalogue import ALIVE, IN_FLIGHT
from bench.peers import ABOUT
from bench.pool_catalogue import ARRAY_MIB, CHUNKS
from bench.pool_catalogue import OURS as POOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.results import Results

OURS = "aiopip"


@dataclasses.dataclass(frozen=True)
class Goal:
    """One number that is to be reached.

    Attributes:
        about: what the number is.
        bound: what it is to be at the most, or at the least.
        value: takes it from a run; None when that lacks it.
        at_least: whether more is better.
        unit: of the number; it is a ratio when there is none.
    """

    about: str
    bound: float
    value: Callable[[Results], float | None]
    at_least: bool = False
    unit: str = ""

    def verdict(self, results: Results) -> str | None:
        """A line about it; None when the run has not measured it."""
        value = self.value(results)
        if value is None:
            return None
        sign = ">=" if self.at_least else "<="
        return (
            f"{self.about}: {_number(value)}{self.unit} "
            f"(goal {sign} {_number(self.bound)}{self.unit}): {self._distance(value)}"
        )

    def _distance(self, value: float) -> str:
        if value >= self.bound if self.at_least else value <= self.bound:
            return "met"
        return f"missed by {abs(value / self.bound - 1):.0%}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _ratio(
    case: str, theirs: str, measure: str = "us", ours: str = OURS
) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(case, measure, ours, theirs)


def _best_rate(theirs: str) -> Callable[[Results], float | None]:
    """The throughput at the best number in flight, to theirs with 32."""

    def value(results: Results) -> float | None:
        rates = [results.median(f"throughput/{count}", OURS, "per_s") for count in IN_FLIGHT]
        other = results.median("throughput/32", theirs, "per_s")
        best = max((rate for rate in rates if rate is not None), default=None)
        return None if best is None or other is None else best / other

    return value


def _exit_to_bell(results: Results) -> float | None:
    exits, bells = (results.median("exit", OURS, measure) for measure in ("us", "bell_us"))
    return None if exits is None or bells is None else exits / bells


def _reap_to_control(results: Results) -> float | None:
    reap, bare = (results.median("sleeping", OURS, name) for name in ("reap_ms", "control_reap_ms"))
    return None if reap is None or bare is None else reap / bare


def _own_part(alive: int) -> Callable[[Results], float | None]:
    """What a spawn takes more with others alive, beyond what the kernel does, of one with none."""

    def value(results: Results) -> float | None:
        few, many = f"alive/{ALIVE[0]}", f"alive/{alive}"
        medians = [
            results.median(case, OURS, name)
            for name in ("us", "control_us")
            for case in (few, many)
        ]
        taken = [median for median in medians if median is not None]
        if len(taken) < len(medians):
            return None
        alone, among, bare_alone, bare_among = taken
        return ((among - alone) - (bare_among - bare_alone)) / alone

    return value


def _median(case: str, measure: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(case, OURS, measure)


def _section(results: Results) -> float | None:
    found = results.get("sections", OURS, "longest_us")
    return None if found is None else found.p99


def _beyond_nothing(pool: str) -> Callable[[Results], float | None]:
    """What a call with arrays takes more than one that does nothing, in milliseconds."""
    case = f"pool-array/{ARRAY_MIB[-1]}"

    def value(results: Results) -> float | None:
        array, nothing = (results.median(case, pool, name) for name in ("us", "nothing_us"))
        return None if array is None or nothing is None else (array - nothing) / 1000

    return value


def _of_pools() -> Iterable[Goal]:
    """Of each of our pools what it is meant for."""
    stock, pool, executor = "process-pool", *POOLS
    yield Goal(
        "a call awaited, of ProcessPoolExecutor's", 0.3, _ratio("pool-call", stock, ours=pool)
    )
    yield Goal("a call awaited, of to_thread's", 1.2, _ratio("pool-call", "to_thread", ours=pool))
    yield Goal(
        "a call without a loop, of ProcessPoolExecutor's",
        0.4,
        _ratio("pool-submit", stock, ours=executor),
    )
    for ours in POOLS:
        about = f"{ABOUT[ours]}: 1 GiB in and 1 GiB out, beyond the call"
        yield Goal(about, 1, _beyond_nothing(ours), unit=" ms")
    for chunk in CHUNKS:
        for ours in POOLS:
            about = f"{ABOUT[ours]}: calls a second by map, {chunk} at a time"
            rate = _ratio(f"pool-map/{chunk}", stock, "per_s", ours)
            yield Goal(f"{about}, of ProcessPoolExecutor's", 3, rate, True)
    for ours in POOLS:
        about = f"{ABOUT[ours]}: 8 workers ready, of 8 x `python -c pass`"
        yield Goal(about, 1.15, _ratio("pool-start", "bare", "ms", ours))
    memory = _ratio("pool-memory", "bare", "private_kib", pool)
    yield Goal("a worker's private memory with NumPy, of a process's", 1.0, memory)


GOALS = (
    Goal("spawn to exit awaited, of asyncio's", 0.40, _ratio("spawn/zero", "asyncio")),
    Goal("spawn to exit awaited, of uvloop's", 0.13, _ratio("spawn/zero", "uvloop")),
    Goal("spawn to exit awaited, of C posix_spawn's", 0.55, _ratio("spawn/zero", "c")),
    Goal("throughput at the best in flight, of asyncio's", 1.5, _best_rate("asyncio"), True),
    Goal("throughput at the best in flight, of C posix_spawn's", 1.0, _best_rate("c"), True),
    Goal("exit to awaited, of a thread's eventfd", 2.0, _exit_to_bell),
    Goal("exit to awaited, of asyncio's", 0.5, _ratio("exit", "asyncio")),
    Goal("100 alive, what our code adds to a spawn", 0.10, _own_part(100)),
    Goal("1,000 alive, what our code adds to a spawn", 0.10, _own_part(1000)),
    Goal("1,000 sleeping, started, of asyncio's", 0.6, _ratio("sleeping", "asyncio", "spawn_ms")),
    Goal("1,000 sleeping, reaped, of as many bare clones", 1.1, _reap_to_control),
    Goal("1,000 sleeping, descriptors in the loop", 1, _median("sleeping", "loop_descriptors")),
    Goal("1,000 sleeping, native threads", 2, _median("sleeping", "threads")),
    Goal("longest section on the loop's thread, p99", 200, _section, unit=" us"),
    *_of_pools(),
)
