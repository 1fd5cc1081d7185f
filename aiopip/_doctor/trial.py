"""Whether tasks run here: a process of its own opens a Root and starts some.

A process of its own, since on old kernels a task that crashes takes its root along, and since a
sandbox may end who makes a call that it forbids.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiopip._doctor.facts import Trial

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import aiopip

DEADLINE_S = 60.0
"""How long the process may take; it takes half a second."""

STEP_S = 10.0
"""How long one task may take."""

ENTER = "import sys; sys.path[:] = {path!r}; "
"""What gives another Python the modules of this one: its current folder may hide the package."""

SILENT: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
"""What is found is written to stdout, and what is wrong to stderr."""

PROCESS = "from aiopip._doctor.trial import main; main()"
TASK = "import aiopip; aiopip.this_task().export('answer', b'42', keep=True)"
MAPPING = "import os; kept = bytearray(1 << 26); os._exit(0)"
"""It ends without giving its memory back; its root has to do that."""


def run_trial() -> Trial:
    """Try it out.  Blocks until the process that tries has ended."""
    line = [sys.executable, "-c", ENTER.format(path=sys.path) + PROCESS]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        return Trial(root=f"the process that tried had not ended after {DEADLINE_S:g} s")
    except OSError as error:
        return Trial(root=f"this Python cannot be started ({error.strerror})")
    return read_trial(done.stdout, how_ended(done.returncode, done.stderr))


def read_trial(written: str, end: str) -> Trial:
    """What a process that tried has found.

    Args:
        written: what it wrote: a line when tasks have run, another one behind the crash.
        end: how it ended.
    """
    lines = written.splitlines()
    if not lines:
        return Trial(root=f"the process that tried {end}")
    trial = Trial(**json.loads(lines[-1]))
    if trial.tasks_run and trial.crash is None:
        return dataclasses.replace(trial, crash=f"the root {end}")
    return trial


def how_ended(status: int, stderr: str) -> str:
    """How a process ended, with its last words."""
    words = stderr.strip().splitlines()[-1:]
    how = f"was ended by {_signal(-status)}" if status < 0 else f"exited with {status}"
    return ": ".join([how, *words])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# In that process


def main() -> None:
    """Try, and write what was found, before the crash and behind it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asyncio.run(_attempt())


async def _attempt() -> None:
    import aiopip
    from aiopip._ffi import ABI_VERSION

    trial = Trial(abi_version=ABI_VERSION)
    try:
        async with aiopip.Root(grace_s=0) as root:
            program = await _why_not(_run_program(root))
            python = await _why_not(_run_python(root)) if not program else None
            lost_mib = await _lost_mib(root) if python == "" else 0
            trial = dataclasses.replace(
                trial,
                root="",
                program=program,
                python=python,
                lost_mib=lost_mib,
                statistics=dataclasses.asdict(root.statistics()),
            )
            _write(trial)
            if trial.tasks_run:
                _write(dataclasses.replace(trial, crash=await _why_not(_run_crash(root))))
            root.kill_all()  # one that had not ended in time
    except aiopip.AiopipError as error:
        _write(dataclasses.replace(trial, root=str(error)))


def _write(trial: Trial) -> None:
    sys.stdout.write(json.dumps(dataclasses.asdict(trial)) + "\n")
    sys.stdout.flush()


async def _why_not(step: Coroutine[Any, Any, str]) -> str:
    """Take a step: empty when it worked, else what went wrong."""
    try:
        return await asyncio.wait_for(step, STEP_S)
    except asyncio.TimeoutError:
        return f"it had not ended after {STEP_S:g} s"
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the report says
        return str(error) or type(error).__name__


async def _run_program(root: aiopip.Root) -> str:
    task = await root.spawn("true", **SILENT)
    status = await task.wait()
    return "" if status == 0 else f"`true` ended with {status!r}"


async def _run_python(root: aiopip.Root) -> str:
    with tempfile.TemporaryFile() as stderr:
        line = [sys.executable, "-c", ENTER.format(path=sys.path) + TASK]
        task = await root.spawn(*line, **{**SILENT, "stderr": stderr})
        status = await task.wait()
        if status != 0:
            return f"it ended with {status!r}{_last_words(stderr)}"
    answer = bytes((await task.named_import("answer")).view())
    return "" if answer == b"42" else f"it exported {answer!r}, and no b'42'"


def _last_words(stderr: IO[bytes]) -> str:
    stderr.seek(0)
    words = stderr.read().decode(errors="replace").strip().splitlines()
    return f" ({words[-1]})" if words else ""


async def _run_crash(root: aiopip.Root) -> str:
    task = await root.spawn("sh", "-c", "kill -SEGV $$", **SILENT)
    status = await task.wait()
    return "" if status == -signal.SIGSEGV else f"a task that crashed ended with {status!r}"


async def _lost_mib(root: aiopip.Root) -> int:
    """How much stays mapped of what an ended task had mapped."""
    await _reclaimed(root)
    before = _mapped_mib()
    task = await root.spawn(sys.executable, "-c", MAPPING, **SILENT)
    await task.wait()
    await _reclaimed(root)
    return max(_mapped_mib() - before, 0)


async def _reclaimed(root: aiopip.Root) -> None:
    """Wait until the memory of what has run is gone; it goes after the ends are reported."""
    for _ in range(500):
        now = root.statistics()
        if not (now.reclaiming or now.held):
            return
        await asyncio.sleep(0.01)


def _mapped_mib() -> int:
    """What is mapped to be written; malloc sets aside as much again for the threads of a root."""
    return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() >> 20
