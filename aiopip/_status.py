"""How a task ended: the integer that `wait()` gives, and all that the kernel says beside it."""

from __future__ import annotations

import os
import resource
from signal import Signals
from typing import TYPE_CHECKING

from aiopip._records import Usage

if TYPE_CHECKING:
    from typing_extensions import Self

_NO_USAGE = Usage()


class ExitStatus(int):
    """The exit status of a task: its exit code, or minus the number of the signal that ended it.

    It compares and formats as that integer, as `subprocess.Popen.returncode` does: 0, 3, or -15
    for SIGTERM.

    Attributes:
        wait_status: the status word of wait(2).
        started_ns: when the task was started, on `time.monotonic_ns()`'s clock.
        ended_ns: when its end was seen, on the same clock.
        lost: True when another wait in this process took the status first; the value is then 255.

    Source: wait(2), getrusage(2)
    """

    wait_status: int
    started_ns: int
    ended_ns: int
    lost: bool
    _usage: Usage

    def __new__(
        cls,
        wait_status: int,
        usage: Usage = _NO_USAGE,
        started_ns: int = 0,
        ended_ns: int = 0,
        lost: bool = False,
    ) -> Self:
        """Make one of a status word of wait(2) that tells of an end.

        Raises:
            ValueError: the word tells of a stop, not of an end.
        """
        self = super().__new__(cls, os.waitstatus_to_exitcode(wait_status))
        self.wait_status = wait_status
        self.started_ns = started_ns
        self.ended_ns = ended_ns
        self.lost = lost
        self._usage = usage
        return self

    @property
    def exited(self) -> bool:
        """Whether the task ended by itself: by return, exit() or _exit()."""
        return self >= 0

    @property
    def exit_code(self) -> int | None:
        """The exit code, 0 to 255; None when a signal ended the task."""
        return int(self) if self >= 0 else None

    @property
    def signaled(self) -> bool:
        """Whether a signal ended the task."""
        return self < 0

    @property
    def signal(self) -> Signals | int | None:
        """The signal that ended the task, None when it exited; an int where it has no name.

        Real-time signals between SIGRTMIN and SIGRTMAX have none.
        """
        if self >= 0:
            return None
        try:
            return Signals(-self)
        except ValueError:
            return -int(self)

    @property
    def core_dumped(self) -> bool:
        """Whether a core file was written; a task's is of the whole address space."""
        return os.WCOREDUMP(self.wait_status)

    @property
    def rusage(self) -> resource.struct_rusage:
        """The resources that the task and its waited-for children used, as wait4(2) tells them.

        `ru_maxrss` is of the whole address space: the kernel has one such number for each memory.
        """
        used = self._usage
        return resource.struct_rusage(
            (
                used.user_us / 1e6,
                used.system_us / 1e6,
                used.max_rss_kib,
                0,
                0,
                0,
                used.minor_faults,
                used.major_faults,
                0,
                used.blocks_in,
                used.blocks_out,
                0,
                0,
                0,
                used.voluntary_switches,
                used.involuntary_switches,
            )
        )

    def __str__(self) -> str:
        return int.__repr__(self)

    def __repr__(self) -> str:
        notes = []
        cause = self.signal
        if isinstance(cause, Signals):
            notes.append(cause.name)
        elif cause is not None:
            notes.append(f"signal {cause}")
        if self.core_dumped:
            notes.append("core dumped")
        if self.lost:
            notes.append("lost to another wait")
        return f"<ExitStatus {int(self)}{' (' + ', '.join(notes) + ')' if notes else ''}>"

    def __reduce__(self) -> tuple[type[ExitStatus], tuple[int, Usage, int, int, bool]]:
        facts = (self.wait_status, self._usage, self.started_ns, self.ended_ns, self.lost)
        return type(self), facts
