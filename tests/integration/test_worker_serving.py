"""What a worker makes of calls that leave it in a state of which nobody thinks."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from integration import unruly
from support import until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path


async def test_fork_in_a_reduction_leaves_one_worker(root: aiopip.Root, tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "notes")
    async with root.pool(workers=1) as pool:
        assert await pool.run(unruly.forking) == "reduced"
        for number in range(3):
            await pool.run(unruly.note, path, str(number))
        assert pool.statistics().workers[0].ended == 0
    assert (tmp_path / "notes").read_text().split() == ["0", "1", "2"]


@pytest.mark.parametrize("how", ["reduction", "handler"])
async def test_what_a_worker_has_lent_outlives_what_it_raises(root: aiopip.Root, how: str) -> None:
    async with root.pool(workers=1) as pool:
        lent = await pool.run(unruly.large)
        if how == "reduction":
            with pytest.raises(aiopip.WorkerDiedError, match="KeyboardInterrupt"):
                await pool.run(unruly.interrupted)
        else:
            await pool.run(unruly.raise_when_idle)
            os.kill(await pool.run(os.getpid), signal.SIGUSR1)
        await until(lambda: pool.statistics().workers[0].ended == 1)
        assert (lent == np.arange(unruly.COUNT)).all()
        assert await pool.run(abs, -1) == 1


async def test_worker_that_can_import_nothing_fails_calls_and_lives(
    root: aiopip.Root, capfd: pytest.CaptureFixture[str]
) -> None:
    async with root.pool(workers=1) as pool:
        await pool.run(unruly.take_all_descriptors)
        for simple in ("text", b"bytes", 7, 0.5, None, True):
            assert await pool.run(unruly.echo, simple) == simple
        with pytest.raises(aiopip.RemoteError, match=r"OSError: .*Too many open files") as caught:
            await pool.run(unruly.echo, ["a list"])
        assert caught.value.type_name == "OSError"
        with pytest.raises(aiopip.RemoteError, match=r"ValueError: .*twelve"):
            await pool.run(int, "twelve")
        assert pool.statistics().workers[0].ended == 0
    assert "Too many open files" in capfd.readouterr().err


async def test_worker_that_can_import_nothing_has_what_it_has_imported(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        assert await pool.run(unruly.echo, ["a list"]) == ["a list"]
        await pool.run(unruly.take_all_descriptors)
        assert await pool.run(unruly.echo, ["another"]) == ["another"]
