"""What those are told who cannot build the package."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

# A gcc that does not find the headers of Python.
WITHOUT_HEADERS = """#!/bin/sh
for arg; do
    shift
    case $arg in
    -I*/include/python*) ;;
    *) set -- "$@" "$arg" ;;
    esac
done
exec gcc "$@"
"""


def configure(folder: Path, **environment: str) -> str:
    """Have meson fail to configure the package: what it says."""
    meson = Path(sysconfig.get_path("scripts")) / "meson"
    if not meson.exists():
        pytest.skip(f"no {meson}: pip install --group test")
    done = subprocess.run(
        [meson, "setup", folder / "build", CHECKOUT],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_missing_headers_of_python_are_named(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(WITHOUT_HEADERS)
    compiler.chmod(0o755)
    said = configure(tmp_path, CC=str(compiler))
    version = sysconfig.get_python_version()
    assert f"is missing; on Debian and Ubuntu: apt-get install python{version}-dev." in said


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    said = configure(tmp_path, PATH=str(tmp_path), CC="")
    assert "Unknown compiler(s): [['cc'], ['gcc']" in said
