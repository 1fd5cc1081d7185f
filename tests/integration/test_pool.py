"""Root.pool(): functions run in workers, and what they raise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
from integration import calls, contexts
from integration.calls import Gate
from integration.pools import running_pids
from jobs import begun, gather, outcomes, start, turns
from loops import IN_SCRIPT, IN_SCRIPTS
from support import all_gone, block_until, check_in_fork, python_source, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path


# What runs, and where


async def test_values_and_arguments(root: aiopip.Root) -> None:
    async with root.pool(workers=2) as pool:
        assert await pool.run(sum, [1, 2, 3]) == 6
        assert await pool.run(dict, a=1, b="two") == {"a": 1, "b": "two"}
        assert await pool.run(int, "ff", base=16) == 255
        # Small ones lie in the queue, larger ones in the worker's memory until they were read.
        for size in (0, 400, 600, 100_000, 10_000_000):
            assert await pool.run(calls.large, size) == b"x" * size
        pids = set(await gather(*(pool.run(calls.pid) for _ in range(20))))
        assert pids <= set(running_pids(pool))
        assert os.getpid() not in pids
    assert repr(pool) == "<aiopip.Pool closed workers=2 pending=0>"


async def test_what_cannot_be_called(root: aiopip.Root) -> None:
    name: Any = "math:hypot"  # which spawn_python takes
    async with root.pool(workers=1) as pool:
        with pytest.raises(aiopip.InvalidArgumentError, match="'math:hypot' cannot be called"):
            await pool.run(name, 3.0, 4.0)
        with pytest.raises(aiopip.InvalidArgumentError, match="None cannot be called"):
            pool.map(None, [1])  # type: ignore[arg-type]
        for call in (pool.run, pool.broadcast, root.spawn_python):
            with pytest.raises(aiopip.InvalidArgumentError, match=r"waits.* is async, .*plain"):
                await call(calls.waits)
        with pytest.raises(aiopip.InvalidArgumentError, match="is async"):
            pool.map(calls.waits, [1])


async def test_run_on_and_broadcast(root: aiopip.Root) -> None:
    async with root.pool(workers=3) as pool:
        pids = await pool.broadcast(calls.pid)
        assert pids == running_pids(pool)
        assert [await pool.run_on(one, calls.pid) for one in (2, 0, 1)] == [
            pids[2],
            pids[0],
            pids[1],
        ]
        with pytest.raises(aiopip.InvalidArgumentError, match="3 is not within 0 and 2"):
            await pool.run_on(3, calls.pid)
        with pytest.raises(ValueError, match="7 is bad"):
            await pool.broadcast(calls.fail_for, 7, 7)


async def test_run_on_waits_behind_what_runs_there(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=2) as pool:
        first = await begun(pool.run_on(0, calls.at, gate.ref, "first"))
        await until(lambda: gate.begun)
        second = await begun(pool.run_on(0, calls.echo, "second"))
        assert await pool.run_on(1, calls.echo, "elsewhere") == "elsewhere"
        assert not second.done()
        gate.open()
        assert [await first, await second] == ["first", "second"]


async def test_initializer_runs_once_in_each_worker(root: aiopip.Root) -> None:
    async with root.pool(workers=2, initializer=calls.set_up, initargs=([1],)) as pool:
        assert await pool.broadcast(calls.what_is_set_up) == [[1], [1]]


async def test_max_calls_per_worker(root: aiopip.Root) -> None:
    async with root.pool(workers=1, max_calls_per_worker=2) as pool:
        pids = [await pool.run(calls.pid) for _ in range(5)]
        assert len(set(pids)) == 3
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
        assert pool.statistics().workers[0].ended == 2


async def test_processors(root: aiopip.Root) -> None:
    one = min(os.sched_getaffinity(0))
    async with root.pool(workers=2, cpu=one) as pool:
        assert await pool.broadcast(calls.processors) == [{one}] * 2
    all_of_them = sorted(os.sched_getaffinity(0))
    sets = [{all_of_them[0]}, all_of_them]
    async with root.pool(workers=3, cpu=sets) as pool:
        wanted = [{all_of_them[0]}, set(all_of_them), {all_of_them[0]}]
        assert await pool.broadcast(calls.processors) == wanted


OUT_OF_RANGE: list[tuple[dict[str, Any], str]] = [
    ({"workers": 0}, "workers: 0 is less than 1"),
    ({"max_pending": 0}, "max_pending: 0 is less than 1"),
    ({"max_calls_per_worker": -1}, "max_calls_per_worker: -1 is less than 1"),
    ({"on_cancel": "wait"}, "'wait' is neither 'abandon' nor 'kill'"),
    ({"cpu": []}, "no processor is left"),
    ({"cpu": [{0}, set()]}, "no processor is left"),
    ({"cpu": -1}, "-1"),
    ({"cpu": 1 << 20}, "1048576"),
]


async def test_arguments_out_of_range(root: aiopip.Root) -> None:
    for arguments, what in OUT_OF_RANGE:
        with pytest.raises(aiopip.InvalidArgumentError, match=what):
            root.pool(**arguments)


async def test_statistics(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1) as pool:
        assert await pool.run(calls.echo, 1) == 1
        with pytest.raises(LookupError):
            await pool.run(calls.fail, "on purpose")
        under_way = await begun(pool.run(calls.at, gate.ref))
        waits = await begun(pool.run(calls.echo, 2))
        await until(lambda: gate.begun)
        now = pool.statistics()
        assert (now.pending, now.done, now.failed, now.cancelled) == (2, 1, 1, 0)
        waits.cancel()
        under_way.cancel()
        await outcomes(waits, under_way)
        now = pool.statistics()
        assert (now.pending, now.abandoned, now.cancelled) == (1, 1, 2)
        gate.open()
        await until(lambda: pool.statistics().pending == 0)
        (worker,) = pool.statistics().workers
        assert (worker.calls, worker.ready, worker.ended) == (3, True, 0)
        assert worker.busy_ns > 0
        assert worker.pid == running_pids(pool)[0]
        assert root.tasks[worker.pipid].name == "aiopip-worker"  # type: ignore[index]


async def test_max_pending(root: aiopip.Root) -> None:
    gate = Gate()
    async with root.pool(workers=1, max_pending=2) as pool:
        first = await begun(pool.run(calls.at, gate.ref, 0))
        others = [await begun(pool.run(calls.echo, number)) for number in (1, 2, 3, 4)]
        await until(lambda: gate.begun)
        assert len(pool._dispatcher) == 2
        assert pool.statistics().pending == 5
        # One that waits for room, and is cancelled, has had none.
        others[2].cancel()
        await turns(2)
        gate.open()
        most = 0
        while not others[3].done():
            most = max(most, len(pool._dispatcher))
            await turns(1)
        assert most <= 2
        assert [await first, await others[0], await others[1], await others[3]] == [0, 1, 2, 4]
        assert (await outcomes(others[2]))[0].__class__ is not int


# Errors


async def test_error_has_the_traceback_in_the_worker(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        with pytest.raises(LookupError, match="on purpose") as caught:
            await pool.run(calls.fail, "on purpose")
    cause = caught.value.__cause__
    assert isinstance(cause, aiopip.RemoteTraceback)
    assert "in fail\n    raise LookupError(text) from error" in cause.tb
    assert "KeyError: 'BEHIND IT'" in cause.tb
    assert "_worker.py" not in cause.tb


async def test_what_is_no_exception_neither_ends_nor_cancels(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        for kind in ("SystemExit", "KeyboardInterrupt", "CancelledError", "GeneratorExit"):
            with pytest.raises(aiopip.RemoteError, match=kind) as caught:
                await pool.run(calls.raise_one, kind)
            assert caught.value.type_name.endswith(kind)
            assert "in raise_one" in str(caught.value.__cause__)
            with pytest.raises(aiopip.RemoteError, match=kind):
                _ = [one async for one in pool.map(calls.raise_one, [kind] * 2, chunksize=2)]
        assert await pool.run(calls.echo, "alive") == "alive"
        assert pool.statistics().workers[0].ended == 0


async def test_errors_that_do_not_travel(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        for function, what in (
            (calls.raise_unpicklable, "integration.calls.Unpicklable: with a lock"),
            (calls.raise_unreadable, "integration.calls.Unreadable: one two"),
            (calls.raise_readable_there, r"ReadableThere.*of a worker.*not in this process"),
        ):
            with pytest.raises(aiopip.RemoteError, match=what) as caught:
                await pool.run(function)
            assert f"in {function.__name__}" in str(caught.value.__cause__)


async def test_what_does_not_pickle_is_named(root: aiopip.Root) -> None:
    lock = threading.Lock()
    async with root.pool(workers=1) as pool:
        with pytest.raises(aiopip.NotPicklableError, match=r"echo: argument 1 \('value'\), a _thr"):
            await pool.run(calls.echo, lock)
        with pytest.raises(aiopip.NotPicklableError, match=r"argument 'lock', a _thread.lock"):
            await pool.run(calls.nothing, 1, lock=lock)
        with pytest.raises(aiopip.NotPicklableError, match=r"return_a_lock: its result, a _thread"):
            await pool.run(calls.return_a_lock)
        for argument, way_out in (
            ("coroutine", r"its result, a coroutine, .*; a worker calls plain functions"),
            ("generator", r"its result, a generator, .*; return a list"),
            ("socket", r"its result, a socket.socket, .*; return what it is made of"),
        ):
            with pytest.raises(aiopip.NotPicklableError, match=way_out):
                await pool.run(calls.return_unpicklable, argument)
        assert pool.statistics().pending == 0
    with pytest.raises(aiopip.NotPicklableError, match="argument 1"):
        root.pool(workers=1, initializer=calls.set_up, initargs=(lock,))


async def test_results_that_cannot_be_read_here(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        with pytest.raises(ValueError, match="as it is read"):
            await pool.run(calls.unreadable_result, "ValueError")
        assert await pool.run(calls.echo, 1) == 1


async def test_lambdas_and_closures(root: aiopip.Root) -> None:
    pytest.importorskip("cloudpickle")
    number = 3
    async with root.pool(workers=1) as pool:
        assert await pool.run(lambda x: x * number, 2) == 6


# What functions do in workers


async def test_much_on_stderr(root: aiopip.Root, capfd: pytest.CaptureFixture[str]) -> None:
    async with root.pool(workers=1) as pool:
        assert await pool.run(calls.print_much, 300_000) == 300_000
    assert len(capfd.readouterr().err) == 300_001


async def test_forks_threads_and_folders(root: aiopip.Root, tmp_path: Path) -> None:
    before = os.getcwd()  # noqa: PTH109
    async with root.pool(workers=1) as pool:
        # Its child comes back from the function, too, and is no second worker.
        assert await pool.run(calls.fork_and_return) == "parent"
        assert await pool.run(calls.move_to, str(tmp_path)) == str(tmp_path)
        assert await pool.run(calls.start_thread) >= 1
        assert await pool.run(calls.pid) == running_pids(pool)[0]
        assert os.getcwd() == before  # noqa: PTH109


async def test_a_worker_that_closes_its_descriptors(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        # What it needs to tell is gone: its end tells.
        assert await pool.run(calls.close_all) == "closed"
        assert await pool.run(calls.echo, 1) == 1


async def test_a_worker_asks_the_root_for_a_task(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:
        assert await pool.run(calls.spawn_and_wait, "sh", "-c", "exit 3") == 3


# Context variables


async def test_context_variables_are_the_callers(root: aiopip.Root) -> None:
    seen = []

    def numbers() -> Any:
        for number in range(3):
            seen.append(contexts.WHO.get())
            yield number

    async def one(name: str) -> str:
        contexts.WHO.set(name)
        found = await pool.run(calls.aware)
        assert contexts.WHO.get() == name
        async for _ in pool.map(calls.echo, numbers(), buffer=1):
            assert contexts.WHO.get() == name
        return str(found.seen)

    async with root.pool(workers=1) as pool:
        assert await gather(*(start(one(name)) for name in "ab")) == ["a", "b"]
        assert sorted(seen) == ["a"] * 3 + ["b"] * 3
        assert contexts.WHO.get("none") == "none"


# Where it cannot be used


async def test_pools_that_are_not_open(root: aiopip.Root) -> None:
    pool = root.pool(workers=1)
    with pytest.raises(aiopip.ClosedError, match="not entered yet"):
        await pool.run(calls.nothing)
    async with pool:
        with pytest.raises(aiopip.ClosedError, match="entered before"):
            await pool.__aenter__()
        left = pool.map(calls.echo, range(3))
    with pytest.raises(aiopip.ClosedError, match="the pool is closed"):
        await pool.run(calls.nothing)
    with pytest.raises(aiopip.ClosedError, match="the pool is closed"):
        await pool.broadcast(calls.nothing)
    with pytest.raises(aiopip.ClosedError, match="the pool is closed"):
        await left.__anext__()
    with pytest.raises(aiopip.ClosedError, match="entered before"):
        await pool.__aenter__()


async def test_in_a_forked_child_and_another_thread(root: aiopip.Root) -> None:
    async with root.pool(workers=1) as pool:

        def drive(coroutine: Any) -> None:
            try:
                coroutine.send(None)
            finally:
                coroutine.close()

        def check() -> None:
            with pytest.raises(aiopip.ForkedError):
                drive(pool.run(calls.nothing))

        check_in_fork(check)
        found: list[type[BaseException]] = []

        def elsewhere() -> None:
            try:
                drive(pool.run(calls.nothing))
            except aiopip.AiopipError as error:
                found.append(type(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await until(lambda: not thread.is_alive())
        assert found == [aiopip.WrongThreadError]
        assert await pool.run(calls.echo, 1) == 1


def run_script(script: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(script)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


GUARDS = {
    "Root": "async with aiopip.Root() as root, root.pool(workers=1): pass",
    "pool": "async with aiopip.Root() as root:\n            async with root.pool(workers=1): pass",
    "spawn_python": """async with aiopip.Root() as root:
            task = await root.spawn_python(double, 2)
            await task.result()""",
    "spawn_python, built in": """async with aiopip.Root() as root:
            task = await root.spawn_python(abs, 2)
            await task.result()""",
    "submit": "with aiopip.PoolExecutor(1) as pool: pool.submit(double, 2).result()",
    "map": "with aiopip.PoolExecutor(1) as pool: list(pool.map(double, [2], chunksize=2))",
    "map, built in": "with aiopip.PoolExecutor(1) as pool: list(pool.map(abs, [2]))",
}


@pytest.mark.parametrize("what", GUARDS)
def test_a_main_module_without_its_guard(what: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(f"""
    import asyncio, aiopip
    def double(number): return 2 * number
    async def main():
        {GUARDS[what]}
    asyncio.run(main())
    """)
    )
    done = run_script(script)
    assert done.returncode == 1, done
    assert "NotPermittedError" in done.stderr
    assert 'behind if __name__ == "__main__":' in done.stderr


@pytest.mark.parametrize("raises", ["ValueError('mine')", "SystemExit(3)", "KeyboardInterrupt"])
def test_a_main_module_that_raises_in_a_task(raises: str, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(f"""
    import asyncio, aiopip
    if __name__ != "__main__":
        raise {raises}
    async def main():
        async with aiopip.Root() as root:
            task = await root.spawn_python(abs, -2)
            try:
                await task.result()
            except Exception as error:
                print(type(error).__name__, await task.wait())
    asyncio.run(main())
    """)
    )
    name = "ValueError" if raises.startswith("ValueError") else "RemoteError"
    done = run_script(script)
    assert (done.returncode, done.stdout) == (0, f"{name} 1\n"), done


def test_functions_of_the_main_module(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent("""
    import asyncio, os, aiopip
    class Point:
        def __init__(self, x): self.x = x
    def double(point):
        assert __name__ == "__mp_main__", __name__
        return Point(point.x * 2)
    async def main():
        async with aiopip.Root() as root:
            async with root.pool(workers=1) as pool:
                found = await pool.run(double, Point(4))
                assert type(found) is Point
                print(found.x)
            task = await root.spawn_python(double, Point(5))
            print((await task.result()).x)
    if __name__ == "__main__":
        asyncio.run(main())
    """)
    )
    done = run_script(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n10\n", ""), done


INTERRUPTED = """
    import aiopip, os, signal, time
    async def main():
        try:
            async with aiopip.Root(grace_s=0.1) as root:
                async with root.pool(workers=2) as pool:
                    pids = await pool.broadcast(os.getpid)
                    task = await root.spawn_python(time.sleep, 100)
                    print(*pids, task.pid, flush=True)
                    await pool.run(time.sleep, 100)
        finally:
            print("left", flush=True)
    try:
        run(main)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", flush=True)
"""


@pytest.mark.parametrize("kind", IN_SCRIPTS)
def test_keyboard_interrupt_leaves_no_task(kind: str) -> None:
    line = [*python_source(textwrap.dedent(IN_SCRIPT) + textwrap.dedent(INTERRUPTED)), kind]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as script:
        assert script.stdout is not None
        try:
            pids = [int(one) for one in script.stdout.readline().split()]
            assert len(pids) == 3
            # The whole group, as a terminal does it: workers leave Ctrl-C to the root.
            os.killpg(script.pid, signal.SIGINT)
            assert script.stdout.read() == "left\nKeyboardInterrupt\n"
            assert script.wait() == 0
        except BaseException:
            script.kill()  # or the block would wait for it
            raise
    block_until(lambda: all_gone(pids), "the workers end")
