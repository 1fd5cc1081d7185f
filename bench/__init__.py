"""How fast aiopip starts processes and calls workers, beside all others: `python -m bench --help`.

    __main__    the command line
    catalogue   what is measured with whom, how often; pool_catalogue: of pools of workers
    case        an entry of it
    runner      rounds of fresh processes, in turn
    worker      such a process: one quantity with one peer
    quantities  what is measured, a module each
    peers       ways to start a process or to have a worker called, a module each
    calls       what workers are made to call; gate: how they report that they are ready
    programs    what they start, and the peers that are written in C
    results     what comes out: medians, ratios, JSON
    goals       what is to be reached
    report      tables
    documents   what README.md and docs/performance.md show of them

Nothing here is part of the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
BUILD = CHECKOUT / "build" / "bench"
"""Where programs, libraries and results go."""

# `python -m bench` has the checkout in front of sys.path, and the aiopip there is not built.
sys.path.sort(key=lambda path: Path(path).resolve() == CHECKOUT)
