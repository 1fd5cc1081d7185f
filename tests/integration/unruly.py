"""Functions that leave the worker that calls them in a state of which nobody thinks."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

import numpy as np

COUNT = 100_000


class Forking:
    """A result whose reduction forks, and comes back twice."""

    def __reduce__(self) -> Any:
        os.fork()
        return str, ("reduced",)


class Interrupted:
    """A result whose reduction raises what is no error."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def forking() -> Any:
    return Forking()


def interrupted() -> Any:
    return Interrupted()


def note(path: str, line: str) -> None:
    with open(path, "a") as file:  # noqa: PTH123  pathlib is not loaded in a worker
        file.write(f"{line}\n")


def large() -> Any:
    return np.arange(COUNT)


def take_all_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass


def raise_when_idle() -> None:
    def raising(*_: object) -> None:
        raise RuntimeError("on purpose")

    signal.signal(signal.SIGUSR1, raising)


def echo(value: Any) -> Any:
    return value
