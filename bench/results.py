"""What comes out of a run: a summary of each measure, and ratios between peers."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from typing import TYPE_CHECKING, Any

from bench import BUILD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.machine import Facts
    from bench.runner import Rounds

FILE = BUILD / "results.json"


@dataclasses.dataclass(frozen=True)
class Summary:
    """One measure of one peer.

    Attributes:
        count: how many samples there are in all.
        median: of all.
        p99: 99 of 100 are not above it; the greatest where there are fewer than 100.
        least: the smallest.
        rounds: the median of each round.
    """

    count: int
    median: float
    p99: float
    least: float
    rounds: tuple[float, ...]


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """Sum up the samples of all rounds."""
    every = sorted(sample for samples in rounds for sample in samples)
    return Summary(
        count=len(every),
        median=statistics.median(every),
        p99=every[math.ceil(0.99 * len(every)) - 1],
        least=every[0],
        rounds=tuple(statistics.median(samples) for samples in rounds),
    )


Measures = dict[str, Summary]


@dataclasses.dataclass
class Results:
    """A run.

    Attributes:
        machine: where.
        when: the time at which it began, as ISO 8601 has it.
        cases: by case and peer, the measures.
        missing: by peer, why it took no part.
        failed: what went wrong, a line a case, which has no results then.
    """

    machine: Facts
    when: str
    cases: dict[str, dict[str, Measures]] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: list[str] = dataclasses.field(default_factory=list)

    def add(self, case: str, rounds: Rounds) -> None:
        """Sum up what the rounds of a case have given."""
        self.cases[case] = {
            peer: {name: summarise([one[name] for one in samples]) for name in samples[0]}
            for peer, samples in rounds.items()
        }

    def get(self, case: str, peer: str, measure: str) -> Summary | None:
        """A measure, None when it was not taken."""
        return self.cases.get(case, {}).get(peer, {}).get(measure)

    def median(self, case: str, peer: str, measure: str) -> float | None:
        """A measure's median, None when it was not taken."""
        summary = self.get(case, peer, measure)
        return None if summary is None else summary.median

    def ratio(self, case: str, measure: str, ours: str, theirs: str) -> float | None:
        """How many times theirs ours is; None when one of them was not taken."""
        return ratio(self.get(case, ours, measure), self.get(case, theirs, measure))

    def write(self, path: Path = FILE) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def ratio(ours: Summary | None, theirs: Summary | None) -> float | None:
    """How many times theirs ours is: the median of the ratios of each round.

    Both ran within seconds in a round, so what the machine did beside that cancels out.
    """
    if ours is None or theirs is None:
        return None
    if len(ours.rounds) != len(theirs.rounds):
        return ours.median / theirs.median
    pairs = zip(ours.rounds, theirs.rounds, strict=True)
    return statistics.median(one / other for one, other in pairs)


def read(path: Path = FILE) -> Results:
    """Read what `Results.write` has written."""
    raw: dict[str, Any] = json.loads(path.read_text())
    for peers in raw["cases"].values():
        for measures in peers.values():
            for name, fields in measures.items():
                measures[name] = Summary(**fields | {"rounds": tuple(fields["rounds"])})
    return Results(**raw)
