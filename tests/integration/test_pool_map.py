"""Pool.map: results of many calls, with back-pressure."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration import calls
from integration.calls import Gate
from jobs import begun, cancelled, outcomes, turns
from support import until

import aiopip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def every(mapping: aiopip.PoolMap[Any]) -> list[Any]:
    return [one async for one in mapping]


async def slowly(items: list[Any]) -> AsyncIterator[Any]:
    for one in items:
        await anyio.lowlevel.checkpoint()
        yield one


async def test_results_in_order(root: aiopip.Root) -> None:
    async with root.pool(workers=2) as pool:
        for size in (1, 3, 1000):
            assert await every(pool.map(calls.echo, range(100), chunksize=size)) == list(range(100))
            found = await every(pool.map(calls.echo, range(100), ordered=False, chunksize=size))
            assert sorted(found) == list(range(100))
        assert await every(pool.map(calls.echo, [])) == []
        assert await every(pool.map(calls.echo, slowly([1, 2, 3]))) == [1, 2, 3]
        assert await every(pool.map(calls.echo, slowly([1, 2, 3]), chunksize=2)) == [1, 2, 3]


async def test_unordered_results_come_as_they_are_there(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=2) as pool:

        async def gates() -> list[Any]:
            found = []
            arguments = [(gate.ref, "late"), "soon", "sooner"]
            async for one in pool.map(calls.at_or_echo, arguments, ordered=False):
                found.append(one)
                if len(found) == 2:
                    gate.open()
            return found

        assert await gates() == ["soon", "sooner", "late"]


async def test_arguments_are_taken_when_there_is_room(root: aiopip.Root) -> None:
    taken: list[int] = []

    def count() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    async with root.pool(workers=2) as pool:
        for buffer, size, most in ((1, 1, 1), (5, 1, 5), (6, 2, 6), (None, 1, 8), (None, 3, 24)):
            taken.clear()
            mapping = pool.map(calls.echo, count(), buffer=buffer, chunksize=size)
            assert not taken
            seen = 0
            async for _ in mapping:
                seen += 1
                assert len(taken) <= seen + most + size - 1
            assert (seen, len(taken)) == (100, 100)
        with pytest.raises(aiopip.InvalidArgumentError, match="buffer: 0 is less than 1"):
            pool.map(calls.echo, [1], buffer=0)
        with pytest.raises(aiopip.InvalidArgumentError, match="chunksize: -1 is less than 1"):
            pool.map(calls.echo, [1], chunksize=-1)


async def test_results_do_not_wait_for_arguments(root: aiopip.Root) -> None:
    """One that is asked for has its result behind it at the latest."""
    sent, received = anyio.create_memory_object_stream[int](10)
    async with root.pool(workers=1) as pool, sent, received:
        mapping = pool.map(calls.echo, received, buffer=8)
        await sent.send(1)
        await sent.send(2)
        first = await begun(mapping.__anext__())
        await until(lambda: pool.statistics().done == 2)
        await sent.send(3)
        assert await first == 1
        assert await mapping.__anext__() == 2
        await sent.aclose()
        assert await mapping.__anext__() == 3
        with pytest.raises(StopAsyncIteration):
            await mapping.__anext__()


@pytest.mark.parametrize("size", [1, 2])
async def test_an_error_comes_in_its_place(root: aiopip.Root, size: int) -> None:
    async with root.pool(workers=2) as pool:
        mapping = pool.map(calls.fail_for, range(20), chunksize=size)
        found = []
        with pytest.raises(ValueError, match="3 is bad") as caught:  # noqa: PT012
            async for one in mapping:
                found.append(one)  # noqa: PERF401  those before the error
        assert found == [0, 10, 20]
        assert "in fail_for" in str(caught.value.__cause__)
        with pytest.raises(StopAsyncIteration):
            await mapping.__anext__()
        await until(lambda: pool.statistics().pending == 0)


def broken_off(items: int) -> Iterator[Any]:
    yield from range(items)
    raise LookupError("the iterable's own")


async def broken_off_later(items: int) -> AsyncIterator[Any]:
    for one in broken_off(items):
        await anyio.lowlevel.checkpoint()
        yield one


@pytest.mark.parametrize("size", [1, 2])
async def test_an_error_of_the_iterable_comes_behind_results(root: aiopip.Root, size: int) -> None:
    async with root.pool(workers=2) as pool:
        for items in (0, 3):
            for iterable in (broken_off(items), broken_off_later(items)):
                found = []
                with pytest.raises(LookupError, match="the iterable's own"):  # noqa: PT012
                    async for one in pool.map(calls.echo, iterable, chunksize=size):
                        found.append(one)  # noqa: PERF401  those before the error
                assert found == list(range(items))
        assert pool.statistics().pending == 0


async def test_an_argument_that_does_not_pickle(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        found = []
        with pytest.raises(aiopip.NotPicklableError, match="argument 1"):  # noqa: PT012
            async for one in pool.map(calls.echo, [1, 2, threading.Lock(), 4]):
                found.append(one)  # noqa: PERF401  those before the error
        assert found == [1, 2]


async def test_a_worker_that_dies(root: aiopip.Root) -> None:
    async with root.pool(workers=2) as pool:
        with pytest.raises(aiopip.WorkerDiedError):
            await every(pool.map(calls.exit_now, [3] * 10))
        assert await every(pool.map(calls.echo, range(10))) == list(range(10))


async def test_cancelled_and_closed(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        call = await begun(every(pool.map(calls.at_or_echo, [(gate.ref,)] * 8)))
        await until(lambda: gate.begun)
        call.cancel()
        await outcomes(call)
        assert call.cancelled()
        now = pool.statistics()
        assert (now.pending, now.abandoned, now.cancelled) == (1, 1, 4)
        gate.open()
        await until(lambda: pool.statistics().pending == 0)
        again = Gate()
        async with pool.map(calls.at_or_echo, [1, (again.ref,), 3]) as mapping:
            assert await mapping.__anext__() == 1
            await until(lambda: again.begun)
        assert pool.statistics().pending == 1
        again.open()
        with pytest.raises(StopAsyncIteration):
            await mapping.__anext__()


async def test_one_that_is_dropped_cancels(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        async for one in pool.map(calls.at_or_echo, [0, (gate.ref,), 2, 3]):
            assert one == 0
            break
        gc.collect()
        await until(lambda: pool.statistics().cancelled == 3)
        assert pool.statistics().pending <= 1
        gate.open()


async def test_dropped_in_another_thread(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        kept = [pool.map(calls.at_or_echo, [0, (gate.ref,), 2, 3])]
        assert await kept[0].__anext__() == 0
        await until(lambda: gate.begun)
        thread = threading.Thread(target=kept.clear)
        thread.start()
        await until(lambda: pool.statistics().cancelled == 3)
        await until(lambda: not thread.is_alive())
        gate.open()


async def test_cancelled_while_it_waits_for_arguments(root: aiopip.Root) -> None:
    sent, received = anyio.create_memory_object_stream[int](10)
    async with root.pool(workers=1) as pool, sent, received:
        call = await begun(every(pool.map(calls.echo, received)))
        await turns(2)
        call.cancel()
        with pytest.raises(cancelled()):
            await call
        assert await pool.run(calls.echo, 1) == 1
