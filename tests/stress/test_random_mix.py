"""All at once, at random: what many coroutines do to one Root, with others making processes beside.

Each is a generator of small scenes; a scene checks what it did, and the end checks that nothing is
left.  A failure names its seed.
"""

# The child of a bare fork has no event that could be awaited.
# ruff: noqa: ASYNC110, ASYNC222

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest
from integration.hazards import EXECS, in_thread
from integration.server import serve
from integration.usage import Use
from jobs import cancelled, gather, start
from support import clean_root, settled

import aiopip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from integration.conftest import Programs

SCENES_EACH = 120
ACTORS = 12


class Scenes:
    """What can happen."""

    def __init__(self, root: aiopip.Root, programs: dict[str, str], chance: random.Random) -> None:
        self.root = root
        self.programs = programs
        self.chance = chance

    async def exits(self) -> None:
        code = self.chance.randrange(256)
        assert await (await self.root.spawn(self.programs["code"], str(code))).wait() == code

    async def is_killed(self) -> None:
        task = await self.root.spawn(self.programs["pause"])
        await anyio.sleep(self.chance.random() * 0.01)
        task.kill()
        assert await task.wait() == -9

    async def faults(self) -> None:
        how, number = self.chance.choice([("segv", 11), ("abort", 6), ("fpe", 8), ("stack", 11)])
        assert await (await self.root.spawn(self.programs["fault"], how)).wait() == -number

    async def execs(self) -> None:
        code = self.chance.randrange(256)
        task = await self.root.spawn(*EXECS, self.programs["code"], str(code))
        assert await task.wait() == code

    async def is_cancelled(self) -> None:
        spawning = start(self.root.spawn(self.programs["pause"]))
        await anyio.sleep(self.chance.random() * 0.003)
        spawning.cancel()
        with contextlib.suppress(cancelled()):
            task = await spawning
            task.kill()
            assert await task.wait() == -9

    async def fails(self) -> None:
        with pytest.raises(aiopip.ProgramNotFoundError):
            await self.root.spawn("/no/such/program")
        with pytest.raises(aiopip.NotExecutableError):
            await self.root.spawn("/tmp")

    async def exports(self) -> None:
        async with serve(self.root, self.programs["server"]) as server:  # type: ignore[arg-type]
            waiting = start(server.task.named_import("grid"))
            items = self.chance.randrange(1, 100_000)
            assert await server.ask(f"grid {items}") == "OK"
            assert await server.ask("export-grid grid") == "OK"
            array = np.asarray((await waiting).cast("f8", items))
            if self.chance.random() < 0.5:
                await server.end(self.chance.choice(["exit 0", "kill"]))
            assert array.sum() == items * (items - 1) / 2

    async def spawns_itself(self) -> None:
        task = await self.root.spawn(
            self.programs["posix_spawns"], self.programs["code"], stdout=subprocess.DEVNULL
        )
        await anyio.sleep(self.chance.random() * 0.01)
        task.kill()
        assert await task.wait() == -9

    async def is_python(self) -> None:
        source = "import threading; threading.Thread(target=bytearray, args=[9_000_000]).start()"
        assert await (await self.root.spawn(sys.executable, "-c", source)).wait() == 0

    async def is_no_task(self) -> None:
        code = self.chance.randrange(256)
        line = [self.programs["code"], str(code)]
        process = await anyio.open_process(line, stdin=None, stdout=None, stderr=None)
        assert await process.wait() == code

    async def root_forks(self) -> None:
        child = os.fork()
        if child == 0:
            os._exit(6)
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            await anyio.sleep(0.001)
        assert os.waitstatus_to_exitcode(ended[1]) == 6

    def all(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *[self.exits, self.is_killed, self.faults, self.execs, self.is_cancelled, self.fails],
            *[self.exports, self.spawns_itself, self.is_python, self.is_no_task, self.root_forks],
        ]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("seed", range(12))
async def test_everything_at_once(program: Programs, pip_program: Programs, seed: int) -> None:
    names = ("code", "pause", "fault", "posix_spawns")
    programs = {name: str(program(name)) for name in names}
    programs["server"] = str(pip_program("server"))

    async def act(root: aiopip.Root, number: int, count: int) -> None:
        chance = random.Random(seed * 1000 + number)
        scenes = Scenes(root, programs, chance)
        for _ in range(count):
            await chance.choice(scenes.all())()

    def other_library() -> None:
        assert subprocess.run([programs["code"], "77"], check=False).returncode == 77

    async with clean_root(max_tasks=3 * ACTORS) as root:
        await act(root, 0, 20)
        await settled(root)
        before = Use.now()
        with in_thread(other_library):
            await gather(*[act(root, number, SCENES_EACH) for number in range(ACTORS)])
        await settled(root)
        now = Use.now()
        assert now.mappings <= before.mappings + 40, (before, now)
        assert now.descriptors <= before.descriptors
        assert now.resident_bytes <= before.resident_bytes + (16 << 20), (before, now)
