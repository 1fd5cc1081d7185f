"""Tables of a run, as text that is Markdown too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import machine
from bench.catalogue import CASES
from bench.goals import GOALS, OURS
from bench.peers import ABOUT
from bench.results import ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.results import Results

SHORT_PEERS = ("aiopip", "asyncio", "uvloop", "anyio", "trio", "c")
"""The columns of the README's table."""

SHORT_CASES = (
    *("spawn/zero", "spawn/true", "spawn/python", "spawn/resident"),
    *("throughput/32", "exit"),
)
"""Its rows."""

UNITS = {"us": "us", "ms": "ms", "s": "s", "kib": "KiB"}


def full(results: Results) -> str:
    """All that was measured, and the goals."""
    parts = [f"{machine.sentence(results.machine)}; load {results.machine['load']}"]
    parts += [_case(results, name) for name in results.cases]
    parts += [f"{ABOUT.get(peer, peer)}: {reason}" for peer, reason in results.missing.items()]
    return "\n\n".join([*parts, *goals(results)])


def _case(results: Results, name: str) -> str:
    """A table a measure: its peers, how they compare with us."""
    peers, tables = results.cases[name], []
    measures = dict.fromkeys(measure for found in peers.values() for measure in found)
    for measure in measures:
        ours = results.get(name, OURS, measure)
        rows = []
        for peer, found in peers.items():
            if (summary := found.get(measure)) is None:
                continue
            times = ratio(summary, ours)
            rows.append(
                (
                    ABOUT.get(peer, peer),
                    number(summary.median, measure),
                    number(summary.p99, measure) if summary.count > len(summary.rounds) else "",
                    "" if times is None else f"{times:.2f}",
                    f"{summary.count}",
                )
            )
        heads = (f"{name} {measure}", "median", "p99", "times aiopip's", "samples")
        tables.append(f"{CASES[name].about}:\n\n{table(heads, rows)}")
    return "\n\n".join(tables)


def goals(results: Results) -> list[str]:
    """A paragraph about what is to be reached; none when nothing of it was measured."""
    lines = [line for goal in GOALS if (line := goal.verdict(results)) is not None]
    return ["\n".join(lines)] if lines else []


def short(results: Results) -> str:
    """The README's table."""
    rows = []
    for name in SHORT_CASES:
        case = CASES[name]
        values = [results.median(name, peer, case.measure) for peer in SHORT_PEERS]
        cells = ["" if value is None else number(value, case.measure) for value in values]
        if any(cells):
            rows.append((case.about, *cells))
    heads = ("median", *(ABOUT[peer] for peer in SHORT_PEERS))
    return f"{table(heads, rows)}\n\n{machine.sentence(results.machine)}."


def number(value: float, measure: str) -> str:
    """A number with its unit, which the measure's name ends in."""
    unit = measure.rpartition("_")[2]
    for small, great in (("us", "ms"), ("ms", "s")):
        if unit == small and value >= 1000:
            value, unit = value / 1000, great
    digits = 0 if value >= 100 or float(value).is_integer() else 1 if value >= 10 else 2
    shown = f"{value:,.{digits}f}"
    return f"{shown}/s" if measure == "per_s" else f"{shown} {UNITS.get(unit, '')}".strip()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: the first column to the left, numbers to the right."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        shown = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return f"| {' | '.join(shown)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(heads), f"| {' | '.join(rule)} |", *map(line, rows)])
