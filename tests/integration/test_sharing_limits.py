"""Sharing at its limits: a GiB, ten thousand exports, and deaths at any moment."""

from __future__ import annotations

import contextlib
import gc
import random
import time
from typing import TYPE_CHECKING

import anyio
import numpy as np
import pytest
from integration.usage import MORE_BYTES, MORE_MAPPINGS
from integration.worker import QUIET, work
from jobs import turns
from support import (
    clean_root,
    kept_exports,
    mapping_count,
    resident_bytes,
    settled,
    until,
)

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Array: TypeAlias = np.ndarray[Any, Any]

GIB = 1 << 30
MIB = 1 << 20
NUMPY = "import gc; import numpy as np; me = aiopip.this_task()"


async def test_gib_is_imported_without_a_page_touched(
    root: aiopip.Root, record_property: Callable[[str, object], None]
) -> None:
    async with work(root, NUMPY) as worker:
        await worker.do("small = np.ones(MIB >> 3)".replace("MIB", str(MIB)))
        await worker.do(f"big = np.empty({GIB} >> 3); big[0] = big[-1] = 42")
        await worker.do("me.export('small', small); me.export('big', big)")
        np.asarray(root.named_import_nowait(worker.task, "small"))
        mappings, resident = mapping_count(), resident_bytes()
        for name in ("small", "big"):
            start = time.perf_counter()
            region = root.named_import_nowait(worker.task, name)
            record_property(f"import of {name}, us", (time.perf_counter() - start) * 1e6)
        array = np.asarray(region)
        assert array.nbytes == GIB
        assert resident_bytes() - resident < 4 * MIB
        assert mapping_count() <= mappings + 1
        assert (array[0], array[-1]) == (42, 42)
        del region, array


async def test_gib_outlives_its_task_and_goes_when_dropped(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as worker:
        await worker.do(f"big = np.full({GIB} >> 3, 7.0); me.export('big', big)")
        array = np.asarray(root.named_import_nowait(worker.task, "big"))
        await worker.end("os.kill(os.getpid(), 9)")
    await until(lambda: root.statistics().held == 1 and not root.statistics().reclaiming)
    resident = resident_bytes()
    assert array[:: 1 << 16].sum() == 7 * (GIB >> 19)
    assert resident > GIB
    del array
    await until(lambda: resident - resident_bytes() > GIB - 16 * MIB, "the GiB goes back")


async def test_withdrawn_gib_of_a_task_goes_back(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as worker:
        await worker.do(f"export = me.export('big', np.full({GIB} >> 3, 7.0))")
        array = np.asarray(root.named_import_nowait(worker.task, "big"))
        resident = resident_bytes()
        await worker.do("export.withdraw()")
        assert array[-1] == 7
        del array
        gc.collect()
        await until(lambda: resident - resident_bytes() > GIB - 16 * MIB, "the GiB goes back")


# Services


async def test_ten_thousand_exports_of_the_root_leave_nothing(root: aiopip.Root) -> None:
    core = root._core
    assert core is not None
    async with work(root, NUMPY) as worker:
        await worker.do("""
            async def serve(count):
                for number in range(count):
                    region = await me.named_import(me.root, f"n{number % 7}")
                    me.export("answer", region.view()[:1]).withdraw()
                    region.close()
        """)

        async def run(count: int) -> None:
            for number in range(count):
                with root.export(f"n{number % 7}", np.zeros(1000)):
                    pass

        await run(500)
        mappings, resident = mapping_count(), resident_bytes()
        await run(9_500)
        assert mapping_count() <= mappings + MORE_MAPPINGS
        assert resident_bytes() <= resident + MORE_BYTES
        assert not kept_exports(core)
        assert not core.exports.published
        # With an importer: what it has goes when it lets go.
        exports = [root.export(f"m{number}", np.zeros(1000)) for number in range(1000)]
        await worker.do("held = [me.named_import_nowait(me.root, f'm{i}') for i in range(1000)]")
        for export in exports:
            export.withdraw()
        assert kept_exports(core) == 1000
        await worker.do("held.clear(); gc.collect()")
        await until(lambda: not kept_exports(core))


async def test_ten_thousand_exports_of_a_task_leave_nothing(root: aiopip.Root) -> None:
    async with work(root, NUMPY) as worker, work(root) as other:
        await worker.do("""
            from aiopip._exports import _kept
            kept = lambda: len(_kept)
            def run(count):
                for number in range(count):
                    with me.export(f"n{number % 7}", np.zeros(1000)): pass
            run(500)
        """)
        mappings, resident = mapping_count(), resident_bytes()
        await worker.do("run(9_500)")
        assert mapping_count() <= mappings + MORE_MAPPINGS
        assert resident_bytes() <= resident + MORE_BYTES
        assert await worker.do("(kept(), len(me._exports.published))") == (0, 0)
        await worker.do("exports = [me.export(f'm{i}', np.zeros(1000)) for i in range(1000)]")
        await other.do(
            f"held = [me.named_import_nowait({worker.task.pipid}, f'm{{i}}') for i in range(1000)]"
        )
        await worker.do("for export in exports: export.withdraw()")
        assert await worker.do("kept()") == 1000
        await other.do("held.clear()")
        await worker.until("not kept()")
        await worker.until(QUIET)


# Deaths

STORM = """
import random, zlib
import numpy as np
me = aiopip.this_task()
def storm(seed, others):
    rng, exports, held = random.Random(seed), {}, []
    while True:
        act, name = rng.randrange(4), f"n{rng.randrange(4)}"
        if act == 0 and name not in exports:
            made = np.full(rng.randrange(2, 3000), rng.randrange(1000), "i8")
            made[0] = made[1:].sum()
            exports[name] = me.export(name, made)
        elif act == 1 and name in exports:
            exports.pop(name).withdraw()
        elif act == 2:
            try:
                array = np.asarray(me.named_import_nowait(rng.choice(others), name))
            except (aiopip.WouldBlock, aiopip.ImportCanceledError):
                continue
            held.append(array)
            if rng.random() < .2 and "again" not in exports:
                exports["again"] = me.export("again", array)
        elif held:
            array = held.pop(rng.randrange(len(held)))
            assert array[0] == array[1:].sum(), "not what was exported"
"""


@pytest.mark.parametrize("seed", range(3))
async def test_deaths_in_storms_leave_nothing(seed: int) -> None:
    rng = random.Random(seed)
    async with clean_root(max_tasks=8) as root:
        mappings = 0
        for turn in range(3):
            async with contextlib.AsyncExitStack() as stack:
                workers = [await stack.enter_async_context(work(root, STORM)) for _ in range(4)]
                others = [*(worker.task.pipid for worker in workers)]
                for number, worker in enumerate(workers):
                    sources = ", ".join(map(str, others))
                    worker.tell(f"storm({seed * 100 + turn * 10 + number}, [{sources}, me.root])")
                seen = await storm(root, rng, [worker.task for worker in workers])
                for worker in rng.sample(workers, 4):
                    await anyio.sleep(rng.random() * 0.02)
                    worker.task.kill()
                    assert await worker.task.wait() == -9
                    assert await worker.answer() is None  # else it has failed before
                assert are_right(seen)
                seen.clear()
            await settled(root)
            if turn == 0:
                mappings = mapping_count()
        core = root._core
        assert core is not None
        await until(lambda: not kept_exports(core))
        assert mapping_count() <= mappings + MORE_MAPPINGS


def are_right(arrays: list[Array]) -> bool:
    """Whether they are what was exported: each begins with its sum."""
    return all(array[0] == array[1:].sum() for array in arrays)


async def storm(root: aiopip.Root, rng: random.Random, tasks: list[aiopip.Task]) -> list[Array]:
    """The root's part: it imports, exports and withdraws while the others do."""
    seen: list[Array] = []
    exports: dict[str, aiopip.Export] = {}
    for _ in range(300):
        name = f"n{rng.randrange(4)}"
        if name in exports:
            exports.pop(name).withdraw()
        else:
            made = np.full(rng.randrange(2, 3000), rng.randrange(1000), "i8")
            made[0] = made[1:].sum()
            exports[name] = root.export(name, made)
        with contextlib.suppress(aiopip.WouldBlock):
            wanted = rng.choice([*(f"n{i}" for i in range(4)), "again"])
            seen.append(np.asarray(root.named_import_nowait(rng.choice(tasks), wanted)))
        if len(seen) > 20:
            assert are_right([seen.pop(rng.randrange(len(seen)))])
        await turns(1)
    for export in exports.values():
        export.withdraw()
    return seen
