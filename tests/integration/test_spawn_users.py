"""Tasks of other users and groups."""

# Files are looked at while the loop has nothing else to do.

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import block_until, is_gone, output, python_source, run_python, settled, status_field

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import CompileC
    from integration.conftest import Programs

NOBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root's rights")

_GET_DUMPABLE = 3


def dumpable() -> int:
    return int(ctypes.CDLL(None).prctl(_GET_DUMPABLE))


def readable(path: str) -> bool:
    """Whether another user may read a file of ours."""
    return not subprocess.run(
        ["test", "-r", path], user=NOBODY, group=NOBODY, check=False
    ).returncode


@pytest.fixture
def for_nobody() -> None:
    """Skip where aiopip is installed for its user alone."""
    if not readable(str(resources.files("aiopip") / "lib" / "libaiopip-task.so")):
        pytest.skip("aiopip is installed in a folder that others may not read")


@ROOT_ONLY
@pytest.mark.usefixtures("for_nobody")
async def test_user_and_groups(root: aiopip.Root) -> None:
    options = {"user": NOBODY, "group": NOBODY, "extra_groups": [7, 8]}
    status = (await output(root, "cat", "/proc/self/status", **options)).decode()
    for field in ("Uid", "Gid"):
        assert set(status_field(status, field).split()) == {str(NOBODY)}
    assert status_field(status, "Groups").split() == ["7", "8"]
    assert (await output(root, "id", "-un", user="nobody")).strip() == b"nobody"
    assert await output(root, "id", "-G", group=5, extra_groups=()) == b"5\n"
    assert dumpable() == 1
    assert os.geteuid() == 0


@ROOT_ONLY
@pytest.mark.usefixtures("for_nobody")
async def test_privileges_are_used_first(root: aiopip.Root, tmp_path: Path) -> None:
    """As subprocess does it: the folder is entered as before; so is what takes privileges."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    report = os.open(closed / "report", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)
    line = "nice; id -u; pwd"
    task = await root.spawn("sh", "-c", line, user=NOBODY, nice=-5, cwd=closed, fd_map={1: report})
    os.close(report)
    assert await task.wait() == 0
    written = (closed / "report").read_text().split()
    assert written == ["-5", str(NOBODY), str(closed)]


@ROOT_ONLY
@pytest.mark.usefixtures("for_nobody")
async def test_program_that_the_user_may_not_execute(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "program"
    path.write_bytes(program("zero").read_bytes())
    path.chmod(0o700)
    with pytest.raises(aiopip.NotExecutableError):
        await root.spawn(path, user=NOBODY)
    await settled(root)
    assert await (await root.spawn(path)).wait() == 0
    assert dumpable() == 1


@ROOT_ONLY
@pytest.mark.usefixtures("for_nobody")
def test_task_of_another_user_dies_with_its_root() -> None:
    """A change of user takes the death signal away, so it has to be set again."""
    source = f"""
        import asyncio, os, signal, sys, aiopip
        async def main():
            async with aiopip.Root() as root:
                task = await root.spawn("sleep", "1000", user={NOBODY})
                print(task.pid, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
    """
    done = subprocess.run(python_source(source), stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    block_until(lambda: is_gone(pid))


EXPORTS = """
#include <pip/pip.h>
#include <unistd.h>
static char text[] = "of another user";
int main(void) { return pip_named_export(text, "name") ? 1 : pause(); }
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that all may read: pytest's are its user's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@ROOT_ONLY
@pytest.mark.usefixtures("for_nobody")
async def test_task_of_another_user_exports_and_is_killed(
    root: aiopip.Root, pipcc: CompileC, public: Path
) -> None:
    program = public / "program"
    program.write_bytes(pipcc(EXPORTS).read_bytes())
    program.chmod(0o755)
    task = await root.spawn(program, user=NOBODY, group=NOBODY)
    region = await task.named_import("name")
    assert bytes(region.cast("u1", (15,)).view()) == b"of another user"
    del region
    task.kill()
    assert await task.wait() == -9


@pytest.mark.parametrize(
    ("option", "value"), [("user", 4711), ("group", 4711), ("extra_groups", [])]
)
def test_without_the_right_to_it(option: str, value: object) -> None:
    """Without a capability; what a process is already it may become."""
    source = f"""
        import asyncio, ctypes, os, sys, aiopip
        version, none, capset = 0x20080522, (ctypes.c_uint32 * 6)(), 126
        assert ctypes.CDLL(None).syscall(capset, (ctypes.c_uint32 * 2)(version, 0), none) == 0
        async def main():
            async with aiopip.Root() as root:
                task = await root.spawn("true", user=os.getuid(), group=os.getgid())
                assert await task.wait() == 0
                try:
                    await root.spawn("true", {option}={value!r})
                except PermissionError as error:
                    assert isinstance(error, aiopip.SpawnOptionError)
                    print(error.option, error.errno, "CAP_SET" in str(error))
        asyncio.run(main())
    """
    done = run_python(source)
    assert (done.stdout, done.stderr) == (f"{option} {errno.EPERM} True\n", "")
