"""Programs that are started again: each start is as the first one, whatever was before."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from support import output, settled, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs

TIMES = 8

SHOW = 'printf "%s|" "$0" "$1" "$NUMBER" "$(pwd)"; cat; exit $1'


@pytest.fixture
def again(root: aiopip.Root) -> aiopip.Root:
    """A Root whose programs begin behind ld.so when they are started again."""
    if not root.statistics().resumes:
        pytest.skip("windows cannot be kept warm here")
    return root


async def test_arguments_environment_folder_and_streams_are_new(
    again: aiopip.Root, tmp_path: Path
) -> None:
    for number in range(TIMES):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = await again.run(
            *("sh", "-c", SHOW, "x" * number, str(number)),
            input=b"y" * number,
            env={"PATH": os.environ["PATH"], "NUMBER": str(number) * 100 * number},
            cwd=folder,
            check=False,
        )
        assert done.status == number
        shown = ["x" * number, str(number), str(number) * 100 * number, str(folder), "y" * number]
        assert (done.stdout or b"").decode() == "|".join(shown)
    assert again.statistics().resumed > 0


async def test_python_finds_its_modules_and_threads(again: aiopip.Root) -> None:
    code = "import json, threading; t = threading.Thread(target=print, args=(json.dumps([1]),))"
    for _ in range(TIMES):
        written = await output(again, sys.executable, "-c", f"{code}; t.start(); t.join()")
        assert written == b"[1]\n"


async def test_many_at_once_and_again(again: aiopip.Root, program: Programs) -> None:
    for _ in range(3):
        tasks = [await again.spawn("sh", "-c", f"exit {number}") for number in range(40)]
        assert [await task.wait() for task in tasks] == list(range(40))
    assert again.statistics().resumed > 0


async def test_memory_is_kept_for_a_moment(again: aiopip.Root) -> None:
    for _ in range(3):
        assert await (await again.spawn("true")).wait() == 0
    await until(lambda: not again.statistics().reclaiming, "it goes by itself")
    assert again.statistics().warm == 0


async def test_trim_gives_memory_back(again: aiopip.Root) -> None:
    for _ in range(3):
        assert await (await again.spawn("true")).wait() == 0
    await settled(again)  # which trims
    assert again.statistics().warm == 0
    with pytest.raises(aiopip.ClosedError):
        aiopip.Root().trim()
