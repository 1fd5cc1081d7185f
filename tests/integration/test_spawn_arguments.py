"""What a task is given: argv, its environment, its folder, and where its program is found."""

# Paths are looked at while the loop has nothing else to do.
# ruff: noqa: ASYNC240

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import output, still_works

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


async def arguments_of(
    root: aiopip.Root, path: Path, *args: str | bytes, **options: object
) -> list[bytes]:
    return (await output(root, path, *args, **options)).split(b"\0")[:-1]


async def test_arguments_arrive_byte_for_byte(root: aiopip.Root, program: Programs) -> None:
    path = program("arguments")
    sent = [
        "",
        "a b",
        "-x",
        "--preload",
        "--argv0",
        "ü€\U0001f40d",
        "\n\t",
        "'\"$`\\",
        "=",
        "\udcff",
    ]
    got = await arguments_of(root, path, *sent, b"\xff\xfe", b"")
    assert got == [os.fsencode(path), *map(os.fsencode, sent), b"\xff\xfe", b""]


async def test_arguments_may_be_paths(root: aiopip.Root, program: Programs, tmp_path: Path) -> None:
    got = (await output(root, program("arguments"), tmp_path)).split(b"\0")
    assert got[1] == os.fsencode(tmp_path)


async def test_ten_thousand_arguments_arrive(root: aiopip.Root, program: Programs) -> None:
    sent = [str(number) for number in range(10_000)]
    got = await arguments_of(root, program("arguments"), *sent)
    assert got[1:] == [number.encode() for number in sent]


@pytest.mark.parametrize("argv0", ["other", "", "-sh", "two words", "ü", b"\xff", "a:b"])
async def test_argv0_is_what_the_caller_wrote(
    root: aiopip.Root, program: Programs, argv0: str | bytes
) -> None:
    got = await arguments_of(root, program("arguments"), "x", argv0=argv0)
    assert got == [os.fsencode(argv0), b"x"]


async def test_argv0_is_the_program_as_given(
    root: aiopip.Root, program: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program("arguments")
    monkeypatch.chdir(path.parent)
    assert await arguments_of(root, Path("arguments").absolute()) == [os.fsencode(path)]
    assert (await output(root, "./arguments")).split(b"\0")[0] == b"./arguments"
    assert (await output(root, "arguments", env={"PATH": str(path.parent)})) == b"arguments\0"


async def test_program_in_a_folder_with_space_and_colon(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    folder = tmp_path / "My Project: ü \udcff"
    folder.mkdir()
    (folder / "-x y").symlink_to(program("arguments"))
    path = folder / "-x y"
    assert await arguments_of(root, path, "1") == [os.fsencode(path), b"1"]
    assert (await output(root, "./-x y", "1", cwd=folder)).split(b"\0")[:2] == [b"./-x y", b"1"]


# Environment


async def environment_of(root: aiopip.Root, program: Programs, **options: object) -> list[bytes]:
    return (await output(root, program("environment"), **options)).split(b"\0")[:-1]


async def test_environment_is_the_roots_by_default(
    root: aiopip.Root, program: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIOPIP_TEST", "\udcff, set just now")
    got = await environment_of(root, program)
    # Not os.environ: readline adds LINES and COLUMNS without telling it.
    child = subprocess.run([program("environment")], stdout=subprocess.PIPE, check=True)  # noqa: ASYNC221
    assert got == child.stdout.split(b"\0")[:-1]
    assert b"AIOPIP_TEST=\xff, set just now" in got


async def test_environment_is_exactly_what_is_given(root: aiopip.Root, program: Programs) -> None:
    given = {"A": "1", "EMPTY": "", "ÄÖ": "ü€", "X": "a=b", "RAW": "\udcff\udc80"}
    got = await environment_of(root, program, env=given)
    assert got == [os.fsencode(f"{name}={value}") for name, value in given.items()]
    assert await environment_of(root, program, env={b"B\xff": b"\xfe"}) == [b"B\xff=\xfe"]
    assert await environment_of(root, program, env={}) == []


async def test_preload_of_the_caller_is_honoured(root: aiopip.Root, program: Programs) -> None:
    variable = b"LD_LIBRARY_PATH=/nowhere"
    assert variable in await environment_of(root, program, env={"LD_LIBRARY_PATH": "/nowhere"})


@pytest.mark.parametrize("name", ["", "A=B"])
async def test_impossible_variable_is_refused(root: aiopip.Root, name: str) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="env"):
        await root.spawn("true", env={name: "x"})
    await still_works(root)


# Folder and PATH


async def test_cwd_is_where_the_task_starts(root: aiopip.Root, tmp_path: Path) -> None:
    before = Path.cwd()
    assert await output(root, "pwd", "-P", cwd=tmp_path) == os.fsencode(tmp_path.resolve()) + b"\n"
    assert await output(root, "pwd", "-P") == os.fsencode(before) + b"\n"
    assert Path.cwd() == before


async def test_relative_program_is_found_in_cwd(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tool").symlink_to(program("arguments"))
    assert await output(root, "bin/tool", cwd=tmp_path) == b"bin/tool\0"
    assert await output(root, "./tool", cwd=tmp_path / "bin") == b"./tool\0"
    assert await output(root, "tool", cwd=tmp_path / "bin", env={"PATH": "."}) == b"tool\0"
    with pytest.raises(aiopip.ProgramNotFoundError):
        await root.spawn("bin/tool")


async def test_cwd_relative_to_the_roots(
    root: aiopip.Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = os.fsencode((tmp_path / "inner").resolve()) + b"\n"
    assert await output(root, "pwd", "-P", cwd="inner") == expected


async def test_missing_cwd_is_refused(root: aiopip.Root, tmp_path: Path) -> None:
    with pytest.raises(aiopip.SpawnOptionError, match="absent") as caught:
        await root.spawn("true", cwd=tmp_path / "absent")
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.option == "cwd"
    (tmp_path / "file").touch()
    with pytest.raises(aiopip.SpawnOptionError) as caught:
        await root.spawn("true", cwd=tmp_path / "file")
    assert isinstance(caught.value, NotADirectoryError)
    await still_works(root)


async def test_path_is_the_environments(
    root: aiopip.Root, program: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, target in (("first", "arguments"), ("second", "environment")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").symlink_to(program(target))
    monkeypatch.setenv("PATH", str(tmp_path / "second"))
    path = f"{tmp_path / 'first'}:{tmp_path / 'second'}"
    assert await output(root, "tool", env={"PATH": path}) == b"tool\0"
    assert b"PATH=" in await output(root, "tool")
    with pytest.raises(aiopip.ProgramNotFoundError, match="first"):
        await root.spawn("absent", env={"PATH": path})


async def test_path_goes_on_behind_a_file_that_may_not_be_run(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    (tmp_path / "first" / "tool").write_text("not executable")
    with pytest.raises(aiopip.NotExecutableError):
        await root.spawn("tool", env={"PATH": f"{tmp_path / 'first'}:{tmp_path / 'second'}"})
    (tmp_path / "second" / "tool").symlink_to(program("arguments"))
    env = {"PATH": f"{tmp_path / 'first'}:{tmp_path / 'second'}"}
    assert await output(root, "tool", env=env) == b"tool\0"


async def test_without_path_the_systems_is_searched(root: aiopip.Root) -> None:
    assert await output(root, "echo", "found", env={}) == b"found\n"


async def test_origin_is_the_real_programs_folder(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    path = program("origin")
    link = tmp_path / "link"
    link.symlink_to(path)
    assert await output(root, link) == os.fsencode(path.parent.resolve()) + b"\n"


async def test_task_has_its_programs_name(root: aiopip.Root, tmp_path: Path) -> None:
    assert await output(root, "cat", "/proc/self/comm") == b"cat\n"
    (tmp_path / "a-name-of-more-than-fifteen").symlink_to("/bin/cat")
    task = await root.spawn(tmp_path / "a-name-of-more-than-fifteen", "/proc/self/comm")
    assert task.name == "a-name-of-more-than-fifteen"
    assert await task.wait() == 0
    written = await output(root, tmp_path / "a-name-of-more-than-fifteen", "/proc/self/comm")
    assert written == b"a-name-of-more-\n"
