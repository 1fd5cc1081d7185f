"""What works where nothing but the package is installed: test_wheel.py runs this one there.

It is given the path of export_and_exit, compiled, and a folder of which nothing may be in use: that
of the sources.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiopip

TASK = """if True:
    import aiopip
    me = aiopip.this_task()
    numbers = me.named_import_sync(me.root, "numbers").view()
    me.export("reversed", bytes(numbers)[::-1], keep=True)
"""


def check(condition: bool, *facts: object) -> None:
    """Fail, with or without -O."""
    if not condition:
        raise AssertionError(*facts)


def mapped() -> set[str]:
    """The files that are mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return {name[0] for line in lines if (name := line.split(maxsplit=5)[5:])}


async def run_python(root: aiopip.Root) -> None:
    """An array to a task of this very Python, and one back, also behind its end."""
    with root.export("numbers", bytes(range(10))):
        task = await root.spawn(sys.executable, "-c", TASK)
        check(task.shared)
        region = await task.named_import("reversed")
        check(await task.wait() == 0)
    check(bytes(region.view()) == bytes(range(10))[::-1])


async def run_c(root: aiopip.Root, program: str) -> None:
    """A program that is linked with the package's library."""
    task = await root.spawn(program, stdin=asyncio.subprocess.DEVNULL)
    region = await task.named_import("value")
    check(await task.wait() == 0)
    check(region.cast("i4", (1,)).view()[0] == 4711)


async def main() -> None:
    """Take all steps."""
    program, forbidden = sys.argv[1:]
    async with aiopip.Root(max_tasks=16) as root:
        check(await (await root.spawn("true")).wait() == 0)
        await run_python(root)
        await run_c(root, program)
        check(root.statistics().untracked == 0)
    used = mapped() | {str(getattr(module, "__file__", "")) for module in sys.modules.values()}
    check(not any(name.startswith(forbidden) for name in used), used)
    sys.stdout.write(f"done {aiopip.__file__}\n")


asyncio.run(main())
