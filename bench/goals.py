"""What is to be reached, and how far a run is from it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bench.catalogue import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

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


def _ratio(case: str, theirs: str, measure: str = "us") -> Callable[[Results], float | None]:
    return lambda results: results.ratio(case, measure, OURS, theirs)


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


GOALS = (
    Goal("spawn to exit awaited, of asyncio's", 0.40, _ratio("spawn/zero", "asyncio")),
    Goal("spawn to exit awaited, of uvloop's", 0.13, _ratio("spawn/zero", "uvloop")),
    Goal("spawn to exit awaited, of C posix_spawn's", 0.55, _ratio("spawn/zero", "c")),
    Goal("throughput at the best in flight, of asyncio's", 1.5, _best_rate("asyncio"), True),
    Goal("throughput at the best in flight, of C posix_spawn's", 1.0, _best_rate("c"), True),
    Goal("exit to awaited, of a thread's eventfd", 2.0, _exit_to_bell),
    Goal("exit to awaited, of asyncio's", 0.5, _ratio("exit", "asyncio")),
)
