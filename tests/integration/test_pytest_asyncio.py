"""A Root in a fixture of pytest-asyncio, which enters it in one task and leaves it in another.

The tests run in a pytest of their own, since two plugins cannot have the same async tests.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pytest_asyncio")

TESTS = """
    import asyncio

    import aiopip
    import pytest_asyncio

    entered = []


    @pytest_asyncio.fixture({scope})
    async def root():
        entered.append(asyncio.current_task())
        async with aiopip.Root() as root:
            yield root
            assert asyncio.current_task() is not entered[-1]


    async def test_spawns(root):
        assert asyncio.current_task() is not entered[-1]
        assert await (await root.spawn("true")).wait() == 0


    async def test_leaves_a_task_to_the_fixture(root):
        await root.spawn("sleep", "0.1")


    async def test_is_cancelled_within(root):
        waiting = asyncio.create_task((await root.spawn("sleep", "0.2")).wait())
        await asyncio.sleep(0)
        waiting.cancel()
"""


@pytest.mark.parametrize("scope", ["", 'scope="module", loop_scope="module"'])
def test_fixture_that_enters_and_leaves_a_root(tmp_path: Path, scope: str) -> None:
    source = textwrap.dedent(TESTS).replace("{scope}", scope)
    if scope:
        source += '\n\nimport pytest\npytestmark = pytest.mark.asyncio(loop_scope="module")\n'
    (tmp_path / "test_root.py").write_text(source)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\n"
    )
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:anyio", "-p", "no:cacheprovider"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
