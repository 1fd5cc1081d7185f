"""The command `aiopip`, as a user has it."""

from __future__ import annotations

import os
import pty
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

COMMAND = str(Path(sysconfig.get_path("scripts")) / "aiopip")


def aiopip(*args: str | Path | int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    options = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([COMMAND, *map(str, args)], check=False, **options)


def on_terminal(*args: str | Path | int, stdout: int | None = None) -> tuple[int, str]:
    """Run it to its end on a terminal: the exit status, and all that it shows there.

    Args:
        args: the command's.
        stdout: where that goes; the terminal by default.
    """
    here, there = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *map(str, args)],
        stdin=there,
        stdout=there if stdout is None else stdout,
        stderr=there,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(there)
        shown = b""
        while some := _read(here):
            shown += some
        status = process.wait()
    os.close(here)
    return status, shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""  # nobody has the other end any more
