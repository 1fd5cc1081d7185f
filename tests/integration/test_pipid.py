"""PiP IDs: asked for, or the lowest that is free; and what `tasks` shows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from integration.server import serve
from support import clean_root, settled, still_works, until

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


async def test_lowest_free_pipid_comes_first(program: Programs) -> None:
    async with clean_root(max_tasks=8) as root:
        tasks = [await root.spawn(program("pause")) for _ in range(5)]
        assert [task.pipid for task in tasks] == [0, 1, 2, 3, 4]
        for number in (3, 1):
            tasks[number].kill()
            await tasks[number].wait()
        await reclaimed(root, 3)
        assert [(await root.spawn(program("pause"))).pipid for _ in range(3)] == [1, 3, 5]


async def reclaimed(root: aiopip.Root, alive: int) -> None:
    def done() -> bool:
        now = root.statistics()
        return now.alive == alive and not now.reclaiming

    await until(done)


async def test_pipid_that_was_asked_for_is_given(program: Programs) -> None:
    async with clean_root(max_tasks=8) as root:
        for pipid in (7, 0, 3):
            assert (await root.spawn(program("pause"), pipid=pipid)).pipid == pipid
        assert (await root.spawn(program("pause"))).pipid == 1
        assert sorted(root.tasks) == [0, 1, 3, 7]


async def test_taken_pipid_is_refused(program: Programs) -> None:
    async with clean_root(max_tasks=2) as root:
        task = await root.spawn(program("pause"), pipid=1)
        with pytest.raises(aiopip.SlotBusyError, match="PiP ID 1"):
            await root.spawn("true", pipid=1)
        await still_works(root)
        task.kill()
        await task.wait()
        # Its memory may still be going back: then the spawn waits for it.
        again = await root.spawn("true", pipid=1)
        assert (again.pipid, await again.wait()) == (1, 0)


@pytest.mark.parametrize("pipid", [-1, 4, 2**31, -750])
async def test_pipid_out_of_range_is_refused(pipid: int) -> None:
    async with clean_root(max_tasks=4) as root:
        with pytest.raises(aiopip.InvalidArgumentError, match="pipid"):
            await root.spawn("true", pipid=pipid)
        await still_works(root)


async def test_max_tasks_is_the_most_that_are_alive(program: Programs) -> None:
    async with clean_root(max_tasks=3) as root:
        tasks = [await root.spawn(program("pause")) for _ in range(3)]
        with pytest.raises(aiopip.SlotBusyError, match="max_tasks"):
            await root.spawn("true")
        tasks[1].kill()
        assert await tasks[1].wait() == -9
        await still_works(root)


async def test_one_slot_serves_many_tasks() -> None:
    async with clean_root(max_tasks=1) as root:
        for _ in range(50):
            task = await root.spawn("true")
            assert task.pipid == 0
            assert await task.wait() == 0


async def test_spawn_waits_for_a_slot_whose_memory_goes_back() -> None:
    """Ended tasks whose memory is mapped still have a slot; it is no error to come meanwhile."""
    async with clean_root(max_tasks=4) as root:
        for _ in range(20):
            tasks = [await root.spawn("sleep", "1000") for _ in range(4)]
            root.kill_all()
            assert [await task.wait() for task in tasks] == [-9] * 4


async def test_slot_is_free_when_the_last_view_is_dropped(pip_program: Programs) -> None:
    """Until then the memory of an ended task, which somebody looks at, keeps it."""
    async with clean_root(max_tasks=1) as root:
        for _ in range(20):
            async with serve(root, pip_program("server")) as server:
                assert await server.ask("export name") == "OK"
                view = (await root.named_import(server.task, "name")).cast("i4", 1).view()
                await server.end()
            await until(lambda: root.statistics().held == 1)
            with pytest.raises(aiopip.SlotBusyError):
                await root.spawn("true")
            del view
            assert await (await root.spawn("true")).wait() == 0


async def test_tasks_are_those_alive_or_not_collected(root: aiopip.Root, program: Programs) -> None:
    first, second = [await root.spawn(program("pause")) for _ in range(2)]
    assert dict(root.tasks) == {0: first, 1: second}
    first.kill()
    await until(lambda: first.status is not None)
    assert dict(root.tasks) == {0: first, 1: second}
    await first.wait()
    assert dict(root.tasks) == {1: second}
    with pytest.raises(TypeError):
        root.tasks[5] = first  # type: ignore[index]
    second.kill()
    await second.wait()
    assert not root.tasks
    await settled(root)
