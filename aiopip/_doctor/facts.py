"""What is known of a machine, and what is said of it."""

from __future__ import annotations

import dataclasses
import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Verdict(enum.Enum):
    """What a finding means for tasks."""

    OK = "ok"
    LIMITED = "limited"
    """Tasks run, with less comfort or in smaller numbers."""
    MISSING = "missing"
    """Tasks do not run, for this reason."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the report.

    Attributes:
        what: what was looked at.
        found: what there is.
        verdict: what that means for tasks.
        advice: what follows, and what can be done about it; empty when all is well.
    """

    what: str
    found: str
    verdict: Verdict = Verdict.OK
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """The Python that would be root and tasks.

    Attributes:
        path: its file, behind all symbolic links; empty when it is not known.
        fixed: whether it is linked at a fixed address (ET_EXEC).
        library: what such a one runs from as a task: its libpython's path, empty when that is not
            where it is looked for, None when its name does not say which it is.
    """

    path: str
    fixed: bool = False
    library: str | None = None


@dataclasses.dataclass(frozen=True)
class Trial:
    """How far tasks get on this machine: each step is empty when it worked, else says why not.

    Attributes:
        native: loading the native part.
        root: opening a Root; None when that was not tried, as below.
        program: running `true` as a task.
        python: running this Python as one, and importing what it exports.
        crash: whether the root survives a task that a signal ends.
        lost_mib: how much stays mapped of what a Python task had mapped that has ended.
        abi_version: of the native part.
        statistics: the fields of RootStatistics at that moment.
    """

    native: str = ""
    root: str | None = None
    program: str | None = None
    python: str | None = None
    crash: str | None = None
    lost_mib: int = 0
    abi_version: int | None = None
    statistics: Mapping[str, int] | None = None

    @property
    def tasks_run(self) -> bool:
        """Whether a program has run as a task."""
        return self.program == ""

    def obstacle(self) -> str:
        """What the first step that did not work says."""
        steps = (self.native, self.root, self.program)
        return next((why for why in steps if why), "it was not tried")


@dataclasses.dataclass(frozen=True)
class Facts:
    """All that is known of a machine; tests make up others.

    Attributes:
        system: `sys.platform`.
        machine: the processor, as uname(2) names it.
        bits: of this Python.
        kernel: the release of the kernel, "6.1.0-13-amd64".
        glibc: the version of glibc; None on another C library.
        calls: by the name of each system call that was tried: 0, or the errno it is refused with.
        mdwe: the answer of PR_GET_MDWE, 0 where there is no such thing.
        limits: by the name of a resource limit: soft and hard, -1 for none.
        read: the text of a file of /proc or /sys, None when it cannot be read.
        shm: whether /dev/shm is there.
        folder: the package's folder.
        noexec: whether its file system is mounted noexec.
        interpreter: this Python.
        trial: how far tasks get.
    """

    system: str
    machine: str
    bits: int
    kernel: str
    glibc: tuple[int, int] | None
    calls: Mapping[str, int]
    mdwe: int
    limits: Mapping[str, tuple[int, int]]
    read: Callable[[str], str | None]
    shm: bool
    folder: str
    noexec: bool
    interpreter: Interpreter
    trial: Trial

    def number(self, path: str) -> int | None:
        """The number that a file of /proc or /sys has; None when there is none."""
        text = (self.read(path) or "").strip()
        return int(text) if text.isdigit() else None

    @property
    def kernel_version(self) -> tuple[int, int]:
        """(6, 1) of "6.1.0-13-amd64"; (0, 0) where it has no such form."""
        found = re.match(r"(\d+)\.(\d+)", self.kernel)
        return (int(found[1]), int(found[2])) if found else (0, 0)
