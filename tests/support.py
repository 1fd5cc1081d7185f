"""What the tests with real tasks share: Roots that must end clean, outputs, and /proc."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest

import aiopip
from aiopip import _exports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aiopip._core import Core

PROGRAMS = Path(__file__).parent / "programs"

DEADLINE_S = 20.0
"""How long something may take that takes milliseconds on a machine with nothing else to do."""

PAGE = os.sysconf("SC_PAGE_SIZE")


# Waiting


async def until(
    condition: Callable[[], bool], what: str = "", deadline_s: float = DEADLINE_S
) -> None:
    """Let the loop run until a condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s} s: {what or condition}")
        await anyio.sleep(0.002)


def block_until(
    condition: Callable[[], bool], what: str = "", deadline_s: float = DEADLINE_S
) -> None:
    """Block until a condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s} s: {what or condition}")
        time.sleep(0.002)


# Roots


@contextlib.asynccontextmanager
async def clean_root(**options: Any) -> AsyncIterator[aiopip.Root]:
    """A Root whose tasks are ended behind the block, and must leave nothing then."""
    async with aiopip.Root(**{"grace_s": 0.2, **options}) as root:
        try:
            yield root
        finally:
            root.kill_all()
        await settled(root)


async def settled(root: aiopip.Root) -> None:
    """Wait until no task is alive and all their memory has gone back."""

    def nothing_left() -> bool:
        gc.collect()
        root.trim()
        now = root.statistics()
        return not (now.alive or now.queued or now.loading or now.reclaiming or now.held)

    await until(nothing_left, "the memory of all tasks goes back")
    now = root.statistics()
    assert now.untracked == 0
    assert now.spawned == now.ended


async def still_works(root: aiopip.Root) -> None:
    """Run a task."""
    assert await (await root.spawn("true")).wait() == 0


def kept_exports(core: Core) -> int:
    """How many objects of a Root's exports are kept, withdrawn or not; its own is not counted."""
    found = {number for address, number in _exports._kept if address == core.peer.address}
    return len(found - core.exports._own)


# Outputs


async def output(
    root: aiopip.Root, program: str | Path, *args: str | bytes | Path, **options: Any
) -> bytes:
    """What a task writes to its stdout; it has to succeed."""
    with tempfile.TemporaryFile() as file:
        task = await root.spawn(program, *args, stdout=file, **options)
        status = await task.wait()
        file.seek(0)
        written = file.read()
    assert status == 0, (status, written)
    return written


class Pipe:
    """A pipe from a task's stdout: `await pipe.line()`."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._read = bytearray()
        self._writer_is_ours = True

    async def line(self) -> bytes:
        """The next line, without its end; empty at the end of the pipe."""
        if self._writer_is_ours:
            self._writer_is_ours = False
            os.close(self.writer)
        with anyio.fail_after(DEADLINE_S):
            while b"\n" not in self._read:
                await anyio.wait_readable(self.reader)
                some = os.read(self.reader, 1 << 16)
                if not some:
                    break
                self._read += some
        line, _, self._read = self._read.partition(b"\n")
        return bytes(line)

    async def close(self) -> None:
        """Close both ends."""
        os.close(self.reader)
        if self._writer_is_ours:
            os.close(self.writer)


@contextlib.asynccontextmanager
async def pipe() -> AsyncIterator[Pipe]:
    """A pipe; hand over its `writer` before the first `line()`."""
    made = Pipe()
    try:
        yield made
    finally:
        await made.close()


async def ready(
    root: aiopip.Root, program: str | Path, *args: str | Path, **options: Any
) -> aiopip.Task:
    """A task that has said on its stdout that it is ready; its stdout is closed behind that."""
    async with pipe() as made:
        task = await root.spawn(program, *args, stdout=made.writer, **options)
        assert await made.line() == b"ready"
    return task


# Other Python processes


def python_source(source: str) -> list[str]:
    """The command line that runs a Python program, warnings being errors.

    The current folder, where the package's sources may lie, is not searched for modules.
    """
    head = "import sys; sys.path.remove('')\n"
    return [sys.executable, "-W", "error", "-c", head + textwrap.dedent(source)]


def run_python(
    source: str, *args: str, timeout_s: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a process of its own, to its end."""
    line = [*python_source(source), *args]
    options = {"capture_output": True, "text": True, "timeout": timeout_s, **options}
    return subprocess.run(line, check=False, **options)


def check_in_fork(check: Callable[[], None]) -> None:
    """Run a check in a child made by fork(); it must not fail there."""
    with warnings.catch_warnings():
        # Since Python 3.12, of a process with threads; the child ends without them.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:  # noqa: BLE001  shown; the test run behind it is the parent's alone
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# What /proc tells


def is_gone(pid: int) -> bool:
    """Whether no such process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def all_gone(pids: Iterable[int]) -> bool:
    """Whether none of these processes runs."""
    return all(is_gone(pid) for pid in pids)


def children() -> set[int]:
    """The child processes of this process, zombies too."""
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= set(map(int, (thread / "children").read_text().split()))
    return found


class Mapping(NamedTuple):
    """A line of /proc/self/maps."""

    start: int
    end: int
    protection: str
    name: str


def mappings() -> list[Mapping]:
    """The mappings of this process, its tasks' included, by address."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, protection, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        found.append(Mapping(start, end, protection, name[0] if name else ""))
    return found


def mapping_count() -> int:
    """How many mappings this process has."""
    with Path("/proc/self/maps").open("rb") as maps:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: maps.read(1 << 18), b""))


def resident_bytes() -> int:
    """This process's resident memory, its tasks' included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def thread_count() -> int:
    """How many threads this process has, without those that trio keeps."""
    return len(list(Path("/proc/self/task").iterdir())) - kept_thread_count()


def kept_thread_count() -> int:
    """How many threads trio keeps, for ten seconds, for its next use of one."""
    return sum(one.name.startswith("Trio thread") for one in threading.enumerate())


def descriptor_count() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def status_field(status: str, name: str) -> str:
    """A field of the text of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise KeyError(name)


def signals_in(mask: str) -> set[int]:
    """The signals of a hexadecimal mask of /proc/PID/status."""
    bits = int(mask, 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def kill_quietly(pid: int) -> None:
    """SIGKILL, for a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
