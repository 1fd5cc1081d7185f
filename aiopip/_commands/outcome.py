"""What became of the tasks of `aiopip run`: its exit status, and what it says of them."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from typing import TYPE_CHECKING

from aiopip._commands.output import complain, duration, show, terminal

if TYPE_CHECKING:
    from aiopip import ExitStatus, Task

TIMED_OUT = 124
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
"""As timeout(1), env(1) and shells have them."""

HEADS = ("PIP ID", "PID", "ENDED BY", "ELAPSED", "CPU")
LEFT = ("ENDED BY",)


@dataclasses.dataclass
class Outcome:
    """What became of all.

    Attributes:
        tasks: that were started, by PiP ID.
        timed_out: whether the time was over before they had ended.
        interrupted: the signal that ended the command; 0 for none.
    """

    tasks: list[Task] = dataclasses.field(default_factory=list)
    timed_out: bool = False
    interrupted: int = 0

    @property
    def statuses(self) -> list[ExitStatus]:
        """How those tasks ended that were reaped: all, mostly."""
        return [task.status for task in self.tasks if task.status is not None]

    @property
    def code(self) -> int:
        """The exit status of the command."""
        if self.interrupted:
            return 128 + self.interrupted
        if self.timed_out:
            return TIMED_OUT
        return max(map(code_of, self.statuses), default=0)


def code_of(status: ExitStatus) -> int:
    """An exit status as shells have it: 128 + N for signal N."""
    return 128 + (status.signal or 0) if status.signaled else int(status)


def report(outcome: Outcome, *, as_json: bool) -> None:
    """Say on stderr how the tasks ended, for stdout is theirs.

    On a terminal it is a table, if there is more than one; else a line for each that failed.
    """
    if as_json:
        complete = {
            "status": outcome.code,
            "timed_out": outcome.timed_out,
            "tasks": [_entry(task) for task in outcome.tasks],
        }
        print(json.dumps(complete), file=sys.stderr)
        return
    if outcome.timed_out:
        complain("run: the time is over; what still ran was ended")
    console = terminal(stderr=True)
    if console is not None and len(outcome.tasks) > 1:
        rows = [_row(task) for task in outcome.tasks]
        styles = ["red" if task.status else "" for task in outcome.tasks]
        show(console, HEADS, rows, LEFT, styles)
    elif not outcome.timed_out and not outcome.interrupted:
        for task in outcome.tasks:
            if task.status and (task.status.signaled or len(outcome.tasks) > 1):
                complain(f"run: {task}: {_ended_by(task.status)}")


def _entry(task: Task) -> dict[str, object]:
    entry: dict[str, object] = {"pipid": task.pipid, "pid": task.pid, "status": None}
    if (status := task.status) is not None:
        entry |= {
            "status": code_of(status),
            "signal": status.signal,
            "elapsed_s": _elapsed_s(status),
            "user_s": status.rusage.ru_utime,
            "system_s": status.rusage.ru_stime,
        }
    return entry


def _row(task: Task) -> tuple[str, ...]:
    if (status := task.status) is None:
        return (f"{task.pipid}", f"{task.pid}", "not ended", "", "")
    usage = status.rusage
    return (
        f"{task.pipid}",
        f"{task.pid}",
        _ended_by(status),
        duration(_elapsed_s(status)),
        duration(usage.ru_utime + usage.ru_stime),
    )


def _elapsed_s(status: ExitStatus) -> float:
    return (status.ended_ns - status.started_ns) / 1e9


def _ended_by(status: ExitStatus) -> str:
    if not status.signaled:
        return f"exit {int(status)}"
    try:
        return signal.Signals(status.signal or 0).name
    except ValueError:
        return f"signal {status.signal}"
