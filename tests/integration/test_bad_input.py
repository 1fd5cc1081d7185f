"""Programs that cannot be tasks: each has its own error, and the Root goes on."""

# Files are made and looked at here while the loop has nothing else to do.
# ruff: noqa: ASYNC240

from __future__ import annotations

import errno
import os
import random
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import output, run_python, still_works, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CompileC
    from integration.conftest import Programs

MAIN = "int main(void) { return 0; }"


def written(path: Path, content: bytes | bytearray, mode: int = 0o755) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def from_exec(path: Path) -> int:
    """The errno with which execve refuses a program."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        subprocess.run([path], check=False, stdin=subprocess.DEVNULL)
    return caught.value.errno or 0


async def refused(
    root: aiopip.Root, program: object, *args: str, **options: object
) -> aiopip.SpawnError:
    """The error of a spawn that must fail; the Root goes on behind it."""
    with pytest.raises(aiopip.SpawnError) as caught:
        await root.spawn(program, *args, **options)  # type: ignore[arg-type]
    # The probe of the opening may still be among those that load.
    await until(lambda: not root.statistics().loading)
    now = root.statistics()
    assert (now.alive, now.queued) == (0, 0)
    assert not root.tasks
    await still_works(root)
    return caught.value


# No such program


async def test_missing_program(root: aiopip.Root, tmp_path: Path) -> None:
    for name in (tmp_path / "absent", "./absent", "/", tmp_path / "absent" / "x"):
        error = await refused(root, name)
        if name != "/":
            assert type(error) is aiopip.ProgramNotFoundError
            assert isinstance(error, FileNotFoundError)
            assert error.errno == errno.ENOENT
            assert error.filename == str(name)


async def test_name_that_is_not_in_path(root: aiopip.Root) -> None:
    error = await refused(root, "no-such-program-anywhere")
    assert type(error) is aiopip.ProgramNotFoundError
    assert "PATH" in str(error)


async def test_empty_name(root: aiopip.Root) -> None:
    assert isinstance(await refused(root, ""), aiopip.ProgramNotFoundError)


async def test_dangling_and_circular_links(root: aiopip.Root, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("absent")
    assert isinstance(await refused(root, tmp_path / "dangling"), aiopip.ProgramNotFoundError)
    (tmp_path / "circle").symlink_to("circle")
    assert (await refused(root, tmp_path / "circle")).errno == errno.ELOOP


async def test_name_that_is_too_long(root: aiopip.Root) -> None:
    assert (await refused(root, "/tmp/" + "x" * 300)).errno == errno.ENAMETOOLONG
    assert (await refused(root, "/tmp/" + "x/" * 5000)).errno == errno.ENAMETOOLONG


async def test_file_on_the_way(root: aiopip.Root, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await refused(root, tmp_path / "file" / "program")
    assert isinstance(error, NotADirectoryError)


# Not executable


async def test_directory(root: aiopip.Root, tmp_path: Path) -> None:
    error = await refused(root, tmp_path)
    assert type(error) is aiopip.NotExecutableError
    assert isinstance(error, PermissionError)
    assert "directory" in str(error)


async def test_no_x_bit(root: aiopip.Root, program: Programs, tmp_path: Path) -> None:
    path = Path(shutil.copy(program("zero"), tmp_path))
    path.chmod(0o644)
    error = await refused(root, path)
    assert type(error) is aiopip.NotExecutableError
    assert "chmod +x" in str(error)
    assert error.errno == from_exec(path) == errno.EACCES


async def test_neither_file_nor_folder(root: aiopip.Root, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o777)  # must not be opened: that would block
    assert isinstance(await refused(root, tmp_path / "fifo"), aiopip.NotExecutableError)
    assert isinstance(await refused(root, "/dev/null"), aiopip.NotExecutableError)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert isinstance(await refused(root, tmp_path / "s"), aiopip.NotExecutableError)


async def test_set_uid_program(root: aiopip.Root, program: Programs, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a set-uid file of another user")
    path = Path(shutil.copy(program("zero"), tmp_path))
    os.chown(path, 1, 1)
    for mode in (0o4755, 0o2755):
        path.chmod(mode)
        error = await refused(root, path)
        assert type(error) is aiopip.PrivilegedProgramError
        assert error.errno == errno.EPERM
    path.chmod(0o755)
    assert await (await root.spawn(path)).wait() == 0


# Not a program that can be a task


async def test_program_at_a_fixed_address(root: aiopip.Root, c_program: CompileC) -> None:
    error = await refused(root, c_program(MAIN, "-no-pie", "-fno-pie"))
    assert type(error) is aiopip.NotPieError
    assert error.errno == errno.ENOEXEC
    assert "-pie" in str(error)


async def test_static_programs(root: aiopip.Root, c_program: CompileC) -> None:
    fixed = await refused(root, c_program(MAIN, "-no-pie", "-fno-pie", "-static"))
    assert isinstance(fixed, aiopip.BadProgramError)
    moving = await refused(root, c_program(MAIN, "-static-pie"))
    assert type(moving) is aiopip.BadProgramError
    assert "-static" in str(moving)


async def test_truncated_program(root: aiopip.Root, program: Programs, tmp_path: Path) -> None:
    whole = program("zero").read_bytes()
    for size in (4, 16, 63, 64, 100, 500, 4096, 8192, 12288):
        error = await refused(root, written(tmp_path / "program", whole[:size]))
        assert type(error) is aiopip.BadProgramError, size
        assert error.errno == errno.ENOEXEC
        assert "truncated" in str(error), size


async def test_random_bytes_behind_the_elf_magic(root: aiopip.Root, tmp_path: Path) -> None:
    source = random.Random(2)
    for size in (16, 64, 1000, 10_000):
        error = await refused(
            root, written(tmp_path / "program", b"\x7fELF" + source.randbytes(size))
        )
        assert isinstance(error, aiopip.BadProgramError)


async def test_program_of_another_machine(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    whole = bytearray(program("zero").read_bytes())
    struct.pack_into("<H", whole, 18, 183)  # e_machine: AArch64
    error = await refused(root, written(tmp_path / "program", whole))
    assert type(error) is aiopip.BadProgramError
    assert "architecture" in str(error)


async def test_missing_ld_so(root: aiopip.Root, c_program: CompileC) -> None:
    error = await refused(root, c_program(MAIN, "-Wl,--dynamic-linker=/lib/absent.so"))
    assert type(error) is aiopip.InterpreterNotFoundError
    assert "/lib/absent.so" in str(error)


async def test_library_in_place_of_a_program(root: aiopip.Root, c_program: CompileC) -> None:
    """A shared library is ET_DYN as a program is, but asks for no ld.so."""
    error = await refused(root, c_program("int f(void) { return 0; }", "-shared", "-fPIC"))
    assert isinstance(error, aiopip.BadProgramError)


async def test_text_without_an_interpreter(root: aiopip.Root, tmp_path: Path) -> None:
    for content in (b"echo hello\n", b"", b"\n#!/bin/sh\n", b"#", b"MZ\x90\0"):
        path = written(tmp_path / "script", content)
        error = await refused(root, path)
        assert type(error) is aiopip.BadProgramError, content
        assert error.errno == from_exec(path) == errno.ENOEXEC


async def test_interpreters_that_are_none(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    error = await refused(root, written(script, b"#!/no/such/interpreter -x\n"))
    assert type(error) is aiopip.InterpreterNotFoundError
    assert "/no/such/interpreter" in str(error)
    assert from_exec(script) == error.errno == errno.ENOENT
    cases: list[tuple[bytes, type[aiopip.SpawnError]]] = [
        (b"#!/tmp\n", aiopip.NotExecutableError),
        (b"#!/etc/passwd\n", aiopip.NotExecutableError),
        (b"#!\n", aiopip.BadProgramError),
        (b"#!   \n", aiopip.BadProgramError),
        (b"#!/bin/sh\0x\n", aiopip.SpawnError),
        (b"#!" + b"/" * 300 + b"bin/sh\n", aiopip.SpawnError),
    ]
    for content, kind in cases[:4]:
        error = await refused(root, written(script, content))
        assert isinstance(error, kind), content
        assert error.errno == from_exec(script), content


# Arguments that are too long


def accepted_by_exec(count: int, size: int) -> bool:
    """Whether execve takes so many arguments of so many characters beside an empty environment."""
    try:
        subprocess.run(["/bin/true", *["x" * size] * count], env={}, check=True)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        return False
    return True


@pytest.mark.parametrize("size", [131_070, 131_071, 131_072, 1 << 20])
async def test_longest_string_is_execs(root: aiopip.Root, size: int) -> None:
    """128 KiB with its NUL."""
    if accepted_by_exec(1, size):
        assert await (await root.spawn("/bin/true", "x" * size, env={})).wait() == 0
        assert await (await root.spawn("/bin/true", env={"X": "x" * (size - 2)})).wait() == 0
        return
    assert size > 131_071
    error = await refused(root, "/bin/true", "x" * size, env={})
    assert type(error) is aiopip.ArgumentsTooLongError
    assert error.errno == errno.E2BIG
    await refused(root, "/bin/true", env={"X": "x" * (size - 2)})


async def test_environment_of_a_mebibyte_in_one_string(root: aiopip.Root) -> None:
    error = await refused(root, "true", env={"PATH": os.environ["PATH"], "BIG": "x" * (1 << 20)})
    assert type(error) is aiopip.ArgumentsTooLongError


async def test_environment_of_a_mebibyte_in_many_strings(
    root: aiopip.Root, program: Programs
) -> None:
    env = {f"NAME{number:04}": "v" * 1015 for number in range(1024)}
    assert sum(len(name) + len(value) + 1 for name, value in env.items()) == 1 << 20
    got = await output(root, program("environment"), env=env)
    assert got.split(b"\0")[:-1] == [os.fsencode(f"{n}={v}") for n, v in env.items()]


@pytest.mark.parametrize("count", [10, 15, 17, 50])
async def test_most_arguments_are_about_execs(root: aiopip.Root, count: int) -> None:
    """A quarter of the stack limit in all: 2 MiB as a rule."""
    if accepted_by_exec(count, 130_000):
        assert await (await root.spawn("/bin/true", *["x" * 130_000] * count, env={})).wait() == 0
    else:
        error = await refused(root, "/bin/true", *["x" * 130_000] * count, env={})
        assert type(error) is aiopip.ArgumentsTooLongError


# What no call takes


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("program", lambda root: root.spawn("tr\0ue")),
        ("argument 2", lambda root: root.spawn("true", "x", "a\0b")),
        ("argument 1", lambda root: root.spawn("true", b"\0")),
        ("argv0", lambda root: root.spawn("true", argv0="\0")),
        ("cwd", lambda root: root.spawn("true", cwd="/tmp\0")),
        ("env", lambda root: root.spawn("true", env={"A\0": "x"})),
        ("env", lambda root: root.spawn("true", env={"A": "\0"})),
    ],
)
async def test_nul_in_a_string(
    root: aiopip.Root, argument: str, call: Callable[[aiopip.Root], object]
) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="NUL") as caught:
        await call(root)  # type: ignore[misc]
    assert isinstance(caught.value, ValueError)
    assert argument in str(caught.value)
    await still_works(root)


@pytest.mark.parametrize("max_tasks", [0, -1, 4097])
def test_impossible_number_of_tasks(max_tasks: int) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="max_tasks"):
        aiopip.Root(max_tasks=max_tasks)


# Malformed programs run inside their task, and harm it alone

FUZZED = """
    import asyncio, os, random, sys
    import aiopip
    program, path, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    whole = open(program, "rb").read()
    headers = 64 + 56 * int.from_bytes(whole[56:58], "little")
    kept = {name: bytes(range(256)) * 4096 for name in range(8)}
    async def main():
        outcomes = set()
        async with aiopip.Root() as root:
            for seed in range(first, first + count):
                chance = random.Random(seed)
                mutated = bytearray(whole)
                for _ in range(chance.choice((1, 1, 1, 2, 4))):
                    place = chance.randrange(4, headers)
                    mutated[place] = chance.choice((0, 1, 0xff, 0x80, chance.randrange(256)))
                os.path.exists(path) and os.unlink(path)
                with open(path, "wb") as file:
                    file.write(mutated)
                os.chmod(path, 0o755)
                print(seed, flush=True)
                try:
                    task = await root.spawn(path, stderr=-3)
                except aiopip.SpawnError as error:
                    outcomes.add(type(error).__name__)
                else:
                    try:
                        outcomes.add(int(await asyncio.wait_for(task.wait(), 2)))
                    except asyncio.TimeoutError:
                        outcomes.add("endless")
                        task.kill()
                        await task.wait()
                assert all(block == bytes(range(256)) * 4096 for block in kept.values()), seed
            assert await (await root.spawn("true")).wait() == 0
        print(sorted(map(str, outcomes)), file=sys.stderr)
    asyncio.run(main())
"""


def test_malformed_headers_harm_nobody_else(program: Programs, tmp_path: Path) -> None:
    done = run_python(FUZZED, str(program("zero")), str(tmp_path / "program"), "0", "400")
    assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr)
