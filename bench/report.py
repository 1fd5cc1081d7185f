"""Tables of a run, as text that is Markdown too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import machine
from bench.catalogue import CASES
from bench.goals import GOALS
from bench.peers import ABOUT
from bench.results import ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.results import Results

SHORT_PEERS = ("aiopip", "asyncio", "uvloop", "anyio", "trio", "c")
"""The columns of the README's table of processes."""

SHORT_ROWS = {
    ("spawn/zero", "us"): "spawn to exit awaited, `return 0`",
    ("spawn/true", "us"): "the same, `/bin/true`",
    ("spawn/python", "us"): "the same, `python3 -S -c pass`",
    ("spawn/resident", "us"): "`return 0`, 1 GiB resident in the parent",
    ("throughput/32", "per_s"): "1,000 x `return 0`, 32 in flight",
    ("exit", "us"): "exit to awaited",
    ("sleeping", "spawn_ms"): "1,000 that sleep: all started",
    ("sleeping", "reap_ms"): "1,000 that sleep: killed and reaped",
    ("sections", "longest_us"): "longest time that the loop stands still",
}
"""Its rows, by case and measure."""

POOL_PEERS = (
    *("pool", "executor", "process-pool", "process-pool-spawn", "mp-pool", "loky"),
    *("to_process", "to_thread", "interpreters", "bare"),
)
"""The columns of its table of pools; none that has not been measured."""

POOL_ROWS = {
    ("pool-call", "us"): "a call that does nothing, awaited",
    ("pool-submit", "us"): "the same without a loop",
    ("pool-array/64", "us"): "64 MiB in, 64 MiB out",
    ("pool-array/1024", "us"): "1 GiB in, 1 GiB out",
    ("pool-map/1", "per_s"): "100,000 calls by `map`",
    ("pool-map/100", "per_s"): "the same, 100 at a time",
    ("pool-start", "ms"): "8 workers ready; 8 x `python -c pass`",
    ("pool-memory", "private_kib"): "private memory, with NumPy",
}
"""Its rows."""

CONTROLS = {
    "control_us": "a bare clone in as many mappings",
    "import_us": "aiopip, import of what is exported",
}
"""What rows of measures are called that are not a case's own."""

UNITS = {"us": "us", "ms": "ms", "s": "s", "kib": "KiB"}


def full(results: Results) -> str:
    """All that was measured, and the goals."""
    parts = [f"{machine.sentence(results.machine)}; load {results.machine['load']}"]
    parts += [_case(results, name) for name in results.cases]
    parts += [f"{ABOUT.get(peer, peer)}: {reason}" for peer, reason in results.missing.items()]
    return "\n\n".join([*parts, *goals(results)])


def _case(results: Results, name: str) -> str:
    """A table a measure; one for all measures, when a process takes but one sample of each."""
    peers = results.cases[name]
    measures = list(dict.fromkeys(measure for found in peers.values() for measure in found))
    single = all(
        summary.count == len(summary.rounds)
        for found in peers.values()
        for summary in found.values()
    )
    if single and len(measures) > 1:
        tables = [_overview(results, name, measures)]
    else:
        tables = [_compared(results, name, measure) for measure in measures]
    return "\n\n".join([f"{CASES[name].about}:", *tables])


def _overview(results: Results, case: str, measures: list[str]) -> str:
    """The medians of all measures."""
    rows = [
        (
            ABOUT.get(peer, peer),
            *(number(found[one].median, one) if one in found else "" for one in measures),
        )
        for peer, found in results.cases[case].items()
    ]
    return table((case, *measures), rows)


def _compared(results: Results, case: str, measure: str) -> str:
    """One measure: how the peers compare with the first of them, which is ours."""
    peers = results.cases[case]
    ours = next(iter(peers))
    rows = []
    for peer, found in peers.items():
        if (summary := found.get(measure)) is None:
            continue
        times = ratio(summary, results.get(case, ours, measure))
        rows.append(
            (
                ABOUT.get(peer, peer),
                number(summary.median, measure),
                number(summary.p99, measure) if summary.count > len(summary.rounds) else "",
                "" if times is None else f"{times:.2f}",
                f"{summary.count}",
            )
        )
    return table((f"{case} {measure}", "median", "p99", "times the first", "samples"), rows)


def goals(results: Results) -> list[str]:
    """A paragraph about what is to be reached; none when nothing of it was measured."""
    lines = [line for goal in GOALS if (line := goal.verdict(results)) is not None]
    return ["\n".join(lines)] if lines else []


def short(results: Results) -> str:
    """The README's tables: of processes, and of pools of workers."""
    measured = {peer for peers in results.cases.values() for peer in peers}
    pools = [peer for peer in POOL_PEERS if peer in measured]
    tables = (_medians(results, SHORT_ROWS, SHORT_PEERS), _medians(results, POOL_ROWS, pools))
    return "\n\n".join(filter(None, (*tables, f"{machine.sentence(results.machine)}.")))


def _medians(results: Results, chosen: Mapping[tuple[str, str], str], peers: Sequence[str]) -> str:
    """A table of medians: a row a case and measure, a column a peer."""
    rows = []
    for (case, measure), about in chosen.items():
        values = [results.median(case, peer, measure) for peer in peers]
        cells = ["" if value is None else number(value, measure) for value in values]
        if any(cells):
            rows.append((about, *cells))
    return table(("median", *(ABOUT[peer] for peer in peers)), rows) if rows else ""


def page(results: Results) -> str:
    """What docs/performance.md shows: the short tables, the goals, and what has a variable."""
    parts = [short(results)]
    if verdicts := goals(results):
        parts.append("\n".join(f"- {line}" for line in verdicts[0].splitlines()))
    grids = (("throughput", "in flight"), ("alive", "others alive"), ("import", "MiB"))
    parts += [_grid(results, quantity, about) for quantity, about in grids]
    return "\n\n".join(filter(None, parts))


def _grid(results: Results, quantity: str, about: str) -> str:
    """A table of a quantity's cases: a column each, and a row a peer and measure."""
    cases = [name for name in results.cases if name.partition("/")[0] == quantity]
    rows = {}
    for peer, measure in dict.fromkeys(
        (peer, measure)
        for case in cases
        for peer, measures in results.cases[case].items()
        for measure in measures
    ):
        label = ABOUT.get(peer, peer) if measure == CASES[cases[0]].measure else CONTROLS[measure]
        medians = [results.median(case, peer, measure) for case in cases]
        rows[label] = ["" if one is None else number(one, measure) for one in medians]
    if not rows:
        return ""
    heads = [f"`{quantity}`", *(f"{int(case.partition('/')[2]):,} {about}" for case in cases)]
    return table(heads, [(label, *cells) for label, cells in rows.items()])


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
