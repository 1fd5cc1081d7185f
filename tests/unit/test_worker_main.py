"""What a worker has of the program that owns its pool: the main module, multiprocessing's key."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aiopip import _calls

if TYPE_CHECKING:
    from pathlib import Path


def run_python(code: str) -> list[str]:
    """What a new interpreter prints that runs this, by lines."""
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_script_is_the_main_module_of_both_names(tmp_path: Path) -> None:
    script = tmp_path / "script"  # programs have no suffix
    script.write_text(
        """# coding: latin-1
import sys
print(__name__, __file__ == PATH, __package__ == "", __spec__, __doc__, sys.modules[__name__].f)
def f():
    return g
g = "a global"
if __name__ == "__main__":
    print("run again")
""".replace("PATH", repr(os.fspath(script))).replace("sys.modules[__name__].f", "len(sys.argv)")
    )
    assert run_python(f"""
from aiopip._main_module import import_main
import_main("path", {os.fspath(script)!r})
import sys
main = sys.modules["__main__"]
print(main is sys.modules["__mp_main__"], main.f(), main.f.__module__)
main.g = "another"
print(main.f())
print("runpy" in sys.modules)
""") == ["__mp_main__ True True None None 1", "True a global __mp_main__", "another", "False"]


def test_compiled_script_and_module_are_imported(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("value = __name__")
    assert run_python(f"""
import py_compile, sys
sys.path.insert(0, {os.fspath(tmp_path)!r})
py_compile.compile({os.fspath(tmp_path / "script.py")!r}, {os.fspath(tmp_path / "a.pyc")!r})
from aiopip._main_module import import_main
for what in ("path", {os.fspath(tmp_path / "a.pyc")!r}), ("name", "script"):
    import_main(*what)
    print(sys.modules["__main__"].value)
""") == ["__mp_main__", "__mp_main__"]


@pytest.mark.parametrize("before", [False, True])
def test_key_is_multiprocessings(before: bool) -> None:
    assert run_python(f"""
import sys
finders = list(sys.meta_path)
if {before}:
    import multiprocessing
from aiopip._worker import AuthKey
AuthKey(b"of the owner").install()
print("multiprocessing" in sys.modules)
import multiprocessing.process as process
print(bytes(process.current_process().authkey), type(process.current_process().authkey).__name__)
print(type(process.__loader__).__name__, process.__loader__ is process.__spec__.loader)
print(sys.meta_path == finders)
""") == [str(before), "b'of the owner' AuthenticationString", "SourceFileLoader True", "True"]


# The extension module


def test_memory_is_seen_in_place() -> None:
    import ctypes

    buffer = ctypes.create_string_buffer(b"bytes", 5)
    view = _calls.memory_at(ctypes.addressof(buffer), 5)
    buffer[0] = b"B"
    assert (bytes(view), view.readonly) == (b"Bytes", True)
    assert bytes(_calls.memory_at(0, 0)) == b""


def test_only_tasks_are_workers() -> None:
    with pytest.raises(PermissionError, match="joining the root failed"):
        _calls.Source(0, 0, 0, (0, 0))
    with pytest.raises(TypeError):
        _calls.Source(0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no keyword"):
        _calls.Source(0, 0, 0, owner=(0, 0))  # type: ignore[call-arg]
