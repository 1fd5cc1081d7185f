"""How commands write: in colour on a terminal, where `rich` (the extra `cli`) is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

Rows = list[tuple[str, ...]]


def terminal(stderr: bool = False) -> Console | None:
    """The terminal that stdout or stderr is, for rich; None when it is none, or rich is missing."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else None


def complain(text: str) -> None:
    """Write a line to stderr."""
    print(f"aiopip: {text}", file=sys.stderr)


def as_text(heads: Sequence[str], rows: Rows, left: Sequence[str]) -> str:
    """A table as plain text.

    Args:
        heads: what stands above the columns.
        rows: as many cells each.
        left: the columns that begin at the left; numbers end at the right.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in [tuple(heads), *rows]:
        cells = [
            cell.ljust(width) if head in left else cell.rjust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def show(
    console: Console,
    heads: Sequence[str],
    rows: Rows,
    left: Sequence[str],
    styles: Sequence[str],
    title: str = "",
) -> None:
    """A table in colour.

    Args:
        console: the terminal.
        heads: what stands above the columns.
        rows: as many cells each.
        left: the columns that begin at the left.
        styles: of each row, as rich names them.
        title: what stands above the table.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if title:
        console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*map(Text, row), style=style)
    console.print(table)


def duration(seconds: float) -> str:
    """Minutes, seconds and hundredths, as ps(1) and top(1) have them."""
    minutes, rest = divmod(round(seconds * 100), 6000)
    return f"{minutes}:{rest // 100:02}.{rest % 100:02}"


def amount(size_bytes: int) -> str:
    """An amount of memory in three digits or four."""
    size, unit = size_bytes / 1024, "KiB"
    for greater in ("MiB", "GiB", "TiB"):
        if size < 1000:
            break
        size, unit = size / 1024, greater
    return f"{size:.0f} {unit}" if size >= 100 or unit == "KiB" else f"{size:.1f} {unit}"
