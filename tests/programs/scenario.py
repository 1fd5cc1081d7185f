"""What a root can do under any Python: test_interpreters.py runs this one under each it finds.

It is given the path of export_and_exit, compiled.  Each step is a coroutine that takes the Root;
behind all of them nothing may be left.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import aiopip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 30.0


def check(condition: bool, *facts: object) -> None:
    """Fail, with or without -O."""
    if not condition:
        raise AssertionError(*facts)


@contextlib.asynccontextmanager
async def waiting(root: aiopip.Root, *line: str, **options: Any) -> AsyncIterator[aiopip.Task]:
    """A task that reads its stdin, whose end comes behind the block."""
    reading, writing = os.pipe()
    try:
        task = await root.spawn(*line, stdin=reading, **options)
        yield task
    finally:
        os.close(reading)
        os.close(writing)


async def output(root: aiopip.Root, *line: str) -> bytes:
    """What a task writes, of few bytes; it has to succeed."""
    reading, writing = os.pipe()
    try:
        status = await (await root.spawn(*line, stdout=writing)).wait()
        os.write(writing, b"\n")  # so that there is something to read
        written = os.read(reading, 1 << 16)
    finally:
        os.close(reading)
        os.close(writing)
    check(status == 0, line, status, written)
    return written.rstrip()


async def run_c(root: aiopip.Root) -> None:
    """Programs in C, and their statuses."""
    check(await (await root.spawn("/bin/true")).wait() == 0)
    check(await (await root.spawn("false")).wait() == 1)
    task = await root.spawn("sleep", "1000")
    check(task.shared)
    task.terminate()
    check(await task.wait() == -15)


async def run_python(root: aiopip.Root) -> None:
    """This very Python: a task of the same version, environment and packages."""
    async with waiting(root, sys.executable, "-c", "import sys; sys.stdin.read()") as task:
        check(task.shared)
    check(await task.wait() == 0)
    check(task.shared, "it has exec'ed")
    show = "import sys; print(sys.version, sys.executable, sys.prefix, sys.flags)"
    expected = f"{sys.version} {sys.executable} {sys.prefix} {sys.flags}"
    written = await output(root, sys.executable, "-c", show)
    check(written.decode() == expected, written, expected)
    check(await (await root.spawn(sys.executable, "-c", "raise SystemExit(3)")).wait() == 3)


async def run_numpy(root: aiopip.Root) -> None:
    """NumPy, in several tasks at once."""
    source = "import numpy as np; a = np.ones((300, 300)); print((a @ a).sum(), np.__version__)"
    lines = await asyncio.gather(*[output(root, sys.executable, "-c", source) for _ in range(3)])
    check(set(lines) == {f"27000000.0 {np.__version__}".encode()}, lines)


async def import_from_c(root: aiopip.Root) -> None:
    """What a task in C exports, as an array, also behind its end."""
    async with waiting(root, sys.argv[1]) as task:
        importing = asyncio.ensure_future(task.named_import("value"))
    region = await importing
    array = np.asarray(region.cast("i4", (1,)))
    check(await task.wait() == 0)
    check(array.tolist() == [4711])
    await until(root, lambda now: now.held == 1)  # the reaper looks at it behind the report
    check(array.tolist() == [4711])


SHARES = """if True:
    import asyncio, sys
    import aiopip
    me = aiopip.this_task()
    lock = aiopip.Lock(me.named_import_sync(me.root, "lock"))
    async def main():
        region = await me.named_import(me.root, "numbers")
        me.export("reversed", region.view()[::-1])
        view = region.view()
        for _ in range(100):
            async with lock:
                view[0] += 1
        kept = bytearray(b"kept")
        with me.export("withdrawn", kept):
            pass
        me.export("kept", kept, keep=True)
        await me.named_import(me.root, "end")
    asyncio.run(main())
"""


async def share_with_python(root: aiopip.Root) -> None:
    """Arrays from the root and to it, and a lock, with a task of this very Python."""
    numbers, lock = np.arange(10.0), aiopip.Lock()
    exports = [root.export("numbers", numbers), root.export("lock", lock)]
    async with waiting(root, sys.executable, "-c", SHARES, cwd="/") as task:
        reverse = np.asarray(await task.named_import("reversed"))
        check(reverse[:-1].tolist() == list(range(9, 0, -1)), reverse)
        check(reverse.ctypes.data == numbers.ctypes.data + 72)
        for _ in range(100):
            async with lock:
                numbers[0] += 1
            await asyncio.sleep(0)
        kept = await task.named_import("kept")
        check(numbers[0] == 200, numbers)
        numbers[1] = -5
        check(reverse[-2] == -5)
        exports.append(root.export("end", b""))
        check(await task.wait() == 0)
    check(bytes(kept.view()) == b"kept")
    check(not lock.locked)
    for export in exports:
        export.withdraw()
    lock.acquire_sync(0)
    lock.release()


async def until(
    root: aiopip.Root, condition: Callable[[aiopip.RootStatistics], bool]
) -> aiopip.RootStatistics:
    """Wait until the statistics are as they are to be."""
    end = time.monotonic() + DEADLINE_S
    while not condition(now := root.statistics()):
        check(time.monotonic() < end, now)
        gc.collect()
        await asyncio.sleep(0.002)
    return now


async def settle(root: aiopip.Root) -> None:
    """Wait until the memory of all tasks has gone back."""
    gc.collect()
    now = await until(
        root,
        lambda now: not (now.alive or now.queued or now.loading or now.reclaiming or now.held),
    )
    check(now.untracked == 0, now)
    check(now.spawned == now.ended, now)


async def main() -> None:
    """Take all steps."""
    async with aiopip.Root(max_tasks=16) as root:
        for step in (run_c, run_python, run_numpy, import_from_c, share_with_python):
            await step(root)
            await settle(root)
    sys.stdout.write("done {}.{}\n".format(*sys.version_info))


asyncio.run(main())
