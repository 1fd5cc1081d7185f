"""A task's descriptors: stdin, stdout, stderr, and none else."""

# Files are looked at while the loop has nothing else to do.

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from integration.descriptors import identity, open_in_task
from support import output, python_source, run_python, still_works

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs


async def test_every_arrangement_of_descriptors(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    """Swaps and cycles of 0, 1 and 2, and the same one several times."""
    with (tmp_path / "file").open("w+b") as file:
        choices: list[Any] = [None, 0, 1, 2, file.fileno(), subprocess.DEVNULL]
        for stdio in itertools.product(choices, repeat=3):
            options = dict(zip(("stdin", "stdout", "stderr"), stdio, strict=True))
            got = await open_in_task(root, program, tmp_path / "report", **options)
            expected = {}
            for number, choice in enumerate(stdio):
                source = number if choice is None else choice
                null = choice == subprocess.DEVNULL
                expected[number] = identity("/dev/null" if null else source)
            assert got == expected, stdio


async def test_task_has_no_descriptor_but_its_three(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    descriptors = [os.open("/dev/zero", os.O_RDONLY) for _ in range(20)]
    for number in descriptors:
        os.set_inheritable(number, True)
    got = await open_in_task(root, program, tmp_path / "report")
    for number in descriptors:
        os.close(number)
    assert sorted(got) == [0, 1, 2]


async def test_files_and_sockets_are_taken(root: aiopip.Root, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    left, right = socket.socketpair()
    with (tmp_path / "in").open("rb") as file, left, right:
        assert await output(root, "cat", stdin=file) == b"from a file"
        task = await root.spawn("echo", "to a socket", stdout=right)
        assert await task.wait() == 0
        assert left.recv(100) == b"to a socket\n"


async def test_stderr_goes_where_stdout_goes(root: aiopip.Root) -> None:
    script = "echo out; echo err >&2"
    assert await output(root, "sh", "-c", script, stderr=subprocess.STDOUT) == b"out\nerr\n"


async def test_devnull_is_empty_and_takes_all(root: aiopip.Root) -> None:
    assert await output(root, "cat", stdin=subprocess.DEVNULL) == b""
    task = await root.spawn("sh", "-c", "echo x; echo y >&2", stdout=-3, stderr=subprocess.STDOUT)
    assert await task.wait() == 0


async def test_pipe_ends_when_the_task_does(root: aiopip.Root) -> None:
    """Nothing of aiopip's keeps a copy of a descriptor that it handed over."""
    reader, writer = os.pipe()
    task = await root.spawn("echo", "x", stdout=writer)
    os.close(writer)
    assert await task.wait() == 0
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"x\n"  # blocks, were the pipe still open


async def test_task_sees_the_end_of_its_stdin(root: aiopip.Root) -> None:
    reader, writer = os.pipe()
    task = await root.spawn("cat", stdin=reader, stdout=subprocess.DEVNULL)
    other = await root.spawn("sleep", "1000")  # has no copy of the writing end
    os.close(reader)
    os.close(writer)
    assert await task.wait() == 0
    other.kill()


async def test_offset_of_a_file_is_shared(root: aiopip.Root, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        file.write(b"before\n")
        assert await (await root.spawn("echo", "task", stdout=file)).wait() == 0
        file.write(b"after\n")
    assert (tmp_path / "file").read_bytes() == b"before\ntask\nafter\n"


async def test_stdout_that_the_root_has_redirected_is_handed_on(
    root: aiopip.Root, tmp_path: Path
) -> None:
    """The spawner thread has a descriptor table of its own, which knows nothing of a dup2."""
    saved = os.dup(1)
    try:
        for name in ("first", "second"):
            with (tmp_path / name).open("wb") as file:
                os.dup2(file.fileno(), 1)
            assert await (await root.spawn("echo", name)).wait() == 0
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert (tmp_path / "first").read_bytes() == b"first\n"
    assert (tmp_path / "second").read_bytes() == b"second\n"


async def test_stdin_that_the_root_has_closed_is_closed(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    saved = os.dup(0)
    os.close(0)
    try:
        got = await open_in_task(root, program, tmp_path / "report")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert sorted(got) == [1, 2]


def test_root_that_was_started_with_all_three_closed(program: Programs, tmp_path: Path) -> None:
    source = """
        import asyncio, os, sys
        import aiopip
        async def main():
            async with aiopip.Root() as root:
                for _ in range(3):
                    null = {"stdin": -3, "stdout": -3, "stderr": -3}
                    task = await root.spawn(sys.argv[1], sys.argv[2], **null)
                    assert await task.wait() == 0
        asyncio.run(main())
    """
    report = tmp_path / "report"
    line = 'exec 0<&- 1>&- 2>&-; exec "$0" "$@"'
    done = subprocess.run(
        ["sh", "-c", line, *python_source(source), str(program("descriptors")), str(report)],
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert [line.split()[0] for line in report.read_text().splitlines()] == ["0", "1", "2"]


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
async def test_descriptor_that_is_not_open_is_refused(root: aiopip.Root, option: str) -> None:
    closed = os.dup(0)
    os.close(closed)
    with pytest.raises(aiopip.SpawnOptionError, match=option) as caught:
        await root.spawn("true", **{option: closed})  # type: ignore[arg-type]
    assert caught.value.option == option
    await still_works(root)


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("stdout", subprocess.STDOUT, "STDOUT"),
        ("stderr", "a string", "descriptor"),
        ("stdin", -7, "-7"),
    ],
)
async def test_what_is_no_descriptor_is_refused(
    root: aiopip.Root, option: str, value: Any, why: str
) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=why):
        await root.spawn("true", **{option: value})
    await still_works(root)


def test_locks_of_the_root_survive_spawns(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops the process's fcntl locks on it."""
    source = """
        import asyncio, fcntl, os, subprocess, sys
        import aiopip
        flags = "fcntl.LOCK_EX | fcntl.LOCK_NB"
        other = f"import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), {flags})"
        def locked():
            line = [sys.executable, "-c", other, sys.argv[1]]
            return subprocess.run(line, stderr=subprocess.DEVNULL).returncode != 0
        async def main():
            with open(sys.argv[1], "w+") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)
                async with aiopip.Root() as root:
                    for _ in range(5):
                        assert await (await root.spawn("true", stdin=file, stdout=file)).wait() == 0
                    assert locked()
                assert locked()
            assert not locked()
        asyncio.run(main())
    """
    done = run_python(source, str(tmp_path / "file"))
    assert (done.returncode, done.stderr) == (0, "")
