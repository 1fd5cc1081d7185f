"""What the native core reports, decoded: one class an event kind, and no behaviour.

`_ffi` makes them from `struct aiopip_event`, `_core` dispatches on their class.  The users' events
(`Exited` ...) are another thing and live in `_events`.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Failure(enum.IntEnum):
    """What a failed spawn failed at: `enum aiopip_failure`."""

    PROGRAM = 1
    DIRECTORY = 2
    PERMISSION = 3
    PRIVILEGED = 4
    INTERPRETER = 5
    NOT_PIE = 6
    STATIC = 7
    TRUNCATED = 8
    MALFORMED = 9
    MACHINE = 10
    ARGUMENTS = 11
    CWD = 12
    STDIN = 13
    STDOUT = 14
    STDERR = 15
    MAPPINGS = 16
    MEMORY = 17
    CLONE = 18
    OPTIONS = 19
    WATCH = 20
    CANCELLED = 21
    LIBPYTHON = 22
    ENTRY = 23


class Usage(NamedTuple):
    """The resource usage of a task and its waited-for children, in the kernel's units."""

    user_us: int = 0
    system_us: int = 0
    max_rss_kib: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    blocks_in: int = 0
    blocks_out: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0


class Started(NamedTuple):
    """The child applied its options and entered ld.so, or stops right before that."""

    pipid: int
    generation: int
    pid: int


class Failed(NamedTuple):
    """The child was never started, or could not apply an option; nothing of it is left."""

    pipid: int
    generation: int
    failure: int
    error: int
    detail: str


class Ended(NamedTuple):
    """The task ended and was reaped."""

    pipid: int
    generation: int
    wait_status: int
    loaded: bool
    status_lost: bool
    left: bool
    acknowledge: bool
    started_ns: int
    ended_ns: int
    usage: Usage


class Published(NamedTuple):
    """The task exported something since an import found it absent, or while the client listens."""

    pipid: int
    generation: int


class Halted(NamedTuple):
    """The task stopped; reported only while the client listens, as is `Resumed`."""

    pipid: int
    generation: int
    signal: int


class Resumed(NamedTuple):
    """The task goes on after a stop."""

    pipid: int
    generation: int


class Reclaimed(NamedTuple):
    """A slot became free; reported only after a spawn was told to come again."""

    pipid: int
    generation: int


class Released(NamedTuple):
    """Somebody gave up what he held of this process's withdrawn exports."""


class Called(NamedTuple):
    """Somebody has come to the socket that the client heeds."""


Record = Started | Failed | Ended | Published | Halted | Resumed | Reclaimed | Released | Called
