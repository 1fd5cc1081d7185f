"""/proc/self/exe in a task: its own program, although the kernel says the root's."""

# Files are looked at while the loop has nothing else to do.
# ruff: noqa: ASYNC240, PTH115

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import PROGRAMS, output

if TYPE_CHECKING:
    from conftest import CompileC
    from integration.conftest import Programs

    import aiopip

OURS = os.readlink("/proc/self/exe")
LINKS = {"readlink", "thread-self", "pid", "readlinkat", "syscall", "syscall-at", "realpath"}
FILES = {"open", "openat", "fopen", "syscall-open", "syscall-openat"}


def expected(program: Path, parent: str = OURS) -> dict[str, str]:
    """What it says of itself as a process of its own."""
    path = str(program)
    return {
        **dict.fromkeys(LINKS, path),
        **dict.fromkeys(FILES, str(program.stat().st_ino)),
        "short": path[:3],
        "none": "Invalid argument",
        "longer": "No such file or directory",
        "shorter": "No such file or directory",
        "parent": parent,
        "cwd": str(Path.cwd()),
    }


async def told(root: aiopip.Root, program: Path, *args: str) -> dict[str, str]:
    lines = (await output(root, program, *args)).decode().splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_told_by_an_ordinary_process(program: Programs) -> None:
    found = program("own_program").resolve()
    lines = subprocess.run([found], capture_output=True, text=True, check=True).stdout.splitlines()
    assert dict(line.split(" ", 1) for line in lines) == expected(found)


async def test_all_ways_to_ask(root: aiopip.Root, program: Programs) -> None:
    found = program("own_program").resolve()
    assert await told(root, found) == expected(found)


async def test_through_a_link(root: aiopip.Root, program: Programs, tmp_path: Path) -> None:
    found = program("own_program").resolve()
    (tmp_path / "link").symlink_to(found)
    assert await told(root, tmp_path / "link") == expected(found)


@pytest.mark.parametrize("how", ["execve", "execv", "execvp", "syscall"])
async def test_exec_of_itself(root: aiopip.Root, program: Programs, how: str) -> None:
    """What is started so is an ordinary process, of which the kernel tells the truth."""
    found = program("own_program").resolve()
    assert await told(root, found, how) == expected(found)


@pytest.mark.parametrize("how", ["posix_spawn", "vfork"])
async def test_child_of_itself(root: aiopip.Root, program: Programs, how: str) -> None:
    found = program("own_program").resolve()
    assert await told(root, found, how) == expected(found)


async def test_child_by_fork(root: aiopip.Root, program: Programs) -> None:
    """It runs our program without exec, and asks for its own number or its parent's."""
    found = program("own_program").resolve()
    assert await told(root, found, "fork") == expected(found, parent=str(found))


async def test_python(root: aiopip.Root) -> None:
    code = """if True:
        import os, pathlib, subprocess, sys
        print(os.readlink("/proc/self/exe"))
        print(os.path.realpath(f"/proc/{os.getpid()}/exe"))
        print(os.stat(os.open("/proc/self/exe", os.O_RDONLY)).st_ino)
        again = ["again", "-c", "print(7)"]
        print(subprocess.run(again, executable="/proc/self/exe", capture_output=True).stdout)
    """
    python = Path(sys.executable).resolve()
    said = (await output(root, sys.executable, "-c", code)).decode().splitlines()
    assert said == [str(python), str(python), str(python.stat().st_ino), "b'7\\n'"]


BLOCKS = """
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
static void *open_fifo(void *path) { return open(path, O_RDONLY) < 0 ? path : NULL; }
int main(int argc, char **argv)
{
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, open_fifo, argv[1]) || pthread_cancel(thread) ||
        pthread_join(thread, &result))
        return 1;
    return result == PTHREAD_CANCELED ? 0 : 2;
}
"""


async def test_open_is_a_point_of_cancellation(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    program = c_program(BLOCKS, "-pthread")
    assert await (await root.spawn(program, tmp_path / "fifo")).wait() == 0


async def test_script_s_program_is_its_interpreter(root: aiopip.Root, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nreadlink /proc/$$/exe; exec readlink /proc/self/exe")
    script.chmod(0o755)
    said = (await output(root, script)).decode().split()
    # The first readlink is another process than the one that it asks for.
    assert said == [OURS, str(Path(shutil.which("readlink") or "").resolve())]


async def test_musl(root: aiopip.Root, tmp_path: Path) -> None:
    compiler = shutil.which("musl-gcc")
    if compiler is None:
        pytest.skip("musl-gcc is not installed")
    found = tmp_path / "own_program"
    line = [compiler, "-fPIE", "-pie", "-o", str(found), str(PROGRAMS / "own_program.c")]
    subprocess.run(line, check=True)  # noqa: ASYNC221  in a test that does nothing else
    assert await told(root, found) == expected(found)
    # musl's own readlink says 0 where there is no room.
    assert await told(root, found, "execve") == expected(found) | {"none": ""}
