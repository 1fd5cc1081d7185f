"""What a process uses, as /proc has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

SELF = Path("/proc/self")


class Use(NamedTuple):
    """What this process uses.

    Attributes:
        resident_kib: memory in use, with that of tasks.
        mappings: of its address space.
        descriptors: open ones.
        loop_descriptors: those that its event loop waits for.
        threads: native ones too.
    """

    resident_kib: int
    mappings: int
    descriptors: int
    loop_descriptors: int
    threads: int

    def __sub__(self, other: Use) -> Use:
        return Use(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


def now(loop: list[int]) -> Use:
    """Look.

    Args:
        loop: the descriptors of the loop's epolls, from `epolls`.
    """
    pages = int((SELF / "statm").read_text().split()[1])
    return Use(
        resident_kib=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        mappings=mappings(),
        descriptors=len(list((SELF / "fd").iterdir())),
        loop_descriptors=sum(map(_watched, loop)),
        threads=len(list((SELF / "task").iterdir())),
    )


def mappings() -> int:
    """How many mappings the address space has."""
    return (SELF / "maps").read_bytes().count(b"\n")


def epolls() -> list[int]:
    """The descriptors of this process that are epolls."""
    return [int(path.name) for path in (SELF / "fd").iterdir() if _is_epoll(path)]


def _is_epoll(path: Path) -> bool:
    try:
        return "eventpoll" in str(path.readlink())
    except FileNotFoundError:
        return False  # the one that listed the folder


def _watched(epoll: int) -> int:
    return (SELF / "fdinfo" / str(epoll)).read_text().count("tfd:")


def proportional_kib(pid: int | str = "self") -> int:
    """A process's memory, of what it shares its part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")


def private_kib(pid: int | str = "self") -> int:
    """What of a process's memory no other has, and no file."""
    kib = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, *fields = line.split()
        if name in {"Private_Dirty:", "Swap:"}:
            kib += int(fields[0])
    return kib
