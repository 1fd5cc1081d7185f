"""`aiopip ps`: a table of the tasks of all Roots of this user."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from aiopip._commands.output import amount, as_text, complain, duration, show, terminal
from aiopip._commands.roots import all_roots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiopip._commands.roots import RootView, TaskView

HEADS = ("PIP ID", "PID", "STATE", "CPU", "MEMORY", "NAME")
LEFT = ("STATE", "NAME")
STYLES = {"running": "green", "sleeping": "", "stopped": "yellow", "traced": "yellow"}
"""Of a row, by the task's state; others are "red"."""


def ps(only: Sequence[int], *, as_json: bool) -> int:
    """Print the table.

    Args:
        only: the Roots' process IDs; all Roots when empty.
        as_json: whether to print one JSON object.

    Returns:
        The exit status: 1 when a Root did not answer, or is not there.
    """
    found = all_roots(only)
    roots = [root for root in found if not root.problem]
    console = None if as_json else terminal()
    if as_json:
        print(json.dumps({"roots": [dataclasses.asdict(root) for root in found]}, indent=2))
    elif console is not None:
        for root in roots:
            rows = [_row(task) for task in root.tasks]
            styles = [STYLES.get(task.state, "red") for task in root.tasks]
            show(console, HEADS, rows, LEFT, styles, title=_title(root))
    elif any(root.tasks for root in roots):
        every = [(f"{root.pid}", *_row(task)) for root in roots for task in root.tasks]
        print(as_text(("ROOT", *HEADS), every, LEFT))
    return _complaints(found, only)


def _title(root: RootView) -> str:
    return f"{root.pid}  {root.command}  ({len(root.tasks)} of {root.max_tasks} tasks)"


def _row(task: TaskView) -> tuple[str, ...]:
    return (
        f"{task.pipid}",
        f"{task.pid}",
        task.state,
        duration(task.user_s + task.system_s),
        "?" if task.memory is None else amount(task.memory.resident_bytes),
        task.name,
    )


def _complaints(found: Sequence[RootView], only: Sequence[int]) -> int:
    """Say what there is no table of; the exit status."""
    problems = [root for root in found if root.problem]
    for root in problems:
        complain(f"ps: the Root in process {root.pid} {root.problem}")
    missing = set(only) - {root.pid for root in found}
    for pid in sorted(missing):
        complain(f"ps: process {pid} has no open Root of this user")
    if not only and not found:
        complain("ps: no Root of this user is open")
    return 1 if problems or missing else 0
