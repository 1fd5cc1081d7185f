"""The pages of libc in which tasks have jumps: one copy for all that have the root's libc."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from integration.server import serve
from integration.test_sandbox import DENY, PIDFD_GETFD
from support import run_python, settled, until

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs

COPY = "/memfd:libc.so.6"
HEADER = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \S+ *(.*)")


class Text(NamedTuple):
    """What this address space has mapped of some code.

    Attributes:
        mappings: how many there are.
        private_kib: what of them is no longer the file's.
    """

    mappings: int
    private_kib: int


def text_of(name: str) -> Text:
    """What of the code is there that has a name in /proc, which it may have in part."""
    mappings = private_kib = 0
    is_it = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if header := HEADER.fullmatch(line):
            is_it = header[1] == "r-xp" and name in header[2]
            mappings += is_it
        elif is_it and line.startswith("Anonymous:"):
            private_kib += int(line.split()[1])
    return Text(mappings, private_kib)


def libc() -> Path:
    """The file of this process's libc."""
    maps = Path("/proc/self/maps").read_text()
    return Path(re.findall(r"/\S*/libc\.so\.6$", maps, re.MULTILINE)[0])


@pytest.fixture(scope="module")
def path(pip_program: Programs) -> Path:
    return pip_program("server")


async def test_tasks_have_no_pages_of_their_own(root: aiopip.Root, path: Path) -> None:
    private = text_of("libc.so.6").private_kib
    async with serve(root, path) as one, serve(root, path) as another:
        assert await one.ask("export one") == await another.ask("export another") == "OK"
        assert text_of(COPY) == (2, 0)
        assert text_of("libc.so.6").private_kib == private


async def test_task_with_another_libc_writes_into_pages_of_its_own(
    root: aiopip.Root, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = bytearray(libc().read_bytes())
    note = struct.pack("<III4s", 4, 20, 3, b"GNU")  # of the build ID
    code[code.index(note) + len(note)] ^= 1
    (tmp_path / "libc.so.6").write_bytes(code)
    monkeypatch.setenv("LD_LIBRARY_PATH", os.fspath(tmp_path))
    async with serve(root, path) as server:
        assert await server.ask("export one") == "OK"
        assert text_of(COPY) == (0, 0)
        assert text_of(f"{tmp_path}/libc.so.6").private_kib > 0
        assert server.task.shared
    assert root.statistics().untracked == 0


async def test_task_with_our_descriptors_writes_into_pages_of_its_own(
    root: aiopip.Root, program: Programs
) -> None:
    """Killed while it has the copy open, it would leave that to us."""
    for share, mappings in ((aiopip.Share(0), 1), (aiopip.Share.FILES, 0)):
        task = await root.spawn(program("pause"), "0", share=share)
        await until(lambda: root.statistics().loading == 0)
        assert text_of(COPY) == (mappings, 0)
        task.kill()
        await task.wait()
        await settled(root)


def test_what_has_the_number_of_the_copys_descriptor_is_not_opened() -> None:
    """Without pidfd_getfd the copy's descriptor is in the program's own table."""
    use = """
    import tempfile
    import aiopip
    async def main():
        async with aiopip.Root() as root:
            assert not root.statistics().private_descriptors
            paths = [f"/proc/self/fd/{number}" for number in range(3, 40)]
            links = {path: os.readlink(path) for path in paths if os.path.islink(path)}
            (copy,) = (path for path, link in links.items() if "memfd:libc.so.6" in link)
            path = tempfile.mkdtemp() + "/fifo"
            os.mkfifo(path)
            os.dup2(os.open(path, os.O_RDONLY | os.O_NONBLOCK), int(os.path.basename(copy)))
            assert await asyncio.wait_for((await root.spawn("true")).wait(), 20) == 0
    asyncio.run(main())
    """
    done = run_python(f"{DENY}    deny({{{PIDFD_GETFD}: EPERM}})\n{use}")
    assert (done.returncode, done.stderr) == (0, "")
