"""What is measured with whom: the cases of `make bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import pool_catalogue
from bench.case import Case
from bench.params import Params

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPS = ("asyncio", "asyncio-threaded", "uvloop", "anyio", "trio")
OURS = ("aiopip", "aiopip-uvloop", "aiopip-trio")
PYTHON = (*OURS, *LOOPS, "popen", "posix_spawn")
"""All peers in Python."""


def _spawn() -> Iterable[Case]:
    every = (*PYTHON, "c")
    yield Case(
        "spawn/zero",
        "spawn to exit awaited, `return 0`",
        "us",
        Params(count=200, warm=20),
        (*every, "floor"),
    )
    yield Case(
        "spawn/true",
        "spawn to exit awaited, `/bin/true`",
        "us",
        Params(("/bin/true",), count=100, warm=10),
        every,
        rounds=3,
    )
    yield Case(
        "spawn/python",
        "spawn to exit awaited, `python3 -S -c pass`",
        "us",
        Params(("python", "-S", "-c", "pass"), count=12, warm=2),
        every,
        rounds=3,
    )
    yield Case(
        "spawn/resident",
        "`return 0`, 1 GiB resident in the parent",
        "us",
        Params(count=30, warm=3, resident_bytes=1 << 30),
        (*every, "floor"),
        rounds=2,
    )


IN_FLIGHT = (1, 2, 4, 8, 32)
"""So many at once for aiopip, whose best admission is looked for."""


def _throughput() -> Iterable[Case]:
    for in_flight in IN_FLIGHT:
        others = (*LOOPS, "popen", "posix_spawn", "c") if in_flight == 32 else ()
        yield Case(
            f"throughput/{in_flight}",
            f"1,000 x `return 0`, {in_flight} in flight",
            "per_s",
            Params(count=1000, warm=50, in_flight=in_flight),
            (*(OURS if others else OURS[:1]), *others),
            rounds=3,
        )


def _exit() -> Iterable[Case]:
    yield Case(
        "exit",
        "exit to awaited",
        "us",
        Params(count=100, warm=10),
        (*PYTHON, "c"),
        rounds=3,
    )


def _sleeping() -> Iterable[Case]:
    yield Case(
        "sleeping",
        "1,000 sleeping: all started",
        "spawn_ms",
        Params(("sleep",), count=1000),
        (*OURS, *LOOPS, "popen", "posix_spawn", "c"),
        rounds=2,
    )


ALIVE = (0, 10, 100, 1000)
"""So many others sleep meanwhile."""


def _alive() -> Iterable[Case]:
    for alive in ALIVE:
        yield Case(
            f"alive/{alive}",
            f"spawn to exit awaited, `return 0`, {alive:,} others alive",
            "us",
            Params(count=100, warm=10, alive=alive),
            ("aiopip", "asyncio", "c"),
            rounds=3,
        )


def _import() -> Iterable[Case]:
    for mebibytes, count in ((1, 50), (32, 20), (1024, 2)):
        size = f"{mebibytes} MiB" if mebibytes < 1024 else "1 GiB"
        yield Case(
            f"import/{mebibytes}",
            f"array of {size} from another process, ready here",
            "us",
            Params(count=count, warm=1, size_bytes=mebibytes << 20),
            ("import", "shared_memory", "pipe"),
            rounds=2,
        )


def _sections() -> Iterable[Case]:
    yield Case(
        "sections",
        "longest section on the loop's thread, of a spawn and its wait",
        "longest_us",
        Params(count=1000, warm=50),
        ("aiopip", "asyncio", "asyncio-threaded", "anyio"),
        rounds=1,
    )


CASES = {
    case.name: case
    for case in (
        *(*_spawn(), *_throughput(), *_exit()),
        *(*_sleeping(), *_alive(), *_import(), *_sections()),
        *pool_catalogue.cases(),
    )
}


def chosen(names: list[str]) -> list[Case]:
    """The cases that are named, by themselves, their quantity or its group; all for no name.

    Raises:
        ValueError: a name is of none.
    """
    known = {name for case in CASES.values() for name in case.names}
    if unknown := set(names) - known:
        there = ", ".join(sorted(known))
        raise ValueError(f"no case {', '.join(sorted(unknown))}; there are {there}")
    wanted = set(names) or known
    return [case for case in CASES.values() if case.names & wanted]
