"""What the numbers depend on: processors, memory, kernel, libraries, versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

Facts = dict[str, str]

PACKAGES = ("aiopip", "anyio", "trio", "uvloop", "numpy", "loky")


def facts() -> Facts:
    """This machine, now."""
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return {
        "processor": f"{len(os.sched_getaffinity(0))} x {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "load": f"{load} when it began",
    } | {name: _version(name) for name in PACKAGES}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip() + (" (virtual)" if _is_virtual() else "")
    return "unknown"


def _is_virtual() -> bool:
    flags = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line)
    return " hypervisor" in next(flags, "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def sentence(machine: Facts) -> str:
    """The machine in a sentence."""
    return (
        f"{machine['processor']}, {machine['memory']}, Linux {machine['kernel']}, "
        f"{machine['libc']}, Python {machine['python']}, uvloop {machine['uvloop']}, "
        f"anyio {machine['anyio']}, trio {machine['trio']}, loky {machine['loky']}"
    )
