"""Programs of the distribution, unmodified, run as tasks over the files of Python's library.

Each program reads each file as stdin and writes to a file in a temporary folder, once as a task and
once as a child of `subprocess`, four at a time.  The outputs must be the same, byte for byte.
"""

import asyncio
import filecmp
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.table import Table

import aiopip

PROGRAMS = ("sort --reverse", "sha256sum", "gzip --best --no-name", "xz -0")
SKIP = {"site-packages", "test"}
Run = Callable[[list[str], BinaryIO, BinaryIO], Awaitable[int]]


async def run_child(command: list[str], stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Run a command by subprocess, in a thread."""
    done = await asyncio.to_thread(subprocess.run, command, stdin=stdin, stdout=stdout)
    return done.returncode


async def over_all(sources: list[Path], targets: list[Path], run: Run, command: list[str]) -> float:
    """Run a command from each source to its target; the seconds that it took."""
    free, started = asyncio.Semaphore(4), time.perf_counter()

    async def over_one(source: Path, target: Path) -> None:
        async with free:
            with source.open("rb") as stdin, target.open("wb") as stdout:
                if status := await run(command, stdin, stdout):
                    raise RuntimeError(f"{command} of {source}: status {status}")

    await asyncio.gather(*map(over_one, sources, targets))
    return time.perf_counter() - started


async def compare(sources: list[Path], programs: list[str], temp: str) -> int:
    """Run all programs both ways and show a line for each; how many outputs differ."""
    table, different = Table("program", "runs", "as tasks", "by subprocess", "different"), 0
    async with aiopip.Root() as root:

        async def run_task(command: list[str], stdin: BinaryIO, stdout: BinaryIO) -> int:
            return await (await root.spawn(*command, stdin=stdin, stdout=stdout)).wait()

        for program in programs:
            ours = [Path(temp, f"{program}-{number}-task") for number in range(len(sources))]
            theirs = [path.with_suffix(".child") for path in ours]
            task_s = await over_all(sources, ours, run_task, program.split())
            child_s = await over_all(sources, theirs, run_child, program.split())
            wrong = sum(not filecmp.cmp(*pair, False) for pair in zip(ours, theirs, strict=True))
            cells = f"{len(sources)}", f"{task_s:.1f} s", f"{child_s:.1f} s", f"{wrong}"
            table.add_row(program, *cells)
            different += wrong
    Console().print(table)
    return different


if __name__ == "__main__":
    library = Path(sysconfig.get_path("stdlib"))
    paths = [p for p in library.rglob("*.py") if not SKIP & {*p.relative_to(library).parts}]
    found = [program for program in PROGRAMS if shutil.which(program.split()[0])]
    print(f"{len(paths)} files of {library}; not installed: {set(PROGRAMS) - set(found) or 'none'}")
    with tempfile.TemporaryDirectory() as temp:
        different = asyncio.run(compare(sorted(paths), found, temp))
    outputs = len(paths) * len(found)
    print(f"{outputs} outputs of tasks, {different} of them not as subprocess's")
    sys.exit(different > 0 or not outputs)
