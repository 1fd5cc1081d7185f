"""Python tasks (wordcount_task.py) count the words of a source tree, while the root adds them up.

The root reads the words and the arrays of counts where they lie, in the memory of the tasks.
`wordcount.py [FOLDER [TASKS]]` counts Python's library by a task a CPU, and again without tasks.
"""

import asyncio
import os
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich import print as show
from rich.table import Table
from wordcount_task import PARTS, count

import aiopip

TEXTS = {".c", ".cpp", ".go", ".h", ".java", ".js", ".md", ".py", ".rs", ".rst", ".toml", ".txt"}


async def add_up(task: aiopip.Task, total: Counter[str]) -> int:
    """Add a task's parts to the total as they come; how many came while it still ran."""
    early = 0
    for part in range(PARTS):
        words = await task.named_import(f"words {part}")
        counts = task.named_import_nowait(f"counts {part}")  # it was exported before the words
        total.update(dict(zip(str(words.view(), "utf-8").split(), counts.view(), strict=True)))
        early += task.status is None
    return early


async def count_by_tasks(files: list[bytes], tasks: int) -> Counter[str]:
    """Count the words of some files by tasks."""
    total: Counter[str] = Counter()
    program = Path(__file__).with_name("wordcount_task.py")
    async with aiopip.Root() as root:
        root.export("files", np.array(files, "S"))
        running = [
            await root.spawn(sys.executable, program, f"{tasks}", pipid=pipid)
            for pipid in range(tasks)
        ]
        early = await asyncio.gather(*(add_up(task, total) for task in running))
    print(f"{sum(early)} of {tasks * PARTS} parts were added up while their task still ran")
    return total


if __name__ == "__main__":
    folder = Path(sys.argv[1] if sys.argv[1:] else sysconfig.get_path("stdlib"))
    tasks = int(sys.argv[2]) if sys.argv[2:] else len(os.sched_getaffinity(0))
    paths = [path for path in folder.rglob("*.*") if path.suffix in TEXTS and path.is_file()]
    paths = [path for path in paths if "site-packages" not in path.relative_to(folder).parts]
    files = [os.fsencode(path) for path in sorted(paths, key=lambda path: -path.stat().st_size)]
    started = time.perf_counter()
    counts = asyncio.run(count_by_tasks(files, tasks))
    between = time.perf_counter()
    alone = count(files)
    ended = time.perf_counter()
    table = Table("word", "count", title=f"{len(files)} files")
    for word, number in counts.most_common(20):
        table.add_row(word, f"{number}")
    show(table)
    print(f"{tasks} tasks took {between - started:.1f} s, one process {ended - between:.1f} s")
    if counts != alone:
        sys.exit("they do not agree")
    print(f"both found {counts.total()} words, {len(counts)} different, each exactly as often")
