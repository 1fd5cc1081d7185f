"""A task's descriptors beside stdin, stdout and stderr: passed, mapped, inherited, shared."""

# Files are looked at while the loop has nothing else to do.

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.descriptors import identity, open_in_task
from support import descriptor_count, output, pipe, settled, still_works, thread_count, until

import aiopip
from aiopip import Share

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from conftest import CompileC
    from integration.conftest import Programs


@pytest.fixture
def files() -> Iterator[list[int]]:
    """Descriptors of six files, by turns inheritable and not."""
    made = [os.memfd_create(f"file {number}") for number in range(6)]
    for number in made[::2]:
        os.set_inheritable(number, True)
    yield made
    for number in made:
        os.close(number)


STDIO = {number: identity(number) for number in range(3)}


# Passed and mapped


async def test_passed_descriptors_keep_their_numbers(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    with tempfile.TemporaryFile() as file:
        got = await open_in_task(
            root, program, tmp_path / "report", pass_fds=[files[0], file, files[5], 1]
        )
        passed = (files[0], files[5], file.fileno())
        assert got == STDIO | {number: identity(number) for number in passed}


async def test_passed_pipe_is_read(root: aiopip.Root) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"by a pipe")
    os.close(writer)
    assert await output(root, "cat", f"/proc/self/fd/{reader}", pass_fds=(reader,)) == b"by a pipe"
    os.close(reader)


async def test_mapped_descriptors_change_places(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    first, second, third, fourth, *_ = files
    fd_map = {first: second, second: first, third: third, 200: fourth, 3: fourth}
    got = await open_in_task(root, program, tmp_path / "report", fd_map=fd_map)
    assert got == STDIO | {number: identity(source) for number, source in fd_map.items()}


async def test_standard_descriptors_are_mapped_too(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    fd_map = {0: files[0], 1: 2, 2: files[1], 7: 1}
    got = await open_in_task(root, program, tmp_path / "report", fd_map=fd_map)
    assert got == {number: identity(source) for number, source in fd_map.items()}
    got = await open_in_task(
        root, program, tmp_path / "report", fd_map={1: files[0]}, stderr=subprocess.STDOUT
    )
    assert got[2] == identity(files[0])


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    fd_map=st.dictionaries(st.integers(0, 30), st.integers(-3, 5), max_size=12),
    passed=st.sets(st.integers(0, 5), max_size=3),
)
async def test_any_source_at_any_number(
    root: aiopip.Root,
    program: Programs,
    tmp_path: Path,
    files: list[int],
    fd_map: dict[int, int],
    passed: set[int],
) -> None:
    """Sources below 0 are the root's 0 to 2, the others are the files."""
    mapped = {to: files[source] if source >= 0 else source + 3 for to, source in fd_map.items()}
    pass_fds = {files[source] for source in passed} - set(mapped)
    got = await open_in_task(root, program, tmp_path / "report", fd_map=mapped, pass_fds=pass_fds)
    wanted = mapped | {number: number for number in pass_fds}
    assert got == STDIO | {number: identity(source) for number, source in wanted.items()}


@pytest.mark.parametrize(
    ("options", "option", "number", "text"),
    [
        ({"fd_map": {9: 987}}, "fd_map", errno.EBADF, r"fd_map\[9\]"),
        ({"fd_map": {0: 987}}, "fd_map", errno.EBADF, r"fd_map\[0\]"),
        ({"pass_fds": (987,)}, "pass_fds", errno.EBADF, r"pass_fds\[987\]"),
        ({"fd_map": {2**30: 0}}, "fd_map", errno.EINVAL, r"fd_map\[1073741824\]: .*RLIMIT_NOFILE"),
    ],
)
async def test_descriptor_that_is_not_open(
    root: aiopip.Root, options: dict[str, object], option: str, number: int, text: str
) -> None:
    before = descriptor_count()
    with pytest.raises(aiopip.SpawnOptionError, match=text) as caught:
        await root.spawn("true", **options)  # type: ignore[arg-type]
    assert (caught.value.option, caught.value.errno) == (option, number)
    await settled(root)
    assert descriptor_count() == before
    await still_works(root)


async def test_number_at_the_end_of_the_limit(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    last = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    task = await root.spawn("test", "-e", f"/proc/self/fd/{last}", fd_map={last: files[0]})
    assert await task.wait() == 0


# Inherited


async def test_inheritable_descriptors_are_inherited(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    for _ in range(3):
        got = await open_in_task(root, program, tmp_path / "report", close_fds=False)
        assert {number for number in got if number in files} == set(files[::2])
        # pytest's own may be inheritable, too.
        assert all(os.get_inheritable(number) for number in set(got) - {0, 1, 2})
        assert STDIO.items() <= got.items()
    assert set(await open_in_task(root, program, tmp_path / "report")) == {0, 1, 2}


async def test_inherited_and_mapped(
    root: aiopip.Root, program: Programs, tmp_path: Path, files: list[int]
) -> None:
    inherited, kept, *_ = files
    got = await open_in_task(
        root,
        program,
        tmp_path / "report",
        close_fds=False,
        fd_map={kept: inherited, 100: kept},
        stdout=subprocess.DEVNULL,
    )
    assert got[kept] == got[inherited] == identity(inherited)
    assert got[100] == identity(kept)
    assert got[1] == identity("/dev/null")


async def test_spawns_of_both_kinds_leave_nothing(root: aiopip.Root) -> None:
    await still_works(root)
    await settled(root)
    before, threads = descriptor_count(), thread_count()
    for number in range(10):
        task = await root.spawn("true", close_fds=bool(number % 2))
        assert await task.wait() == 0
    await settled(root)
    # Who clones with our descriptors closes the pidfd behind the start, of which we may have heard.
    await until(lambda: descriptor_count() == before, "all descriptors are closed")
    assert thread_count() == threads + 1


# Shared

OPENS = "import os, sys; os.dup2(0, int(sys.argv[1]))"


async def test_shared_descriptors_stay_open(root: aiopip.Root) -> None:
    number = 300
    task = await root.spawn(sys.executable, "-c", OPENS, str(number), share=Share.FILES)
    assert await task.wait() == 0
    assert identity(number) == identity(0)
    os.close(number)


async def test_shared_descriptors_are_opened_for_a_task_that_runs(root: aiopip.Root) -> None:
    reader, writer = os.pipe()
    # The shell's own descriptors are the Root's, too, so it has nothing to redirect.
    task = await root.spawn("head", "-c", "1", f"/proc/self/fd/{reader}", share=Share.FILES)
    assert task.status is None
    os.write(writer, b"\\n")
    assert await task.wait() == 0
    os.close(reader)
    os.close(writer)


async def test_shared_folder_and_umask(root: aiopip.Root, tmp_path: Path) -> None:
    change = "import os, sys; os.chdir(sys.argv[1]); os.umask(0o076)"
    folder, mask = Path.cwd(), os.umask(0o022)
    try:
        task = await root.spawn(sys.executable, "-c", change, tmp_path)
        assert await task.wait() == 0
        assert Path.cwd() == folder
        task = await root.spawn(sys.executable, "-c", change, tmp_path, share=Share.FS)
        assert await task.wait() == 0
        assert Path.cwd() == tmp_path
        assert (await output(root, "sh", "-c", "pwd; umask")).split() == [
            os.fsencode(tmp_path),
            b"0076",
        ]
    finally:
        os.chdir(folder)
        os.umask(mask)


SAYS_READY = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    if (write(atoi(argv[1]), "ready\\n", 6) == 6)
        pause();
    return 1;
}
"""


async def ready(spawn: Callable[..., Awaitable[aiopip.Task]], program: Path) -> aiopip.Task:
    """A task that shares our descriptors and runs.

    One that is killed while it loads would leave open here what it has open just then.
    """
    async with pipe() as made:
        task = await spawn(program, str(made.writer), share=Share.FILES | Share.FS)
        await anyio.wait_readable(made.reader)
        assert await made.line() == b"ready"
    return task


async def test_both_are_shared(root: aiopip.Root, c_program: CompileC) -> None:
    program = c_program(SAYS_READY)
    task, other = await ready(root.spawn, program), await ready(root.spawn, program)
    task.kill()
    assert await task.wait() == -9
    other.terminate()
    assert await other.wait() == -15
    await still_works(root)


async def test_group_ends_what_shares(root: aiopip.Root, c_program: CompileC) -> None:
    async with root.task_group() as group:
        task = await ready(group.spawn, c_program(SAYS_READY))
        group.cancel()
    assert task.status == -15
