"""Tasks that start at a function of their program in place of main."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support import output, settled, still_works

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CompileC

WORK = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int constructed;
int data = 7;

__attribute__((constructor)) static void construct(void) { constructed = 1; }
static void say_bye(void) { puts("bye"); }

__attribute__((used)) static int say(const char *arg)
{
    printf("%d %s %s\n", constructed, arg ? arg : "NULL", program_invocation_short_name);
    atexit(say_bye);
    return 0;
}

__attribute__((used)) static int length(const char *arg) { return strlen(arg) + arg[4]; }
int add(int *numbers) { numbers[0] += 1; return numbers[0]; }
__attribute__((used)) static int change(char *arg) { arg[0]++; return arg[0]; }
int main(void) { return 99; }
"""


@pytest.fixture
def work(c_program: CompileC) -> Path:
    return c_program(WORK, "-D_GNU_SOURCE", "-include", "errno.h", name="work")


async def test_function_in_place_of_main(root: aiopip.Root, work: Path) -> None:
    said = await output(root, work, entry="say", arg=b"two words")
    assert said == b"1 two words work\nbye\n"
    assert await output(root, work, entry=b"say") == b"1 NULL work\nbye\n"
    assert await (await root.spawn(work, entry="main")).wait() == 99
    assert await (await root.spawn(work)).wait() == 99


async def test_argument_is_a_copy_ended_by_nul(root: aiopip.Root, work: Path) -> None:
    assert await (await root.spawn(work, entry="length", arg=b"1234")).wait() == 4
    changed = bytearray(b"A")
    assert await (await root.spawn(work, entry="change", arg=changed)).wait() == ord("B")
    assert changed == b"A"


async def test_many_arguments_at_once(root: aiopip.Root, work: Path) -> None:
    tasks = [await root.spawn(work, entry="length", arg=b"x" * (4 + n)) for n in range(60)]
    statuses = [await task.wait() for task in tasks]
    assert statuses == [4] + [4 + n + ord("x") for n in range(1, 60)]


SHARES = r"""
#include <pip/pip.h>
#include <unistd.h>
static int numbers[2] = {41};
int main(void)
{
    if (pip_named_export(numbers, "numbers"))
        return 1;
    pause();
}
"""


async def test_argument_may_be_an_address(root: aiopip.Root, work: Path, pipcc: CompileC) -> None:
    holder = await root.spawn(pipcc(SHARES))
    region = (await holder.named_import("numbers")).cast("i4", (2,))
    task = await root.spawn(work, entry="add", arg=region.address)
    assert await task.wait() == 42
    assert region.view().tolist() == [42, 0]
    holder.kill()
    await holder.wait()


async def test_argument_that_is_too_long(root: aiopip.Root, work: Path) -> None:
    with pytest.raises(aiopip.ArgumentsTooLongError):
        await root.spawn(work, entry="length", arg=bytes(1 << 20), stack_bytes=1 << 20)
    await settled(root)
    assert await (
        await root.spawn(work, entry="length", arg=b"a" * (1 << 20), stack_bytes=2 << 20)
    ).wait() == ord("a")


# What cannot be run


def run(*line: object) -> None:
    subprocess.run([str(word) for word in line], check=True)


async def fails(root: aiopip.Root, program: str | Path, entry: str) -> str:
    with pytest.raises(aiopip.EntryNotFoundError) as caught:
        await root.spawn(program, entry=entry)
    await settled(root)
    await still_works(root)
    return str(caught.value)


@pytest.mark.parametrize("entry", ["no_such", "data", "printf", "sa", "sayy"])
async def test_function_that_is_not_there(root: aiopip.Root, work: Path, entry: str) -> None:
    assert f"it has no function {entry!r}" in await fails(root, work, entry)


async def test_stripped_program(root: aiopip.Root, work: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    run("strip", "-o", stripped, work)
    assert "was it stripped?" in await fails(root, stripped, "say")


async def test_exported_function_of_a_stripped_program(
    root: aiopip.Root, c_program: CompileC
) -> None:
    source = "int seven(void *arg) { return 7; } int main(void) { return 0; }"
    program = c_program(source, "-rdynamic", "-s")
    assert await (await root.spawn(program, entry="seven")).wait() == 7


async def test_two_functions_of_one_name(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path
) -> None:
    other = tmp_path / "other.c"
    function = "__attribute__((used)) static int say(void *arg) { return 1; }\n"
    other.write_text(function)
    source = f"{function} int main(void) {{ return 0; }}"
    assert "several of its functions" in await fails(root, c_program(source, str(other)), "say")


async def test_script(root: aiopip.Root, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert "it is a script" in await fails(root, script, "main")


async def test_program_that_libc_does_not_start(root: aiopip.Root, c_program: CompileC) -> None:
    source = """
        #include <unistd.h>
        int work(void *arg) { return 0; }
        void _start(void) { _exit(0); }
    """
    program = c_program(source, "-nostartfiles")
    assert "__libc_start_main" in await fails(root, program, "work")


async def test_entry_of_a_musl_program(root: aiopip.Root, tmp_path: Path) -> None:
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is not installed")
    source = tmp_path / "work.c"
    source.write_text(
        "#include <stdlib.h>\n"
        "__attribute__((used)) static int work(const char *arg) { return atoi(arg); }\n"
        "int main(void) { return 99; }\n"
    )
    program = tmp_path / "work"
    run("musl-gcc", "-fPIE", "-pie", "-o", program, source)
    assert await (await root.spawn(program, entry="work", arg=b"11")).wait() == 11
    assert await (await root.spawn(program)).wait() == 99
