"""What descriptors a task has, and on what."""

# Files are looked at while the loop has nothing else to do.
# ruff: noqa: ASYNC240

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from integration.conftest import Programs

    import aiopip

Identity = tuple[int, int]


def identity(descriptor: int | str) -> Identity:
    """What a descriptor of ours, or a path, is on."""
    found = os.fstat(descriptor) if isinstance(descriptor, int) else Path(descriptor).stat()
    return found.st_dev, found.st_ino


async def open_in_task(
    root: aiopip.Root, program: Programs, report: Path, **options: Any
) -> dict[int, Identity]:
    """What is open in a task with such options, by descriptor up to 255."""
    task = await root.spawn(program("descriptors"), report, **options)
    assert await task.wait() == 0
    lines = [line.split() for line in report.read_text().splitlines()]
    return {int(number): (int(device), int(inode)) for number, device, inode in lines}
