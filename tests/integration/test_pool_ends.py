"""How pools, their calls and their workers end: killed, cancelled, left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from integration import calls
from integration.calls import Gate
from integration.pools import call_many_times, kill_under_load, running_pids
from integration.usage import Use
from jobs import begun, cancelled, outcomes, start, turns
from loops import ABOUT_TO_GO_ON, only, running
from support import is_gone, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

# Workers that die


async def test_a_death_fails_its_own_call_alone(
    root: aiopip.Root, capfd: pytest.CaptureFixture[str]
) -> None:
    gate = Gate()
    async with root.pool(workers=2) as pool:
        other = await begun(pool.run_on(1, calls.at, gate.ref, "other"))
        behind = [await begun(pool.run_on(0, calls.at, gate.ref, "before"))]
        text = "".join(f"line {number}\n" for number in range(30))
        dying = await begun(pool.run_on(0, calls.die, signal.SIGUSR1, text))
        behind.append(await begun(pool.run_on(0, calls.echo, "behind")))
        gate.open()
        with pytest.raises(aiopip.WorkerDiedError, match="worker 0 of the pool died") as caught:
            await dying
        assert caught.value.signal == signal.SIGUSR1
        assert caught.value.status == -signal.SIGUSR1
        assert caught.value.worker == 0
        assert caught.value.stderr == "".join(f"line {number}\n" for number in range(10, 30))
        assert [await other, *[await one for one in behind]] == ["other", "before", "behind"]
        with pytest.raises(aiopip.WorkerDiedError) as caught:
            await pool.run_on(1, calls.exit_now, 3)
        assert (caught.value.signal, caught.value.status.exit_code) == (None, 3)
        assert [one.ended for one in pool.statistics().workers] == [1, 1]
        assert len(set(await pool.broadcast(calls.pid))) == 2
    assert capfd.readouterr().err == text


async def test_an_idle_worker_and_one_that_starts_are_replaced(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        for _ in range(4):
            (pid,) = running_pids(pool)
            os.kill(pid, signal.SIGKILL)
            # The second and the following ones: before they are ready.
            await until(lambda pid=pid: running_pids(pool) not in ([], [pid]))  # type: ignore[misc]
        assert await pool.run(calls.echo, "alive") == "alive"


async def test_workers_are_known_when_a_pool_is_entered(root: aiopip.Root) -> None:
    for _ in range(10):
        async with root.pool(workers=2) as pool:
            assert len(running_pids(pool)) == 2


async def test_a_stopped_worker_goes_on(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=2, on_cancel="kill") as pool:
        stopped = await begun(pool.run_on(0, calls.at, gate.ref, "late"))
        await until(lambda: gate.begun)
        (pid, _) = running_pids(pool)
        os.kill(pid, signal.SIGSTOP)
        gate.open()
        assert await pool.run_on(1, calls.echo, "soon") == "soon"
        assert not stopped.done()
        os.kill(pid, signal.SIGCONT)
        assert await stopped == "late"
        # And is killed as any other one.
        again = Gate()
        waits = await begun(pool.run_on(0, calls.at, again.ref))
        await until(lambda: again.begun)
        os.kill(pid, signal.SIGSTOP)
        waits.cancel()
        await outcomes(waits)
        assert await pool.run_on(0, calls.pid) != pid


async def test_an_initializer_that_fails(root: aiopip.Root) -> None:
    with pytest.raises(LookupError, match="at the start") as caught:
        async with root.pool(workers=2, initializer=calls.fail, initargs=("at the start",)):
            pytest.fail("it has been entered")
    assert "in fail" in str(caught.value.__cause__)
    with pytest.raises(aiopip.WorkerDiedError) as died:
        async with root.pool(workers=2, initializer=calls.die, initargs=(9, "said")):
            pytest.fail("it has been entered")
    assert died.value.signal == signal.SIGKILL
    assert died.value.stderr == "said"


async def test_an_initializer_that_fails_in_a_successor(root: aiopip.Root, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    gate = Gate()
    async with root.pool(
        workers=2, initializer=calls.set_up_until, initargs=(str(marker),)
    ) as pool:
        runs = await begun(pool.run_on(1, calls.at, gate.ref))
        waits = await begun(pool.run_on(1, calls.nothing))
        marker.touch()
        with pytest.raises(aiopip.WorkerDiedError):
            await pool.run_on(0, calls.die)
        for call in (runs, waits):
            with pytest.raises(aiopip.ClosedError, match="no workers any more") as caught:
                await call
            assert "there is a file" in str(caught.value.__cause__)
        with pytest.raises(aiopip.ClosedError, match="no workers any more"):
            await pool.run(calls.nothing)
    assert repr(pool).startswith("<aiopip.Pool closed")


async def test_successors_that_crash_are_not_started_for_ever(
    root: aiopip.Root, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    arguments = (str(marker), signal.SIGABRT)
    async with root.pool(workers=1, initializer=calls.die_in_set_up, initargs=arguments) as pool:
        marker.touch()
        with pytest.raises(aiopip.WorkerDiedError):
            await pool.run(calls.die)
        with pytest.raises(aiopip.ClosedError, match="no workers any more") as caught:
            await pool.run(calls.nothing)
        assert isinstance(caught.value.__cause__, aiopip.WorkerDiedError)
        assert caught.value.__cause__.signal == signal.SIGABRT


async def test_no_descriptor_is_left(root: aiopip.Root) -> None:
    pool = root.pool(workers=2)
    highest = os.dup(0)
    os.close(highest)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, hard))
    filling = []
    try:
        with pytest.raises(OSError, match="a pool's queue") as caught:  # noqa: PT012
            while True:
                filling.append(root.pool(workers=1))
        assert isinstance(caught.value, aiopip.CallError)
        assert caught.value.errno == errno.EMFILE
        with pytest.raises(OSError, match="Too many open files"):
            await pool.__aenter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    del filling, caught
    gc.collect()
    async with root.pool(workers=1) as another:
        assert await another.run(calls.echo, 1) == 1


async def test_twenty_thousand_calls_leave_nothing(root: aiopip.Root) -> None:
    await call_many_times(root, 20_000 if running().name == "asyncio" else 2000, Use.now)


async def test_a_worker_is_killed_every_50_ms_under_load(root: aiopip.Root) -> None:
    pytest.importorskip("numpy")
    load = await kill_under_load(root, 3 if running().name == "asyncio" else 1, 0)
    assert load.ends["WorkerDiedError"] > 0


# Cancelled calls


async def test_a_cancelled_call_that_has_not_begun_never_runs(
    root: aiopip.Root, tmp_path: Path
) -> None:
    gate, never = Gate(), Gate()
    never.open()
    async with root.pool(workers=1) as pool:
        runs = await begun(pool.run(calls.at, gate.ref, "value"))
        await until(lambda: gate.begun)
        waits = [await begun(pool.run(calls.at, never.ref)) for _ in range(3)]
        waits += [await begun(pool.run_on(0, calls.at, never.ref)) for _ in range(3)]
        for call in waits:
            call.cancel()
        await outcomes(*waits)
        assert all(call.cancelled() for call in waits)
        assert pool.statistics().pending == 1
        gate.open()
        assert await runs == "value"
        assert await pool.run(calls.echo, 1) == 1
        assert not never.begun


async def test_a_cancelled_call_that_runs_is_abandoned(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        (pid,) = running_pids(pool)
        runs = await begun(pool.run(calls.at, gate.ref, b"x" * 10_000))
        await until(lambda: gate.begun)
        runs.cancel()
        await outcomes(runs)
        assert runs.cancelled()
        assert pool.statistics().abandoned == 1
        gate.open()
        assert await pool.run(calls.pid) == pid


async def test_a_cancelled_call_that_runs_is_killed(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1, on_cancel="kill") as pool:
        (pid,) = running_pids(pool)
        runs = await begun(pool.run(calls.at, gate.ref))
        await until(lambda: gate.begun)
        waits = await begun(pool.run(calls.pid))
        runs.cancel()
        await outcomes(runs)
        assert runs.cancelled()
        assert await waits != pid
        assert is_gone(pid)


async def test_a_kill_hits_no_other_call(root: aiopip.Root) -> None:
    """Whichever of the two the worker is at when it is to be killed for the first."""
    async with root.pool(workers=1, on_cancel="kill") as pool:
        for round_ in range(40):
            first = await begun(pool.run(calls.echo, round_))
            second = await begun(pool.run(calls.echo, round_))
            await turns(round_ % 8)
            first.cancel()
            _, found = await outcomes(first, second)
            assert found == round_


async def test_a_call_is_cancelled_before_its_worker_is_known(root: aiopip.Root) -> None:
    """It has taken the call before the pool hears that it has started."""
    gate = Gate()
    async with root.pool(workers=1, on_cancel="kill", max_calls_per_worker=1) as pool:
        crew = pool._crew
        answers: list[Any] = []
        crew._started = lambda *answer: answers.append(answer)  # type: ignore[method-assign]
        assert await pool.run(calls.echo, 1) == 1
        second = await begun(pool.run(calls.at, gate.ref))
        await until(lambda: gate.begun and bool(answers))
        assert crew.seats[0].process is None
        second.cancel()
        await outcomes(second)
        assert second.cancelled()
        del crew._started
        crew._started(*answers.pop())
        assert await pool.run(calls.echo, 3) == 3


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_as_its_result_comes(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1, on_cancel="kill") as pool:
        (pid,) = running_pids(pool)
        call = await begun(pool.run(calls.at, gate.ref, "value"))
        await until(lambda: gate.begun)
        (job,) = pool._dispatcher.jobs.values()
        deliver = job.deliver

        def deliver_and_cancel(outcome: Any) -> None:
            deliver(outcome)
            call.cancel()

        job.deliver = deliver_and_cancel
        gate.open()
        (found,) = await outcomes(call)
        assert isinstance(found, cancelled())
        now = pool.statistics()
        assert (now.done, now.cancelled, now.pending) == (1, 0, 0)
        # It was done: nobody was killed for it.
        assert await pool.run(calls.pid) == pid


async def test_broadcast_cancelled(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=2) as pool:
        busy = await begun(pool.run_on(1, calls.at, gate.ref))
        await until(lambda: gate.begun)
        second = Gate()
        call = await begun(pool.broadcast(calls.at, second.ref))
        await until(lambda: second.begun)
        call.cancel()
        await outcomes(call)
        assert call.cancelled()
        now = pool.statistics()
        assert (now.cancelled, now.abandoned, now.pending) == (2, 1, 2)
        second.open()
        gate.open()
        await busy
        assert await pool.broadcast(calls.echo, 1) == [1, 1]
        assert pool.statistics().workers[1].calls == 2


# Pools that are left


async def test_leaving_waits_for_calls(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        call = await begun(pool.run(calls.at, gate.ref, "value"))
        waits = await begun(pool.run(calls.echo, "another"))
        await until(lambda: gate.begun)
        start(_later(gate))
    assert [await call, await waits] == ["value", "another"]


async def _later(gate: Gate) -> None:
    await turns(5)
    gate.open()


async def test_leaving_by_an_error_kills(root: aiopip.Root) -> None:
    gate = Gate()
    with pytest.raises(LookupError, match="on purpose"):  # noqa: PT012  the pool is left by it
        async with root.pool(workers=1) as pool:
            pids = running_pids(pool)
            runs = await begun(pool.run(calls.at, gate.ref))
            waits = await begun(pool.run(calls.nothing))
            mapped = await begun(_all(pool.map(calls.echo, range(10))))
            await until(lambda: gate.begun)
            raise LookupError("on purpose")
    assert is_gone(pids[0])
    for found in await outcomes(runs, waits, mapped):
        assert isinstance(found, aiopip.ClosedError), found


async def _all(mapping: Any) -> list[Any]:
    return [one async for one in mapping]


async def test_cancelled_while_entering(root: aiopip.Root) -> None:
    async def enter() -> None:
        async with root.pool(workers=3):
            pytest.fail("it has been entered")

    for waits in (1, 3, 10):
        job = await begun(enter())
        await turns(waits)
        job.cancel()
        with pytest.raises(cancelled()):
            await job
        assert not [task for task in root.tasks.values() if task.status is None]


async def test_cancelled_while_leaving(root: aiopip.Root) -> None:
    gate = Gate()
    pids: list[int] = []

    async def leave() -> None:
        async with root.pool(workers=1) as pool:
            pids.extend(running_pids(pool))
            start(_ended(pool.run(calls.at, gate.ref)))
            await until(lambda: gate.begun)

    job = await begun(leave())
    await until(lambda: gate.begun)
    await turns(3)
    job.cancel()
    with pytest.raises(cancelled()):
        await job
    assert is_gone(pids[0])


async def _ended(call: Any) -> None:
    with pytest.raises(aiopip.ClosedError):
        await call


async def test_the_root_is_aborted_with_a_pool_open() -> None:
    gate = Gate()
    async with aiopip.Root() as root, root.pool(workers=2) as pool:
        call = await begun(pool.run(calls.at, gate.ref))
        await until(lambda: gate.begun)
        entering = await begun(root.pool(workers=1).__aenter__())
        root.abort()
        for found in await outcomes(call, entering):
            assert isinstance(found, aiopip.ClosedError | aiopip.WorkerDiedError), found
        with pytest.raises(aiopip.ClosedError):
            await pool.run(calls.nothing)
    with pytest.raises(aiopip.ClosedError):
        root.pool(workers=1)


async def test_the_root_is_left_with_a_pool_open() -> None:
    gate = Gate()
    async with aiopip.Root() as root:
        pool = await root.pool(workers=1).__aenter__()
        runs = await begun(pool.run(calls.at, gate.ref, "value"))
        waits = await begun(pool.run(calls.nothing))
        await until(lambda: gate.begun)
        start(_later(gate))
    assert await runs == "value"
    assert isinstance((await outcomes(waits))[0], aiopip.ClosedError)
    await pool.__aexit__(None, None, None)


def test_a_pool_whose_loop_is_closed_leaves_nothing() -> None:
    loop = asyncio.new_event_loop()
    kept: list[Any] = []

    async def main() -> None:
        root = await aiopip.Root().__aenter__()
        pool = await root.pool(workers=2).__aenter__()
        kept.extend((root, pool, pool.run(calls.pid)))
        assert await pool.run(calls.echo, 1) == 1
        kept.append(asyncio.ensure_future(pool.run(calls.at, Gate().ref)))
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()

    async def another() -> None:
        with pytest.warns(ResourceWarning, match="2 live tasks were killed"):
            async with aiopip.Root() as root, root.pool(workers=1) as pool:
                assert await pool.run(calls.echo, 1) == 1

    asyncio.run(another())
    kept[2].close()
    with contextlib.suppress(RuntimeError):
        kept[3].get_coro().close()
    kept[3]._log_destroy_pending = False
    kept.clear()
    gc.collect()
