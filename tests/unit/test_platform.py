"""Which machines are refused, and what they are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiopip._platform import check_built, check_platform, glibc_version


def answer(monkeypatch: pytest.MonkeyPatch, value: str | Exception | None) -> None:
    def confstr(_name: str) -> str | None:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(os, "confstr", confstr)


def test_this_machine_is_taken() -> None:
    check_platform()
    version = glibc_version()
    assert version is not None
    assert version >= (2, 34)


@pytest.mark.parametrize(
    "value", [ValueError("unrecognized configuration name"), OSError(22, "x"), None, "", "musl 1.2"]
)
def test_musl_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, value: str | Exception | None
) -> None:
    answer(monkeypatch, value)
    with pytest.raises(ImportError, match=r"musl.*|glibc 2\.34.*musl"):
        check_platform()


@pytest.mark.parametrize(
    ("text", "version"), [("glibc 2.36", (2, 36)), ("glibc 2.41.9000", (2, 41))]
)
def test_version_is_read(
    monkeypatch: pytest.MonkeyPatch, text: str, version: tuple[int, int]
) -> None:
    answer(monkeypatch, text)
    assert glibc_version() == version


def test_old_glibc_is_refused_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "glibc 2.31")
    with pytest.raises(ImportError, match=r"2\.34 or newer; this is glibc 2\.31"):
        check_platform()


def test_other_system_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ImportError, match="darwin"):
        check_platform()


def test_other_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.uname_result([*os.uname()[:4], "aarch64"])
    monkeypatch.setattr(os, "uname", lambda: there)
    with pytest.raises(ImportError, match="aarch64"):
        check_platform()


def test_sources_that_are_not_built_say_so() -> None:
    folder = Path(__file__).parents[2]
    line = [sys.executable, "-c", "import aiopip"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: these are aiopip's sources")


def test_extension_of_another_name_is_imported_itself(tmp_path: Path) -> None:
    """A Python without the stable ABI has one; here that import works, whatever the folder has."""
    check_built(str(tmp_path))
