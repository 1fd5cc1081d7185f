"""What /proc/PID/stat says of a process: its state, its time on processors."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "T": "stopped",
    "t": "traced",
    "Z": "ended",
    "X": "ended",
    "I": "idle",
}
"""proc_pid_stat(5)'s letters."""


@dataclasses.dataclass(frozen=True)
class TaskStatistics:
    """One task at one moment.

    Attributes:
        state: "running" (or ready to), "sleeping", "blocked" (in an uninterruptible sleep),
            "stopped", "traced" (stopped by a debugger), "ended" (and not reaped yet).
        user_s: seconds that its threads have spent in user mode, in hundredths.
        system_s: seconds that they have spent in the kernel.
        threads: how many it has.
        minor_faults: page faults that needed no reading from a disk.
        major_faults: page faults that did.
        processor: the one that its first thread ran on last.
    """

    state: str
    user_s: float
    system_s: float
    threads: int
    minor_faults: int
    major_faults: int
    processor: int


def statistics(pid: int) -> TaskStatistics:
    """Look at a process.

    Raises:
        OSError: there is none of that ID.
    """
    # The name, which may have anything in it, is in parentheses; behind it begins field 3.
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return TaskStatistics(
        state=STATES.get(fields[0], fields[0]),
        user_s=int(fields[11]) / TICKS_A_SECOND,
        system_s=int(fields[12]) / TICKS_A_SECOND,
        threads=int(fields[17]),
        minor_faults=int(fields[7]),
        major_faults=int(fields[9]),
        processor=int(fields[36]),
    )
