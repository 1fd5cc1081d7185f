"""What the documents show of a run: in README.md and docs/performance.md, between two markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import CHECKOUT, report

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Results

BEGIN = "<!-- written by `python -m bench --write` -->"
END = "<!-- end of what is written -->"

README = CHECKOUT / "README.md"
PAGE = CHECKOUT / "docs" / "performance.md"


def write(results: Results) -> None:
    """Write a run into both documents."""
    put(README, report.short(results))
    put(PAGE, report.page(results))


def put(path: Path, text: str) -> None:
    """Put a text between the markers of a file.

    Raises:
        ValueError: the file lacks one of them.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no lines {BEGIN!r} and {END!r}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
