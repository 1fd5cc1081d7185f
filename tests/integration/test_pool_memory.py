"""Arguments and results by reference: whose memory it is, and for how long."""

from __future__ import annotations

import array
import gc
import os
import signal
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration import calls
from integration.calls import Gate
from integration.pools import running_pids
from jobs import begun, outcomes
from support import settled, until

import aiopip

if TYPE_CHECKING:
    import numpy as np
else:
    np = pytest.importorskip("numpy")


def made(size: int) -> np.ndarray[Any, Any]:
    return np.arange(float(size))


async def test_arrays_are_seen_in_place(root: aiopip.Root) -> None:
    given = made(100_000)
    async with root.pool(workers=1) as pool:
        assert await pool.run(calls.sum_of, given) == given.sum()
        for part in (given, given[10:], given[::-3], given.reshape(100, 1000)[:, 5:90:7].T):
            assert await pool.run(calls.address_of, part) == calls.address_of(part)
            wanted = part * 2
            await pool.run(calls.double_in_place, part)
            assert np.array_equal(part, wanted)


async def test_out_is_the_callers_own_memory(root: aiopip.Root) -> None:
    given, out = made(1000), np.zeros(3000)
    async with root.pool(workers=2) as pool:
        await pool.run(calls.double, given[:500], out=out[0:1500:3])
        assert np.array_equal(out[0:1500:3], given[:500] * 2)
        assert not out[1::3].any()
        # A function of NumPy's returns what it has written: the caller's own memory.
        same = await pool.run(np.add, given, 1, out=out[:1000])
        assert calls.address_of(same) == calls.address_of(out)
        same[0] = 77
        assert out[0] == 77
        for wrong, why in (
            (bytearray(8), "wrap it in aiopip.ref"),
            ([np.zeros(3), bytearray(8)], r"out\[1\]"),
            (np.zeros(3, object), "Python objects"),
            (np.broadcast_to(np.zeros(1), 4), "read only"),
        ):
            for call in (pool.run, pool.broadcast):
                with pytest.raises(aiopip.InvalidArgumentError, match=why):
                    await call(calls.double, given, out=wrong)
        assert pool.statistics().pending == 0


async def test_ref_and_copy(root: aiopip.Root) -> None:
    plain, bytes_, typed = bytearray(100), bytearray(100), array.array("h", [0] * 50)
    async with root.pool(workers=1) as pool:
        await pool.run(calls.fill, plain, 7)
        await pool.run(calls.fill, aiopip.ref(bytes_), 7)
        await pool.run(calls.fill, aiopip.ref(typed), -7)
        assert (plain, bytes_) == (bytearray(100), bytearray(b"\7" * 100))
        assert typed.tolist() == [-7] * 50
        given = made(100)
        await pool.run(calls.double_in_place, aiopip.copy(given))
        assert np.array_equal(given, made(100))
        view = memoryview(bytearray(12)).cast("I")
        await pool.run(calls.fill, view, 5)
        assert view.tolist() == [5, 5, 5]


async def test_what_is_read_only_stays_so(root: aiopip.Root) -> None:
    given = made(100)
    given.flags.writeable = False
    async with root.pool(workers=1) as pool:
        with pytest.raises(ValueError, match=r"read-only|read only"):
            await pool.run(calls.double_in_place, given)


async def test_arguments_are_held_until_the_call_ends(root: aiopip.Root) -> None:
    gate, given = Gate(), made(1000)
    alive = weakref.ref(given)
    async with root.pool(workers=1) as pool:
        # Also when nobody waits for it any more.
        call = await begun(pool.run(calls.at, gate.ref, given))
        del given
        await until(lambda: gate.begun)
        call.cancel()
        await outcomes(call)
        del call
        gc.collect()
        assert alive() is not None
        gate.open()
        await until(lambda: pool.statistics().pending == 0)
        await until(lambda: gc.collect() is not None and alive() is None, "the argument goes")


async def test_what_is_written_to_is_held_until_its_worker_is_dead(root: aiopip.Root) -> None:
    gate, given = Gate(), made(1000)
    alive = weakref.ref(given)
    seen = []
    with pytest.raises(LookupError):  # noqa: PT012  the pool is left by it
        async with root.pool(workers=1) as pool:
            call = await begun(pool.run(calls.at, gate.ref, given))
            del given
            await until(lambda: gate.begun)
            (pid,) = running_pids(pool)
            os.kill(pid, signal.SIGSTOP)
            pool._dispatcher.fail_all(lambda: aiopip.ClosedError("as it is left"))
            with pytest.raises(aiopip.ClosedError, match="as it is left"):
                await call
            del call
            gc.collect()
            seen.append(alive() is not None)
            raise LookupError
    assert seen == [True]
    del pool
    gc.collect()
    assert alive() is None


async def test_what_a_worker_keeps_is_held(root: aiopip.Root) -> None:
    given = made(1000)
    alive, address = weakref.ref(given), calls.address_of(given)
    async with root.pool(workers=1) as pool:
        await pool.run(calls.keep, given)
        del given
        gc.collect()
        assert alive() is not None
        # A later call returns it: it is the caller's own.
        same = await pool.run(calls.kept)
        assert calls.address_of(same) == address
        await pool.run(calls.let_go)
        assert alive() is not None
        assert np.array_equal(same, made(1000))
        del same
        await until(lambda: gc.collect() is not None and alive() is None, "the argument goes")
        # And what it keeps as it dies goes then.
        another = made(1000)
        alive = weakref.ref(another)
        await pool.run(calls.keep, another)
        del another
        with pytest.raises(aiopip.WorkerDiedError):
            await pool.run(calls.die)
        await until(lambda: gc.collect() is not None and alive() is None, "the argument goes")


async def test_errors_let_go_of_arguments(root: aiopip.Root) -> None:
    given = made(1000)
    alive = weakref.ref(given)
    async with root.pool(workers=1) as pool:
        with pytest.raises(ValueError, match="499500"):
            await pool.run(calls.raise_with, given)
        del given
        await until(lambda: alive() is None, "the argument goes")


async def test_a_result_that_aliases_an_argument_is_the_callers(root: aiopip.Root) -> None:
    given = made(1000)
    alive, address = weakref.ref(given), calls.address_of(given)
    async with root.pool(workers=1) as pool:
        same = await pool.run(calls.echo, given[10:20])
        assert calls.address_of(same) == address + 80
        del given
        with pytest.raises(aiopip.WorkerDiedError):
            await pool.run(calls.die)
        assert same.tolist() == list(range(10, 20))
    gc.collect()
    assert alive() is not None
    del same
    gc.collect()
    assert alive() is None


async def test_results_outlive_worker_and_pool_and_root() -> None:
    async with aiopip.Root() as root:
        async with root.pool(workers=2) as pool:
            killed = await pool.run_on(0, calls.ones, 1_000_000)
            parts = await pool.run_on(0, calls.pair, 1_000_000)
            left = await pool.run_on(1, calls.ones, 1_000_000)
            text = memoryview(await pool.run_on(1, calls.large, 1000))
            with pytest.raises(aiopip.WorkerDiedError):
                await pool.run_on(0, calls.die)
            assert killed.sum() == 1_000_000
            killed += 1
        assert killed.sum() == 2_000_000
        assert left.sum() == 1_000_000
        assert parts[0].sum() + parts[1].sum() == 1_000_000
        first = parts[0]
        del killed, left, parts
        gc.collect()
        assert first.sum() == 500_000
        del first
        # All of it goes back with the last of them.
        await settled(root)
        kept = await _of_a_pool(root)
        view = kept[3:]
        del kept
    assert view.sum() == 997
    assert bytes(text[:3]) == b"xxx"


async def _of_a_pool(root: aiopip.Root) -> np.ndarray[Any, Any]:
    async with root.pool(workers=1) as pool:
        return await pool.run(calls.ones, 1000)


async def test_results_go_back_to_their_worker(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        (worker,) = (root.tasks[pool.statistics().workers[0].pipid or 0],)
        await pool.run(calls.ones, 4_000_000)
        before = worker.memory().anonymous_bytes
        for _ in range(10):
            found = await pool.run(calls.ones, 4_000_000)
            assert found[-1] == 1
            del found
        await pool.run(calls.nothing)
        assert worker.memory().anonymous_bytes < before + 2 * 32_000_000
        held = await pool.run(calls.ones, 4_000_000)
        assert worker.memory().anonymous_bytes >= 32_000_000
        del held


async def test_a_result_as_an_argument_of_another_worker(root: aiopip.Root) -> None:
    async with root.pool(workers=2) as pool:
        found = await pool.run_on(0, calls.ones, 100_000)
        with pytest.raises(aiopip.WorkerDiedError):
            await pool.run_on(0, calls.die)
        await pool.run_on(1, calls.double_in_place, found)
        again = await pool.run_on(1, calls.echo, found)
        del found
        gc.collect()
        assert again.sum() == 200_000
        gigabyte = np.zeros(1 << 27)
        assert await pool.run_on(1, calls.address_of, gigabyte) == calls.address_of(gigabyte)


async def test_idle_worker_gives_back_what_malloc_has_free(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        pid = await pool.run(calls.pid)
        (worker,) = (task for task in root.tasks.values() if task.pid == pid)

        def has_little() -> bool:
            return worker.memory().anonymous_bytes < before + 10e6

        before = worker.memory().anonymous_bytes
        for _ in range(2):
            assert await pool.run(calls.leave_free, 1000, 50_000) > 40e6
            await until(has_little)
        # What was a result, and is not needed any more, has no call behind it.
        result = await pool.run(calls.many, 400, 100_000)
        assert worker.memory().anonymous_bytes > before + 30e6
        await anyio.sleep(0.3)
        result.clear()
        await until(has_little)
