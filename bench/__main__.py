"""Measure aiopip beside all others that start processes, or have them in a pool.

    python -m bench                                        all, in less than ten minutes
    python -m bench spawn exit --peers aiopip,asyncio      some
    python -m bench pool                                   what there is of pools of workers
    python -m bench --quick                                a tenth of it, for development
    python -m bench --list                                 what there is
    python -m bench --write                                write the last run into the documents

Results are printed, and written to build/bench/results.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from bench import documents, machine, report, results, runner
from bench.catalogue import CASES, chosen
from bench.peers import ABOUT

if TYPE_CHECKING:
    from bench.case import Case


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", help="cases, quantities or groups; all by default")
    parser.add_argument("--peers", help="names, with commas; all by default")
    parser.add_argument("--rounds", type=int, help="how many processes each peer gets")
    parser.add_argument("--count", type=int, help="how many samples each process takes")
    parser.add_argument("--quick", action="store_true", help="one round, a tenth of the samples")
    parser.add_argument("--json", type=Path, default=results.FILE, help="where results go")
    parser.add_argument("--list", action="store_true", help="say what there is, and exit")
    parser.add_argument("--write", action="store_true", help="write the last run, and exit")
    options = parser.parse_args()
    if options.list:
        print(listing())
        return 0
    if options.write:
        documents.write(results.read(options.json))
        return 0
    try:
        cases = [_adapted(case, options) for case in chosen(options.cases)]
    except ValueError as error:
        parser.error(str(error))
    found = run([case for case in cases if case.peers])
    found.write(options.json)
    print(report.full(found))
    print(f"\n{report.short(found)}\n\n{options.json}")
    for line in found.failed:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if found.failed else 0


def _adapted(case: Case, options: argparse.Namespace) -> Case:
    """A case as the command line wants it.

    Raises:
        ValueError: it names a peer that is none.
    """
    if options.quick:
        case = case.quick()
    if options.rounds is not None:
        case = dataclasses.replace(case, rounds=options.rounds)
    if options.count is not None:
        warm = min(case.params.warm, options.count)
        params = dataclasses.replace(case.params, count=options.count, warm=warm)
        case = dataclasses.replace(case, params=params)
    if options.peers is not None:
        wanted = options.peers.split(",")
        if unknown := set(wanted) - ABOUT.keys():
            raise ValueError(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(ABOUT)}")
        case = dataclasses.replace(case, peers=tuple(p for p in case.peers if p in wanted))
    return case


def run(cases: list[Case]) -> results.Results:
    """Run cases, and say on a terminal how far that is."""
    found = results.Results(
        machine.facts(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    peers = {peer for case in cases for peer in case.peers}
    found.missing = {peer: reason for peer in sorted(peers) if (reason := runner.missing(peer))}
    start, steps = time.monotonic(), 0
    for case in cases:
        here = dataclasses.replace(
            case, peers=tuple(peer for peer in case.peers if peer not in found.missing)
        )

        def step(name: str = case.name) -> None:
            nonlocal steps
            steps += 1
            if sys.stderr.isatty():
                took_s = time.monotonic() - start
                print(f"\r\x1b[K{steps} {took_s:.0f} s {name}", end="", file=sys.stderr)

        try:
            found.add(case.name, runner.run_case(here, step))
        except runner.Failed as error:
            found.failed.append(str(error))  # minutes of other results are not lost for that
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return found


def listing() -> str:
    """The cases and the peers that there are."""
    rows = [(case.name, case.about, f"{case.rounds}") for case in CASES.values()]
    cases = report.table(("case", "what", "rounds"), rows)
    return f"{cases}\n\n{report.table(('peer', 'what'), ABOUT.items())}"


if __name__ == "__main__":
    sys.exit(main())
