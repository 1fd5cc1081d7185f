"""The hazards of the integration tests, for minutes."""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import TYPE_CHECKING

from integration.hazards import kill_at_random_moments, kill_in_posix_spawn
from integration.test_bad_input import FUZZED
from integration.test_process_end import INTERRUPTED, Script
from integration.usage import ALLOCATES, nothing_stays
from support import all_gone, block_until, kill_quietly, mapping_count, run_python, settled

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs

    import aiopip


async def test_five_thousand_kills_at_random_moments(root: aiopip.Root, program: Programs) -> None:
    lines = [
        (str(program("pause")),),
        (str(program("posix_spawns")), str(program("zero"))),
        ("sh", "-c", "while :; do (:); done"),
        (sys.executable, "-c", "while True: bytearray(3_000_000)"),
        (sys.executable, "-c", "import numpy; numpy.ones((900, 900)) @ numpy.ones((900, 900))"),
    ]
    await kill_at_random_moments(root, lines, 20, 0.05, 0)
    await settled(root)
    before = mapping_count()
    await kill_at_random_moments(root, lines, 5000, 0.05, 1)
    await settled(root)
    assert mapping_count() <= before + 4


async def test_five_thousand_tasks_killed_in_posix_spawn(
    root: aiopip.Root, program: Programs
) -> None:
    await kill_in_posix_spawn(root, program("posix_spawns"), program("zero"), 5000)


async def test_hundred_thousand_small_tasks_leave_nothing(
    root: aiopip.Root, program: Programs
) -> None:
    async def cycle() -> None:
        assert await (await root.spawn(program("zero"))).wait() == 0

    await nothing_stays(root, cycle, 100_000)


async def test_thousand_python_tasks_leave_nothing(root: aiopip.Root) -> None:
    async def cycle() -> None:
        assert await (await root.spawn(sys.executable, "-c", ALLOCATES)).wait() == 0

    await nothing_stays(root, cycle, 1000)


def test_fifty_thousand_malformed_programs(program: Programs, tmp_path: Path) -> None:
    for first in range(0, 50_000, 5_000):
        line = (str(program("zero")), str(tmp_path / "program"), str(first), "5000")
        done = run_python(FUZZED, *line, timeout_s=1000)
        assert done.returncode == 0, (done.stdout.splitlines()[-1:], done.stderr)


def test_five_hundred_interrupted_roots(program: Programs) -> None:
    chance = random.Random(3)
    for _ in range(500):
        script = Script(INTERRUPTED, "asyncio", 0.02, program("stubborn"))
        with script.process:
            try:
                interrupt(script, chance.randrange(1, 5))
            finally:
                kill_quietly(script.process.pid)


def interrupt(script: Script, count: int) -> None:
    pids = script.pids()
    for _ in range(count):
        os.kill(script.process.pid, signal.SIGINT)
    while not (line := script.line()).startswith("KeyboardInterrupt"):
        pass
    code, written = script.end()
    # The third may end asyncio's own clean-up, and with it the loop: then nobody could wait.
    assert count > 2 or "None" not in line, written
    assert code == -signal.SIGINT, written
    block_until(lambda: all_gone(pids), f"{pids} end", 1)
