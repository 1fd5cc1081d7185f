"""How many: 1,500 tasks at once, and what happens when the mappings run out."""

# Which statement of the block raises is what is tested.
# ruff: noqa: PT012

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jobs import gather, outcomes
from support import PAGE, clean_root, mapping_count, run_python, settled, still_works, until

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import Programs

COUNT = 1500
MAPPINGS_A_TASK = 16
LEFT = 1000


def mapping_limit() -> int:
    return int(Path("/proc/sys/vm/max_map_count").read_text())


@pytest.mark.timeout(180)
async def test_fifteen_hundred_tasks_are_alive_at_once(program: Programs) -> None:
    """Each status is right, and each task costs at most 16 mappings."""
    if mapping_limit() < COUNT * MAPPINGS_A_TASK + 2 * LEFT:
        pytest.skip("needs a larger vm.max_map_count")
    if resource.getrlimit(resource.RLIMIT_NPROC)[0] < 2 * COUNT:
        pytest.skip("needs a larger RLIMIT_NPROC")
    async with clean_root(max_tasks=COUNT) as root:
        before = mapping_count()
        path = program("pause")
        tasks = [await root.spawn(path, str(number % 256), stdout=-3) for number in range(COUNT)]
        assert root.statistics().alive == COUNT
        await all_loaded(root)
        taken = mapping_count() - before
        assert taken <= COUNT * MAPPINGS_A_TASK, taken / COUNT
        with pytest.raises(aiopip.SlotBusyError):
            await root.spawn("true")
        for number, task in enumerate(tasks):
            if number % 3 == 0:
                task.kill()
        ends = [task.wait() for task in tasks[::3]]
        assert await gather(*ends) == [-9] * len(ends)
        rest = [task for number, task in enumerate(tasks) if number % 3]
        assert all(task.status is None for task in rest)
        for task in rest:
            task.send_signal(signal.SIGUSR1)
        ended = await gather(*[task.wait() for task in rest])
        assert ended == [number % 256 for number in range(COUNT) if number % 3]
        await settled(root)
        assert mapping_count() <= before + 8


async def all_loaded(root: aiopip.Root) -> None:
    """Wait until every task sleeps in pause(2), system call 34."""

    def pauses(task: aiopip.Task) -> bool:
        return Path(f"/proc/{task.pid}/syscall").read_text().startswith("34 ")

    for task in root.tasks.values():
        await until(functools.partial(pauses, task))


@contextlib.contextmanager
def mappings_filled(left: int) -> Iterator[None]:
    """Use up the mappings of this process but for so many, in one piece of address space.

    Pages of one mapping that are alternately readable and not are a mapping each.
    """
    count = mapping_limit() - mapping_count() - left
    with mmap.mmap(-1, (count + 2) * PAGE) as memory:
        libc = ctypes.CDLL(None, use_errno=True)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for number in range(1, count, 2):
            address = ctypes.c_void_p(start + number * PAGE)
            assert libc.mprotect(address, ctypes.c_size_t(PAGE), 0) == 0, ctypes.get_errno()
        try:
            yield
        finally:
            libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t((count + 2) * PAGE), 3)


async def test_spawn_that_would_leave_too_few_mappings_is_refused(
    root: aiopip.Root, program: Programs
) -> None:
    await still_works(root)
    await settled(root)  # what goes back later would make room
    task = await root.spawn(program("pause"))
    with mappings_filled(LEFT + 20):
        for _ in range(5):
            with pytest.raises(aiopip.OutOfMappingsError) as caught:
                await root.spawn("true")
            assert caught.value.errno == errno.ENOMEM
            assert "vm.max_map_count" in str(caught.value)
            assert str(mapping_limit()) in str(caught.value)
        assert task.status is None
        assert mapping_limit() - mapping_count() >= LEFT
        task.kill()
        assert await task.wait() == -9
    await still_works(root)


async def test_spawns_until_the_mappings_run_out_leave_a_thousand(program: Programs) -> None:
    """Some dozens fit; then each is refused, and what runs goes on."""
    async with clean_root(max_tasks=4096) as root:
        await still_works(root)
        with mappings_filled(LEFT + 1200):
            tasks = []
            with pytest.raises(aiopip.OutOfMappingsError):
                while True:
                    tasks.append(await root.spawn(program("pause")))
            assert len(tasks) > 40
            assert mapping_limit() - mapping_count() >= LEFT
            for task in tasks[:20]:
                task.kill()
                assert await task.wait() == -9
            await still_works(root)
            root.kill_all()
            assert {int(await task.wait()) for task in tasks} == {-9}
        await still_works(root)


async def test_many_spawns_at_once_leave_a_thousand_too(program: Programs) -> None:
    async with clean_root(max_tasks=4096) as root:
        await still_works(root)
        with mappings_filled(LEFT + 1200):
            ended = await outcomes(*[root.spawn(program("pause")) for _ in range(100)])
            tasks = [one for one in ended if isinstance(one, aiopip.Task)]
            refused = [one for one in ended if isinstance(one, aiopip.OutOfMappingsError)]
            assert len(tasks) + len(refused) == 100
            assert len(tasks) > 40
            assert refused
            assert mapping_limit() - mapping_count() >= LEFT
            assert all(task.status is None for task in tasks)
            root.kill_all()
            assert {int(await task.wait()) for task in tasks} == {-9}
        await still_works(root)


async def test_descriptors_that_run_out_are_an_error_and_the_root_goes_on(
    program: Programs,
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with clean_root() as root:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            failed = await outcomes(root.spawn("true"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        if isinstance(failed[0], aiopip.Task):
            assert await failed[0].wait() == 0
        else:
            assert isinstance(failed[0], aiopip.SpawnError)
        await still_works(root)


def test_no_more_processes_is_an_error_and_the_root_goes_on() -> None:
    source = """
        import asyncio, ctypes, os, resource, sys
        import aiopip
        async def main():
            async with aiopip.Root() as root:
                assert await (await root.spawn("true")).wait() == 0
                limit = resource.getrlimit(resource.RLIMIT_NPROC)
                resource.setrlimit(resource.RLIMIT_NPROC, (0, limit[1]))
                try:
                    await root.spawn("true")
                except aiopip.SpawnError as error:
                    assert isinstance(error, BlockingIOError), error
                    assert "RLIMIT_NPROC" in str(error), error
                    print("refused")
                resource.setrlimit(resource.RLIMIT_NPROC, limit)
                assert await (await root.spawn("true")).wait() == 0
        async def load_all():
            async with aiopip.Root() as root:
                assert await (await root.spawn("true")).wait() == 0
        asyncio.run(load_all())  # behind setuid the standard library may be out of reach
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which setuid has cleared
        asyncio.run(main())
    """
    done = run_python(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")
