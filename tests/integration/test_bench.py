"""The bench measures: each quantity with each peer, two samples each."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]

LOOPS = ("asyncio", "asyncio-threaded", "uvloop", "anyio", "trio")
GIVERS = ("import", "shared_memory", "pipe")
STARTERS = ("aiopip", "aiopip-uvloop", "aiopip-trio", *LOOPS, "popen", "posix_spawn")
POOLS = {
    "pool": 5,
    "executor": 5,
    "process-pool": 6,
    "process-pool-spawn": 2,
    "mp-pool": 6,
    "loky": 6,
    "to_process": 4,
    "to_thread": 2,
    "interpreters": 4,
    "bare": 2,
}
"""How many quantities are measured of each."""

PEERS = (*STARTERS, *GIVERS, *POOLS)
IN_C = ("c", "floor")

MEASURED_IN_C = ("spawn/zero", "throughput/32", "exit", "sleeping", "alive/0")

EVERY_QUANTITY = """
import json, sys
from bench import catalogue, runner, worker
if reason := runner.missing(sys.argv[1]):
    raise SystemExit(print("missing:", reason))
cases = {case.quantity for case in catalogue.CASES.values() if sys.argv[1] in case.peers}
for quantity in sorted(cases):
    params = {"count": 2, "warm": 1, "in_flight": 2, "alive": 2, "size_bytes": 8000}
    params |= {"workers": 2, "chunk": 2}
    if quantity == "sleeping":
        params["program"] = ["sleep"]
    worker.main(quantity, sys.argv[1], json.dumps(params))
"""
"""One process for all of them, to be quick."""


def run(*line: str) -> str:
    """Run Python in the checkout, where the bench is, and give what it writes."""
    done = subprocess.run(
        [sys.executable, *line], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    line = [sys.executable, "-m", "bench", *args]
    return subprocess.run(line, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def sane(measure: str, samples: list[Any]) -> bool:
    """Whether they are numbers that can have been measured.

    Times and rates are; the others say how much more there is than before, which may be less.
    """
    least = 0 if measure.endswith(("us", "ms", "per_s")) else -math.inf
    return all(isinstance(one, int | float) and least < one < math.inf for one in samples)


@pytest.mark.parametrize("peer", PEERS)
def test_peer_measures_each_quantity(peer: str) -> None:
    printed = run("-c", EVERY_QUANTITY, peer)
    if printed.startswith("missing:"):
        pytest.skip(printed.strip())
    measured: list[dict[str, list[float]]] = [json.loads(line) for line in printed.splitlines()]
    assert len(measured) >= POOLS.get(peer, 1 if peer in GIVERS else 4)
    for samples in measured:
        assert samples
        assert all(1 <= len(numbers) <= 2 for numbers in samples.values())
        assert all(sane(measure, numbers) for measure, numbers in samples.items())


def test_programs_in_c_measure(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    options = ("--peers", ",".join(IN_C), "--rounds", "1", "--count", "2", "--json", str(file))
    printed = run("-m", "bench", *MEASURED_IN_C, *options)
    results: dict[str, Any] = json.loads(file.read_text())
    assert results["cases"].keys() == set(MEASURED_IN_C)
    for peers in results["cases"].values():
        assert peers.keys() <= set(IN_C)
        for measures in peers.values():
            for name, summary in measures.items():
                assert sane(name, [summary["median"], summary["p99"], *summary["rounds"]])
                assert summary["least"] <= summary["median"] <= summary["p99"]
    assert results["machine"]["kernel"] in printed
    assert "C posix_spawn" in printed


def test_what_fails_is_named_and_loses_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    names = ("spawn/zero", "spawn/true", "--peers", "c", "--rounds", "1", "--json", str(file))
    # Of a negative number of samples nothing can be made; of the other case likewise.
    done = bench(*names, "--count", "-1")
    assert done.returncode == 1
    assert done.stderr.count("with c exited with 2") == 2
    assert len(json.loads(file.read_text())["failed"]) == 2


def test_pools_are_measured_side_by_side(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    cases = ("pool-submit", "pool-map/100", "pool-start")
    options = ("--peers", "executor,process-pool,bare", "--quick", "--count", "500")
    printed = run("-m", "bench", *cases, *options, "--json", str(file))
    results: dict[str, Any] = json.loads(file.read_text())
    assert {case: set(peers) for case, peers in results["cases"].items()} == {
        "pool-submit": {"executor", "process-pool"},
        "pool-map/100": {"executor", "process-pool"},
        "pool-start": {"executor", "process-pool", "bare"},
    }
    assert "aiopip.PoolExecutor: calls a second by map, 100 at a time" in printed
    assert "aiopip.PoolExecutor: 8 workers ready" in printed
    assert re.search(r"^\| median +\| aiopip.PoolExecutor \| ProcessPool", printed, re.MULTILINE)


def test_list_names_the_peers() -> None:
    peers = run("-m", "bench", "--list").partition("| peer")[2]
    names = re.findall(r"^\| ([\w-]+) ", peers, re.MULTILINE)
    assert [name for name in names if not name.startswith("-")] == [*PEERS, *IN_C]


def test_unknown_names_are_refused() -> None:
    for args in (["sprawn"], ["--peers", "asynchio"]):
        done = bench(*args)
        assert done.returncode == 2
        assert "there are" in done.stderr
