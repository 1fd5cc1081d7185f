"""What there is on this machine, before anything is made of it."""

from __future__ import annotations

import os
import platform
import re
import resource
import struct
import sys
from pathlib import Path

from aiopip._doctor.calls import mdwe, probe_calls
from aiopip._doctor.facts import Facts, Interpreter, Trial
from aiopip._doctor.trial import run_trial
from aiopip._platform import glibc_version

ET_EXEC = 2
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK", "RLIMIT_AS")


def gather(refusal: str = "") -> Facts:
    """Look at this machine.

    Args:
        refusal: why `import aiopip` fails; empty when it does not.
    """
    folder = Path(__file__).parents[1]
    # Elsewhere the numbers mean other calls.
    calls = sys.platform == "linux" and platform.machine() == "x86_64"
    return Facts(
        system=sys.platform,
        machine=platform.machine(),
        bits=64 if sys.maxsize > 2**32 else 32,
        kernel=platform.release(),
        glibc=glibc_version(),
        calls=probe_calls() if calls else {},
        mdwe=mdwe() if calls else 0,
        limits={
            name: resource.getrlimit(getattr(resource, name))
            for name in LIMITS
            if hasattr(resource, name)
        },
        read=read,
        shm=Path("/dev/shm").is_dir(),
        folder=str(folder),
        noexec=bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)),
        interpreter=interpreter(sys.executable),
        trial=Trial(native=refusal) if refusal else run_trial(),
    )


def read(path: str) -> str | None:
    """The text of a file; None when it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def interpreter(executable: str) -> Interpreter:
    """What a Python's file says of it.

    One at a fixed address is looked for as the native core does it (native/src/libpython.c).
    """
    path = Path(executable).resolve()
    try:
        with path.open("rb") as file:
            head = file.read(18)
    except OSError:
        return Interpreter("")
    if head[:4] != b"\x7fELF" or struct.unpack_from("<H", head, 16) != (ET_EXEC,):
        return Interpreter(str(path))
    if not re.fullmatch(r"python3\.\d{1,3}[a-z]*", path.name):
        return Interpreter(str(path), fixed=True)
    folders = [path.parents[1] / name for name in ("lib/x86_64-linux-gnu", "lib", "lib64")]
    files = [folder / f"lib{path.name}.so.1.0" for folder in folders]
    found = next((str(file) for file in files if os.access(file, os.R_OK)), "")
    return Interpreter(str(path), fixed=True, library=found)
