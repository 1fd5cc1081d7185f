"""The table in the README, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = "<!-- written by `python -m bench --readme` -->"
END = "<!-- end of what is written -->"


def write(path: Path, table: str) -> None:
    """Put a table between the markers of a file.

    Raises:
        ValueError: the file lacks one of them.
    """
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
