"""What follows from the machine, its C library, this Python, and where the package lies."""

from __future__ import annotations

from aiopip._doctor.facts import Facts, Finding, Verdict
from aiopip._platform import OLDEST_GLIBC

OLDEST_KERNEL = (5, 9)
WANTED_KERNEL = (6, 1)
FIRST_WITH_PIDFDS = (5, 4)  # waitid() takes them since

LIMITED, MISSING = Verdict.LIMITED, Verdict.MISSING


def check_system(facts: Facts) -> Finding:
    """Linux."""
    if facts.system == "linux":
        return Finding("system", "Linux")
    advice = "Tasks are made by Linux's clone(2); use a Linux machine or container."
    return Finding("system", facts.system, MISSING, advice)


def check_machine(facts: Facts) -> Finding:
    """x86-64, and a Python of 64 bits."""
    found = f"{facts.machine}, {facts.bits} bits"
    if facts.machine == "x86_64" and facts.bits == 64:
        return Finding("processor", found)
    advice = "The code that enters a task exists for x86-64 alone; use such a machine and Python."
    return Finding("processor", found, MISSING, advice)


def check_kernel(facts: Facts) -> Finding | None:
    """Its version, as far as it alone says something."""
    if facts.system != "linux":
        return None
    version = facts.kernel_version
    if version >= WANTED_KERNEL:
        return Finding("kernel", facts.kernel)
    if version < FIRST_WITH_PIDFDS:
        advice = "It cannot wait for a pidfd, so no Root opens; use Linux 6.1 or newer."
        return Finding("kernel", facts.kernel, MISSING, advice)
    advice = (
        "a task that dies by a signal may take its root along, as it does on 5.10; use Linux 6.1 "
        "or newer."
    )
    if version < OLDEST_KERNEL:
        advice = f"5.9 is the oldest that aiopip is made for, and {advice}"
    advice = advice[0].upper() + advice[1:]
    return Finding("kernel", facts.kernel, LIMITED, advice)


def check_libc(facts: Facts) -> Finding:
    """glibc, and one in which threads are part of libc."""
    oldest = ".".join(map(str, OLDEST_GLIBC))
    if facts.glibc is None:
        advice = (
            f"A root must run on glibc {oldest} or newer, which musl's Python does not; use a "
            "distribution with glibc (tasks may be of musl)."
        )
        return Finding("C library", "no glibc", MISSING, advice)
    found = "glibc {}.{}".format(*facts.glibc)
    if facts.glibc >= OLDEST_GLIBC:
        return Finding("C library", found)
    advice = f"A task is handed libc alone, which has threads since {oldest}; use a newer system."
    return Finding("C library", found, MISSING, advice)


def check_noexec(facts: Facts) -> Finding:
    """Whether the package's libraries may be mapped for execution."""
    if not facts.noexec:
        return Finding("package", facts.folder)
    advice = (
        "Its file system is mounted noexec, so its libraries cannot be loaded; install the package "
        "elsewhere, or mount with exec."
    )
    return Finding("package", facts.folder, MISSING, advice)


def check_interpreter(facts: Facts) -> Finding:
    """Whether this Python can be a task; it can be a root in any case."""
    python = facts.interpreter
    if not python.path:
        advice = "Only another Python can be spawned; start it by its path, so that it is known."
        return Finding("interpreter", "unknown to itself", LIMITED, advice)
    if not python.fixed:
        return Finding("interpreter", f"{python.path}, position-independent")
    if python.library and not set(python.library) & set(" :"):
        found = f"{python.path}, at a fixed address, runs from {python.library}"
        return Finding("interpreter", found)
    name = python.path.rpartition("/")[2]
    way = f"install its library (Debian, Ubuntu: apt-get install lib{name}), or use"
    if python.library:
        way = f"{python.library} has a blank or a colon in its path: install it elsewhere, or use"
    elif python.library is None:
        way = "use"
    advice = (
        "It can be a root and no task (NotPieError); "
        f"{way} a Python built as a position-independent executable."
    )
    return Finding("interpreter", f"{python.path}, at a fixed address", LIMITED, advice)


PLATFORM = (check_system, check_machine, check_kernel, check_libc)
PACKAGE = (check_noexec, check_interpreter)
