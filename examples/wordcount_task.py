"""A task of wordcount.py: it counts the words of some files, and exports what it finds."""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import aiopip

PARTS = 8  # in which a task counts, and exports
WORD = re.compile(r"[^\W\d_]{2,}")  # two letters or more, of any script


def count(paths: Any) -> Counter[str]:
    """Count the words of some files, whose paths are bytes."""
    counts: Counter[str] = Counter()
    for path in paths:
        counts.update(WORD.findall(Path(os.fsdecode(path)).read_text("utf-8", errors="replace")))
    return counts


def work(task: aiopip.ThisTask, tasks: int) -> None:
    """Count every n-th file, from large to small; every PARTS-th of these is a part.

    Of each part there are the words, as one text with blanks between them, and how often each of
    them was found, as an array in the same order.
    """
    files = np.asarray(task.named_import_sync(task.root, "files"))[task.pipid :: tasks]
    for part in range(PARTS):
        counts = count(files[part::PARTS])
        task.export(f"counts {part}", np.fromiter(counts.values(), "i8", len(counts)))
        task.export(f"words {part}", " ".join(counts).encode())


if __name__ == "__main__":
    work(aiopip.this_task(), int(sys.argv[1]))
