"""What a worker is when it has started: what it has loaded, and what it does without a call."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from support import until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

OURS = {"aiopip", "aiopip._calls", "aiopip._worker"}
"""What serving takes."""

OURS_OF_RESULTS = {
    f"aiopip._{name}" for name in ("parcel", "pickling", "reducers", "references", "serving")
}
"""What a result takes that is more than a number."""

THEIRS = {"_compat_pickle", "_functools", "_pickle", "copyreg"}
"""What that takes, and an interpreter has not loaded."""

PREPARING = {"aiopip._main_module"}
"""What becoming a process of multiprocessing takes, if the test's has loaded it."""

TEXT = "not\nmine: \\u0041 \u2713"

LOADED = "sorted(__import__('sys').modules)"

TELL = """
import sys
sys.stdout.write(" ".join(sys.modules))
sys.stdout.flush()
"""


@pytest.fixture(autouse=True)
def no_main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that no worker imports, as pytest's own script would be."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


def loaded_by_an_interpreter() -> set[str]:
    line = [sys.executable, "-c", f"print(*{LOADED})"]
    done = subprocess.run(line, cwd="/", capture_output=True, text=True, check=True)
    return set(done.stdout.split())


async def test_workers_load_next_to_nothing(
    root: aiopip.Root, capfd: pytest.CaptureFixture[str]
) -> None:
    usual = loaded_by_an_interpreter() | PREPARING
    async with root.pool(workers=1) as pool:
        await pool.run(exec, TELL)
        told = capfd.readouterr().out.split()
        loaded = await pool.run(eval, LOADED)
    assert set(told) - usual <= OURS | THEIRS
    assert set(loaded) - usual <= OURS | THEIRS | OURS_OF_RESULTS


async def test_functools_is_whole_in_workers(root: aiopip.Root) -> None:
    """`_pickle` is given its C half alone."""
    async with root.pool(workers=1) as pool:
        assert await pool.run(eval, "__import__('functools').wraps.__module__") == "functools"
        assert await pool.run(eval, "__import__('functools').partial(int, '7')()") == 7


async def test_worker_without_pickle_fails_calls(
    root: aiopip.Root,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It was ready before that was found out; and another worker would fare no better."""
    (tmp_path / "_compat_pickle.py").write_text(f"raise ImportError({TEXT!r})")
    monkeypatch.syspath_prepend(tmp_path)
    async with root.pool(workers=1) as pool:
        for _ in range(2):
            with pytest.raises(aiopip.RemoteError, match=f"ImportError: {re.escape(TEXT)}"):
                await pool.run(abs, -1)
        assert pool.statistics().workers[0].ended == 0
    assert "_compat_pickle.py" in capfd.readouterr().err


async def test_idle_worker_runs_handlers_of_signals(root: aiopip.Root, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"""
import signal
signal.signal(signal.SIGUSR1, lambda *_: open({os.fspath(mark)!r}, "w").close())
"""
    async with root.pool(workers=1) as pool:
        await pool.run(exec, code)
        os.kill(await pool.run(os.getpid), signal.SIGUSR1)
        await until(mark.exists)
        assert await pool.run(abs, -1) == 1


async def test_idle_worker_ends_by_what_a_handler_raises(
    root: aiopip.Root, capfd: pytest.CaptureFixture[str]
) -> None:
    code = """
import signal
def end(*_):
    raise RuntimeError("on purpose")
signal.signal(signal.SIGUSR1, end)
"""
    async with root.pool(workers=1) as pool:
        await pool.run(exec, code)
        os.kill(await pool.run(os.getpid), signal.SIGUSR1)
        await until(lambda: pool.statistics().workers[0].ended == 1)
        assert await pool.run(abs, -1) == 1
    assert "RuntimeError: on purpose" in capfd.readouterr().err
