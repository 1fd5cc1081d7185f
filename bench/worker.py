"""A fresh process that measures one quantity with one peer.

    python -c "import sys; from bench.worker import main; main(*sys.argv[1:])" QUANTITY PEER PARAMS

PARAMS are those of `Params`, as JSON; so is what it prints, `Samples`.
"""

from __future__ import annotations

import json
from functools import partial

import anyio

from bench.params import Params
from bench.peers import PEERS
from bench.quantities import QUANTITIES


def main(quantity: str, name: str, params: str) -> None:
    """Measure, and print the samples."""
    peer = PEERS[name]()
    measure = partial(QUANTITIES[quantity].measure, peer, Params(**json.loads(params)))
    samples = anyio.run(measure, backend=peer.backend, backend_options=peer.options)
    print(json.dumps(samples))
