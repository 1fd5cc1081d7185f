"""Command lines: of what is started, and of the peers that are programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench.programs import program

if TYPE_CHECKING:
    from bench.params import Params

PYTHON = sys.executable


def started(params: Params) -> list[str]:
    """What is started: a path and arguments."""
    name, *args = params.program
    path = {"python": PYTHON}.get(name, name)
    return [path if "/" in path else program(path), *args]


def children(what: str, params: Params, argument: object, *line: str) -> list[str]:
    """A command line of `children.c`."""
    return [program("children"), what, str(params.warm), str(params.count), str(argument), *line]


def floor(what: str, params: Params, number: int) -> list[str]:
    """A command line of `floor.c`."""
    return [program("floor"), what, str(params.warm), str(params.count), str(number)]
