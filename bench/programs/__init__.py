"""The C programs of the bench, compiled where and when they are needed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from bench import BUILD

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra")


def program(name: str) -> str:
    """The path of a program, compiled if its source is newer."""
    return _built(name, name, "-fPIE", "-pie")


def library(name: str) -> str:
    """The path of a shared library, compiled if its source is newer."""
    return _built(name, f"lib{name}.so", "-fPIC", "-shared", "-pthread")


def _built(name: str, target: str, *flags: str) -> str:
    source, made = SOURCES / f"{name}.c", BUILD / target
    newest = max(path.stat().st_mtime_ns for path in (source, SOURCES / "common.h"))
    if not made.exists() or made.stat().st_mtime_ns < newest:
        made.parent.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        # Another process may compile it, too: the name is given to what is complete.
        draft = made.with_name(f"{target}.{os.getpid()}")
        subprocess.run([*compiler, *FLAGS, *flags, source, "-o", draft], check=True)
        draft.replace(made)
    return str(made)
