"""How much memory a task has: its part of the space that it shares with all others.

What /proc says of a task's memory is its Root's, all tasks included, for the kernel has one number
an address space.  But the native core knows in which ranges a task's own memory lies, and the
kernel tells what is in them: PAGEMAP_SCAN walks the page tables of a range and nothing else (Linux
6.7). Where that is not to be had it is smaps, which writes a page of text about every mapping of
the space and is several times as slow.

The command `aiopip ps` asks the same of another process's space, so that it costs the Root nothing.
"""

from __future__ import annotations

import array
import dataclasses
import fcntl
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiopip._ffi import Span

KIB = 1024


@dataclasses.dataclass(frozen=True)
class TaskMemory:
    """The memory of one task at one moment.

    Attributes:
        resident_bytes: what of it is in RAM.  Pages of a library's file count for each task that
            has touched them, though they are in RAM once.
        anonymous_bytes: what of that belongs to no file: heap, stacks, data that was written to.
        swapped_bytes: what was swapped out.
    """

    resident_bytes: int
    anonymous_bytes: int
    swapped_bytes: int


def of_spans(process: int | str, spans: Sequence[Span]) -> TaskMemory:
    """The memory in some ranges of a process's address space.

    Args:
        process: its ID, or "self".
        spans: ranges that do not overlap.

    Raises:
        OSError: there is no such process, or it must not be looked at.
    """
    try:
        return _scan(process, spans)
    except OSError:  # an old kernel (ENOTTY), or a sandbox: smaps says what else there is
        return _read_smaps(process, spans)


def of_process(process: int) -> TaskMemory:
    """The memory of a process that has an address space of its own.

    Raises:
        OSError: there is no such process, or it must not be looked at.
    """
    return _sum(Path(f"/proc/{process}/smaps_rollup").read_text().splitlines())


# The ioctl

SCAN = 0xC0606610
"""PAGEMAP_SCAN of ioctl_pagemap_scan(2): _IOWR('f', 16, struct pm_scan_arg)"""

SCAN_ARG = struct.Struct("=12Q")
REGION_WORDS = 3
REGIONS = 512
"""How many page regions one call tells at the most."""

PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO = 1 << 2, 1 << 3, 1 << 4, 1 << 5


def _scan(process: int | str, spans: Sequence[Span]) -> TaskMemory:
    resident = anonymous = swapped = 0
    with Path(f"/proc/{process}/pagemap").open("rb", buffering=0) as pagemap:
        for start, end in spans:
            for size, kind in _regions(pagemap.fileno(), start, end):
                if kind & PAGE_IS_SWAPPED:
                    swapped += size
                elif not kind & PAGE_IS_PFNZERO:  # which has no memory of its own
                    resident += size
                    anonymous += 0 if kind & PAGE_IS_FILE else size
    return TaskMemory(resident, anonymous, swapped)


def _regions(pagemap: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Neighbouring pages of one kind that are there: how many bytes, PAGE_IS_ flags."""
    room = array.array("Q", bytes(8 * REGION_WORDS * REGIONS))
    there = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
    wanted = there | PAGE_IS_FILE | PAGE_IS_PFNZERO
    while start < end:
        # size, flags, start, end, walk_end, vec, vec_len, max_pages; then which categories are
        # inverted, which must all be, which of must be one, and which are told.
        asked = (SCAN_ARG.size, 0, start, end, 0, room.buffer_info()[0], REGIONS, 0)
        arg = bytearray(SCAN_ARG.pack(*asked, 0, 0, there, wanted))
        count = fcntl.ioctl(pagemap, SCAN, arg)
        for first in range(0, count * REGION_WORDS, REGION_WORDS):
            yield room[first + 1] - room[first], room[first + 2]
        start = SCAN_ARG.unpack(arg)[4]


# Text


def _read_smaps(process: int | str, spans: Sequence[Span]) -> TaskMemory:
    lines = []
    with Path(f"/proc/{process}/smaps").open("rb") as smaps:
        within = False
        for raw in smaps:
            if raw[:1].isupper():  # "Rss:", where a mapping's first line begins with its address
                if within:
                    lines.append(os.fsdecode(raw))
            else:
                low, _, high = raw.split(maxsplit=1)[0].partition(b"-")
                first, last = int(low, 16), int(high, 16)
                within = any(first < end and start < last for start, end in spans)
    return _sum(lines)


def _sum(lines: Sequence[str]) -> TaskMemory:
    """Add up the lines that smaps has of some mappings."""
    kib = {"Rss:": 0, "Anonymous:": 0, "Swap:": 0}
    for line in lines:
        name, _, value = line.partition(" ")
        if name in kib:
            kib[name] += int(value.split()[0])
    return TaskMemory(*(number * KIB for number in kib.values()))
