"""Rounds of fresh processes: in each round every peer gets one, each time beginning with another.

So what the machine does beside this hits all of them alike.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench import CHECKOUT
from bench.peers import IN_C, PEERS
from bench.quantities import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.case import Case
    from bench.params import Samples

Rounds = dict[str, list["Samples"]]
"""By peer, what its processes have measured, in the order of the rounds."""

TIMEOUT_S = 240

WORKER = "import sys; from bench.worker import main; main(*sys.argv[1:])"
"""Not `-m bench.worker`: workers of pools would import that module anew as their `__main__`."""


class Failed(Exception):
    """A process that should have measured."""


def run_case(case: Case, on_step: Callable[[], None]) -> Rounds:
    """Run all rounds of a case.

    Args:
        case: which.
        on_step: called behind each process.
    """
    rounds: Rounds = {peer: [] for peer in case.peers}
    for number in range(case.rounds):
        first = number % len(case.peers)
        for peer in case.peers[first:] + case.peers[:first]:
            rounds[peer].append(run_one(case, peer))
            on_step()
    return rounds


def run_one(case: Case, peer: str) -> Samples:
    """Measure with one peer in a fresh process.

    Raises:
        Failed: it exited with another status than 0, or took too long; what it wrote was shown.
    """
    if peer in IN_C:
        line = COMMANDS[case.quantity](peer, case.params)
    else:
        params = json.dumps(dataclasses.asdict(case.params))
        line = [sys.executable, "-c", WORKER, case.quantity, peer, params]
    try:
        done = subprocess.run(
            line,
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{case.name} with {peer} took longer than {TIMEOUT_S} s: {line}") from None
    if done.returncode:
        raise Failed(f"{case.name} with {peer} exited with {done.returncode}: {line}")
    samples: Samples = json.loads(done.stdout)
    return samples


def _environment() -> dict[str, str]:
    """This one, where what is imported is compiled once and for all."""
    return {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}


def missing(peer: str) -> str:
    """What this machine lacks for a peer, empty when nothing."""
    return PEERS[peer]().missing() if peer in PEERS else ""
