"""What the bench makes of samples: medians, ratios, verdicts, tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

if TYPE_CHECKING:
    from bench.results import Results

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the bench found, which is not installed."""
    monkeypatch.syspath_prepend(str(CHECKOUT))
    import bench

    assert Path(bench.__file__).parent == CHECKOUT / "bench"


def made(**medians: list[float]) -> Results:
    """Results in which peers have measured `spawn/zero`, a sample a round."""
    results = empty()
    rounds = {peer: [{"us": [value]} for value in values] for peer, values in medians.items()}
    results.add("spawn/zero", rounds)
    return results


def empty() -> Results:
    """Results of no case."""
    from bench.results import Results

    facts = ("processor", "memory", "kernel", "libc", "python", "load")
    packages = ("uvloop", "anyio", "trio", "loky")
    return Results(dict.fromkeys((*facts, *packages), "?"), "2026-01-01T00:00:00+00:00")


def test_summary_is_of_all_rounds() -> None:
    from bench.results import summarise

    summary = summarise([[float(n) for n in range(1, 101)], [float(n) for n in range(101, 201)]])
    assert (summary.count, summary.least, summary.median, summary.p99) == (200, 1, 100.5, 198)
    assert summary.rounds == (50.5, 150.5)


def test_p99_of_few_is_the_greatest() -> None:
    from bench.results import summarise

    assert summarise([[3.0, 1.0, 2.0]]).p99 == 3


def test_ratio_is_that_of_rounds_and_not_of_all() -> None:
    # The machine was three times as slow in the second round, for both.
    results = made(aiopip=[50, 150, 60], asyncio=[100, 300, 300])
    assert results.ratio("spawn/zero", "us", "aiopip", "asyncio") == 0.5


def test_what_was_not_measured_has_no_ratio_and_no_verdict() -> None:
    from bench import report

    results = made(aiopip=[50])
    assert results.ratio("spawn/zero", "us", "aiopip", "uvloop") is None
    assert report.goals(results) == []


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (40, "spawn to exit awaited, of asyncio's: 0.40 (goal <= 0.40): met"),
        (50, "spawn to exit awaited, of asyncio's: 0.50 (goal <= 0.40): missed by 25%"),
    ],
)
def test_verdict_says_by_how_much(ours: float, verdict: str) -> None:
    from bench import report

    assert report.goals(made(aiopip=[ours], asyncio=[100])) == [verdict]


def test_goal_may_be_a_least(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.goals import Goal

    goal = Goal("tasks", 1.5, lambda results: 1.2, at_least=True)
    assert goal.verdict(made()) == "tasks: 1.20 (goal >= 1.50): missed by 20%"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    from bench.results import read

    results = made(aiopip=[1, 2], asyncio=[3, 4])
    results.write(tmp_path / "results.json")
    assert read(tmp_path / "results.json") == results


@pytest.mark.parametrize(
    ("value", "measure", "shown"),
    [
        (263.4, "us", "263 us"),
        (1073.0, "us", "1.07 ms"),
        (42.51, "bell_us", "42.5 us"),
        (12345.6, "reap_ms", "12.3 s"),
        (1405.3, "per_s", "1,405/s"),
        (17.0, "mappings", "17"),
        (812.3, "root_kib", "812 KiB"),
    ],
)
def test_numbers_have_units_and_three_digits(value: float, measure: str, shown: str) -> None:
    from bench import report

    assert report.number(value, measure) == shown


def test_table_is_written_between_the_markers(tmp_path: Path) -> None:
    from bench import documents, report

    path = tmp_path / "README.md"
    path.write_text(f"before\n{documents.BEGIN}\nold\n{documents.END}\nbehind\n")
    for _ in range(2):
        documents.put(path, report.short(made(aiopip=[50], c=[100])))
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{documents.END}\nbehind\n")
    assert "old" not in text
    assert text.count("50 us") == text.count("100 us") == 1


def test_pools_have_a_table_of_their_own_without_those_that_are_missing() -> None:
    from bench import report

    results = empty()
    results.add("pool-call", {"pool": [{"us": [20.0]}], "to_thread": [{"us": [40.0]}]})
    head, _, row, *rest = report.short(results).splitlines()
    assert head.replace(" ", "") == "|median|aiopippool|asyncio.to_thread|"
    assert "20 us" in row
    assert "40 us" in row
    assert not rest[0]


def test_goals_of_pools_are_measured_against_the_stock_ones() -> None:
    from bench import report

    results = empty()
    results.add("pool-call", {"pool": [{"us": [20.0]}], "process-pool": [{"us": [80.0]}]})
    results.add("pool-map/1", {"executor": [{"per_s": [8.0]}], "process-pool": [{"per_s": [4.0]}]})
    results.add("pool-array/1024", {"executor": [{"us": [1600.0], "nothing_us": [100.0]}]})
    assert "\n".join(report.goals(results)).splitlines() == [
        "a call awaited, of ProcessPoolExecutor's: 0.25 (goal <= 0.30): met",
        (
            "aiopip.PoolExecutor: 1 GiB in and 1 GiB out, beyond the call: "
            "1.50 ms (goal <= 1.00 ms): missed by 50%"
        ),
        (
            "aiopip.PoolExecutor: calls a second by map, 1 at a time, of ProcessPoolExecutor's: "
            "2.00 (goal >= 3.00): missed by 33%"
        ),
    ]


def test_what_measures_writes_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import runner

    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("LEFT_AS_IT_IS", "1")
    environment = runner._environment()
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["LEFT_AS_IT_IS"] == "1"


async def test_gate_holds_calls_until_it_is_opened() -> None:
    from bench.gate import gate

    passed: list[int] = []

    async def call() -> None:
        await anyio.to_thread.run_sync(exec, held.code, {})
        passed.append(1)

    with gate() as held:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(call)
            await held.reported(3)
            assert not passed
            held.open()
    assert len(passed) == 3


def test_file_without_markers_is_left_alone(tmp_path: Path) -> None:
    from bench import documents

    path = tmp_path / "README.md"
    path.write_text("text\n")
    with pytest.raises(ValueError, match="has no lines"):
        documents.put(path, "table")
    assert path.read_text() == "text\n"


def test_cases_are_chosen_by_quantity_or_name() -> None:
    from bench.catalogue import CASES, chosen

    assert {case.quantity for case in chosen(["spawn"])} == {"spawn"}
    assert [case.name for case in chosen(["spawn/true"])] == ["spawn/true"]
    pools = {case.name for case in chosen(["pool"])}
    assert pools == {name for name in CASES if name.startswith("pool-")}
    assert chosen([]) == list(CASES.values())
    with pytest.raises(ValueError, match=r"no case nothing; there are .*spawn/zero"):
        chosen(["nothing"])
