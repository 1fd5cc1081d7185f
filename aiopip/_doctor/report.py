"""How the findings are shown: as text, as a table on a terminal that has `rich`, as JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from aiopip._doctor.facts import Finding, Trial, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

TEXT_COLUMNS = 100
STYLES = {Verdict.OK: "green", Verdict.LIMITED: "yellow", Verdict.MISSING: "bold red"}


def summary(findings: Sequence[Finding], trial: Trial) -> str:
    """The sentence at the end."""
    if not trial.tasks_run:
        return f"Tasks do not run here: {trial.obstacle()}"
    limited = sum(finding.verdict is not Verdict.OK for finding in findings)
    if not limited:
        return "Tasks run here, without limitations."
    return f"Tasks run here, with {limited} limitation{'s' if limited > 1 else ''}."


def as_json(findings: Sequence[Finding], trial: Trial, version: str) -> str:
    """One JSON object."""
    report = {
        "version": version,
        "tasks_run": trial.tasks_run,
        "summary": summary(findings, trial),
        "findings": [
            {**dataclasses.asdict(finding), "verdict": finding.verdict.value}
            for finding in findings
        ],
    }
    return json.dumps(report, indent=2)


def as_text(findings: Sequence[Finding], trial: Trial, columns: int = TEXT_COLUMNS) -> str:
    """Plain text: verdict, what, what was found, and below that the advice."""
    verdicts = max(len(verdict.value) for verdict in Verdict) + 2
    indent = verdicts + max((len(finding.what) for finding in findings), default=0) + 2
    lines = []
    for finding in findings:
        head = f"{finding.verdict.value:<{verdicts}}{finding.what:<{indent - verdicts}}"
        lines += _wrapped(finding.found, head, indent, columns)
        if finding.advice:
            lines += _wrapped(finding.advice, " " * indent, indent, columns)
    return "\n".join([*lines, "", summary(findings, trial)])


def _wrapped(text: str, head: str, indent: int, columns: int) -> list[str]:
    # A path is looked for and copied whole, so it is never broken.
    return textwrap.wrap(
        text,
        max(columns, indent + 40),
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def terminal() -> Console | None:
    """The terminal, when stdout is one and `rich` (the extra `cli`) is installed."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console()
    return console if console.is_terminal else None


def show(findings: Sequence[Finding], trial: Trial, console: Console) -> None:
    """A table in colour."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("", "what", "found"):
        table.add_column(column)
    for finding in findings:
        style = STYLES[finding.verdict]
        found = Text(finding.found)
        if finding.advice:
            found.append(f"\n{finding.advice}", style="italic")
        table.add_row(Text(finding.verdict.value, style=style), finding.what, found)
    console.print(table)
    verdict = Verdict.OK if trial.tasks_run else Verdict.MISSING
    console.print(Text(summary(findings, trial), style=STYLES[verdict]))


def columns() -> int:
    """How wide plain text may be."""
    return min(shutil.get_terminal_size((TEXT_COLUMNS, 24)).columns, TEXT_COLUMNS)
