"""this_task().root.pool(), spawn_python() and spawn_module(): interpreters that tasks ask for."""

from __future__ import annotations

import os
import random
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import loops
import pytest
from integration.asking import asking
from integration.worker import Told
from support import PROGRAMS, all_gone, children, is_gone, python_source, settled, until

import aiopip
from aiopip._named import call_named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from integration.asking import Asker

PREPARE = "import gc, pooled\nimport numpy as np"


@pytest.fixture
async def asker(root: aiopip.Root) -> AsyncIterator[Asker]:
    """A task that asks for pools."""
    async with asking(root) as asker:
        await asker.worker.do(PREPARE)
        yield asker


async def alone(root: aiopip.Root, asker: Asker) -> None:
    """Wait until of all tasks the asker is left, and of no other is any memory held."""
    # Its memory is held by those of its workers that have not gone back yet; and of what has ended
    # behind a loop it hears in a later one, which may become garbage behind a collection.
    with anyio.fail_after(20):
        while root.statistics().held or set(root.tasks) != {asker.task.pipid}:
            await asker.ask("await (await root.spawn('true')).wait()")
            await asker.worker.do("gc.collect()")
            await anyio.sleep(0.01)
    assert root.statistics().alive == 1


# Pools


async def test_calls_of_a_pool(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        async with root.pool(workers=2) as pool:
            pids = await pool.broadcast(os.getpid)
            mapped = [some async for some in pool.map(pooled.double, range(20), chunksize=3)]
            here = await pool.run_on(1, os.getpid)
            statistics = pool.statistics()
            kept = pool
        try: await pool.run(os.getpid)
        except aiopip.ClosedError: pass
        return (pids, mapped, here == pids[1], statistics.done,
                [one.pid for one in statistics.workers] == pids)
    """)
    assert found[1:] == (list(range(0, 40, 2)), True, 10, True)
    assert len(set(found[0])) == 2
    await alone(root, asker)


async def test_workers_are_the_roots_tasks(root: aiopip.Root, asker: Asker) -> None:
    asker.tell("""
        async with root.pool(workers=2) as pool:
            me.export("pids", np.array(await pool.broadcast(os.getpid)))
            await pool.run(pooled.nap)
    """)
    pids = set((await asker.task.named_import("pids")).view().tolist())
    assert pids <= children()
    assert pids <= {task.pid for task in root.tasks.values()}
    asker.task.kill()
    assert await root.wait_any() is asker.task
    await until(lambda: all_gone(pids))


async def test_arrays_in_place_in_both_directions(root: aiopip.Root, asker: Asker) -> None:
    """Beyond the end of worker and pool; until nobody has them."""
    found = await asker.ask("""
        global made
        ours = np.zeros(1_000_000, np.int64)
        async with root.pool(workers=2) as pool:
            await pool.run(pooled.fill, 7, out=ours[::2])
            made = await pool.run(pooled.squares, 1_000_000)
            text = (await pool.run(bytes, 5_000))
        return int(ours.sum()), int(made[999]), len(text)
    """)
    assert found == (3_500_000, 999**2, 5000)
    await until(lambda: root.statistics().held > 0)
    assert await asker.worker.do("int(made[-1])") == 999_999**2
    await asker.worker.do("del made\ngc.collect()")
    await alone(root, asker)


async def test_result_goes_on_to_the_root(
    root: aiopip.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a task's worker, when both have ended."""
    monkeypatch.syspath_prepend(PROGRAMS)
    task: aiopip.PythonTask[Any] = await root.spawn_python(
        "pooled:squares_of_another", loops.running().backend
    )
    result = await task.result()
    assert result[9] == 81
    assert await task.wait() == 0
    await until(lambda: root.statistics().alive == 0)
    assert result.sum() == sum(number**2 for number in range(100_000))
    del result, task  # which has it, too
    await settled(root)


async def test_errors_come_back(asker: Asker) -> None:
    with pytest.raises(Told, match=r"LookupError: not there"):
        await asker.ask("""
            async with root.pool(workers=1) as pool:
                await pool.run(pooled.fail, "not there")
        """)
    with pytest.raises(Told, match=r"LookupError: at the start"):
        await asker.ask("""
            async with root.pool(workers=2, initializer=pooled.fail, initargs=("at the start",)):
                pass
        """)
    with pytest.raises(Told, match=r"NotPicklableError"):
        await asker.ask("""
            async with root.pool(workers=1) as pool:
                await pool.run(len, threading.Lock())
        """)
    with pytest.raises(Told, match=r"InvalidArgumentError: workers"):
        await asker.ask("root.pool(workers=0)")


async def test_worker_that_dies_is_replaced(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        async with root.pool(workers=2) as pool:
            try: await pool.run(os.kill, 0, 0) or await pool.run_on(0, os.abort)
            except aiopip.WorkerDiedError as error: told = int(error.signal), error.worker
            pids = await pool.broadcast(os.getpid)
            again = await pool.broadcast(os.getpid)
            return told, pids == again, [one.ended for one in pool.statistics().workers]
    """)
    assert found == ((6, 0), True, [1, 0])
    await alone(root, asker)


async def test_call_that_is_cancelled_kills_its_worker(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        async with root.pool(workers=1, on_cancel="kill") as pool:
            first = await pool.run(os.getpid)
            with anyio.move_on_after(0.02):
                await pool.run(pooled.nap)
            return first != await pool.run(os.getpid)
    """)
    assert found
    await alone(root, asker)


async def test_pools_in_one_loop_after_the_other(root: aiopip.Root, asker: Asker) -> None:
    body = """
        async with root.pool(workers=1) as pool:
            found = await pool.run(pooled.double, 21)
        del pool
        gc.collect()
        return found, len(os.listdir("/proc/self/fd"))
    """
    first = await asker.ask(body)
    assert first[0] == 42
    for _ in range(3):
        found, descriptors = await asker.ask(body)
        assert found == 42
        assert descriptors < first[1] + 3  # two come and go with garbage
    await alone(root, asker)


async def test_many_pools_at_once(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        found = []
        async def one(number):
            async with root.pool(workers=1) as pool:
                found.append(await pool.run(pooled.double, number))
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(one, number)
        return sorted(found)
    """)
    assert found == [0, 2, 4, 6, 8, 10]
    await alone(root, asker)


async def test_more_workers_than_are_asked_for_at_once(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        from aiopip import _remote
        _remote.AT_ONCE = 2
        async with root.pool(workers=8) as pool:
            return len(set(await pool.broadcast(os.getpid)))
    """)
    assert found == 8
    await alone(root, asker)


async def test_three_levels_deep(root: aiopip.Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's function opens a pool, whose worker's function opens a pool."""
    monkeypatch.syspath_prepend(PROGRAMS)
    async with root.pool(workers=1) as pool:
        pids = await pool.run(call_named, "pooled", "tower", 3, loops.running().backend)
        assert len(set(pids)) == 4
        await until(lambda: all_gone(pids[1:]))
    assert is_gone(pids[0])


async def test_no_room_for_a_worker() -> None:
    async with aiopip.Root(max_tasks=3, grace_s=0.2) as root, asking(root) as asker:
        with pytest.raises(Told, match=r"SlotBusyError"):
            await asker.ask("async with root.pool(workers=4): pass")
        await until(lambda: set(root.tasks) == {asker.task.pipid})
        found = "async with root.pool(workers=2) as pool: return await pool.run(len, 'ab')"
        assert await asker.ask(found) == 2


async def test_root_that_cannot_be_asked(root: aiopip.Root, asker: Asker) -> None:
    path = root._core.listing.path  # type: ignore[union-attr]
    assert path is not None
    path.unlink()
    with pytest.raises(Told, match=r"CallError: .*by its socket .*removed"):
        await asker.ask("root.pool(workers=1)")
    with pytest.raises(Told, match=r"RuntimeError|AsyncLibraryNotFound"):
        await asker.worker.do("root.pool(workers=1)")


async def test_forked_child(asker: Asker) -> None:
    found = await asker.ask("""
        async with root.pool(workers=1) as pool:
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                told = []
                for use in (lambda: root.pool(), lambda: root.spawn_python(len, "").send(None),
                            lambda: root.spawn_module("this").send(None)):
                    try: use()
                    except BaseException as error: told.append(type(error).__name__)
                os.write(writer, " ".join(told).encode())
                os._exit(0)
            os.waitpid(child, 0)
            return os.read(reader, 1000).decode().split(), await pool.run(pooled.double, 2)
    """)
    assert found == (["ForkedError"] * 3, 4)


# Functions in tasks of their own


async def test_functions_in_tasks(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        global made
        tasks = [await root.spawn_python(pooled.squares, 100_000),
                 await root.spawn_python("pooled:double", 4),
                 await root.spawn_python(pooled.fail, "found")]
        made = await tasks[0].result()
        try: await tasks[2].result()
        except LookupError as error: told = str(error), type(error.__cause__).__name__
        again = [await tasks[1].result(), await tasks[1].result()]
        statuses = [int(await task.wait()) for task in tasks]
        return (int(made[9]), again, told, statuses, tasks[0].name,
                isinstance(tasks[0], aiopip.RemoteTask), type(tasks[0]).__name__)
    """)
    assert found == (
        81, [8, 8], ("found", "RemoteTraceback"), [0, 0, 1], "squares", True, "RemotePythonTask",
    )  # fmt: skip
    assert await asker.worker.do("int(made.sum())") == sum(one**2 for one in range(100_000))
    await asker.worker.do("del made\ngc.collect()")
    await alone(root, asker)


async def test_functions_that_do_not_end_well(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        killed = await root.spawn_python(pooled.nap)
        killed.kill()
        left = await root.spawn_python(sys.exit, 3)
        told = []
        for task in (killed, left):
            try: await task.result()
            except aiopip.TaskFailed as error: told.append(int(error.status))
        for call in ((len, threading.Lock()), ("no name",), ("pooled:double:", 1)):
            try: await root.spawn_python(*call)
            except Exception as error: told.append(type(error).__name__)
        good = await root.spawn_python(pooled.double, 1)
        return told, int(await left.wait()), await good.result()
    """)
    assert found == (
        [-9, 3, "NotPicklableError", "InvalidArgumentError", "InvalidArgumentError"], 3, 2,
    )  # fmt: skip


async def test_dropped_function_is_collected(root: aiopip.Root, asker: Asker) -> None:
    """Its result lies in memory that has to be there when it is looked at."""
    await asker.ask("""
        for _ in range(3):
            task = await root.spawn_python(pooled.squares, 100_000)
            del task
        task = await root.spawn_python(pooled.squares, 100_000)
        while task.status is None:
            await anyio.sleep(0.001)
    """)
    await alone(root, asker)


async def test_result_in_another_loop(root: aiopip.Root, asker: Asker) -> None:
    await asker.ask("global task; task = await root.spawn_python(pooled.nap)")
    with pytest.raises(Told, match=r"ClosedError|WrongThreadError"):
        await asker.ask("await task.result()")
    root.kill_all(signal.SIGKILL)


async def test_module(root: aiopip.Root, asker: Asker) -> None:
    found = await asker.ask("""
        task = await root.spawn_module("json.tool", stdin=PIPE, stdout=PIPE)
        await task.stdin.send(b"[1]")
        await task.stdin.aclose()
        text = b"".join([some async for some in task.stdout])
        missing = await root.spawn_module("no_such_module", stderr=PIPE)
        return text.split(), int(await task.wait()), int(await missing.wait())
    """)
    assert found == ([b"[", b"1", b"]"], 0, 1)
    await alone(root, asker)


# Cancellation


async def test_cancelled_while_the_workers_start(root: aiopip.Root, asker: Asker) -> None:
    """Wherever it comes, no worker is left when the cancellation leaves."""
    for delay_ms in (0, 1, 3, 6, 12, 25, 40):
        left = await asker.ask(f"""
            with anyio.move_on_after({delay_ms / 1000}):
                async with root.pool(workers=3) as pool:
                    await pool.run(pooled.nap)
            gc.collect()
            return len(os.listdir("/proc/self/fd"))
        """)
        assert left < 25  # the loop's own, and those of garbage
        assert set(root.tasks) == {asker.task.pipid}
    await alone(root, asker)


async def test_cancelled_while_a_function_starts(root: aiopip.Root, asker: Asker) -> None:
    for turns in (0, 1, 2, 3, 5, 8, 20):
        await asker.ask(f"""
            async with anyio.create_task_group() as group:
                async def start():
                    task = await root.spawn_python(pooled.squares, 10_000)
                    await task.aclose()
                group.start_soon(start)
                for _ in range({turns}):
                    await anyio.sleep(0)
                group.cancel_scope.cancel()
        """)
        await alone(root, asker)
    # Cancelled, behind a pause in which the function has ended: its memory may be gone.
    await asker.ask("""
        for _ in range(3):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(root.spawn_python, pooled.squares, 10_000)
                    for _ in range(2):
                        await anyio.sleep(0)
                    time.sleep(0.15)
                    scope.cancel()
    """)
    await alone(root, asker)


# Ends


async def kill_under_load(root: aiopip.Root, delay_s: float) -> None:
    """Start a task that has a pool, and kill it while that works; its own come to their ends."""
    async with asking(root) as asker:
        await asker.worker.do(PREPARE)
        asker.tell("""
            task = await root.spawn_python(pooled.squares, 100_000)
            async with root.pool(workers=2) as pool:
                while True:
                    async for one in pool.map(pooled.squares, [10, 100_000] * 20):
                        kept = one
        """)
        await anyio.sleep(delay_s)
        asker.task.kill()
        await asker.task.wait()
    await until(lambda: not root.tasks, "all that it had asked for has ended")


async def test_asker_killed_under_load(root: aiopip.Root) -> None:
    """At any moment: its workers go with it, and nothing of anybody's is left."""
    moments = random.Random(17)
    for _ in range(8):
        await kill_under_load(root, moments.uniform(0, 0.12))
    await settled(root)


async def test_function_goes_on_without_who_asked(root: aiopip.Root, tmp_path: Path) -> None:
    """With the memory of the one that was killed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with asking(root) as asker:
        await asker.worker.do(PREPARE)
        await asker.ask(f"""
            global kept
            array = np.full(1_000_000, 3)
            kept = await root.spawn_python(pooled.tell, {str(fifo)!r}, array)
        """)
        (other,) = set(root.tasks.values()) - {asker.task}
        # It has all that it needs of the asker as soon as it waits for the reader.
        await until(fifo.with_suffix(".there").exists)
        asker.task.kill()
        await asker.task.wait()
        await until(lambda: not root.statistics().reclaiming)
        text = await anyio.to_thread.run_sync(fifo.read_text)
    assert text == f"3000000 {other.pid}"
    await until(lambda: not root.tasks)
    await settled(root)


async def test_worker_that_comes_too_late(root: aiopip.Root, asker: Asker) -> None:
    """Its owner has ended: it does not take another's queue for that of its own."""
    found = await asker.ask("""
        from aiopip._ffi_calls import Calls
        calls, generation = Calls(), me.peer.generation(me.pipid)
        calls.add_worker()
        line = "from aiopip._calls import Source; Source({}, 0, {}, ({}, {}))"
        told = []
        for owner in (generation, generation + 1):
            source = line.format(calls.address, calls.fd, me.pipid, owner)
            task = await root.spawn(
                sys.executable, "-c", source, pass_fds=[calls.fd], stderr=PIPE, cwd="/"
            )
            said = b"".join([some async for some in task.stderr])
            told.append((int(await task.wait()), said.decode().strip().rpartition("\\n")[2]))
        return told
    """)
    assert found == [(0, ""), (1, "OSError: [Errno 125] the owner of the pool has ended")]


async def test_loop_that_ends_with_a_pool_open(root: aiopip.Root, asker: Asker) -> None:
    """The next one that asks has its workers killed before it goes on."""
    first = await asker.ask("""
        global pool
        pool = root.pool(workers=2)
        await pool.__aenter__()
        return await pool.broadcast(os.getpid), len(os.listdir("/proc/self/fd"))
    """)
    assert not any(map(is_gone, first[0]))
    found = await asker.ask(f"""
        task = await root.spawn("true")
        gone = [not os.path.exists(f"/proc/{{pid}}/exe") for pid in {first[0]}]
        del globals()["pool"]
        await task.wait()
        gc.collect()
        return gone, len(os.listdir("/proc/self/fd"))
    """)
    assert found[1] < first[1]
    await until(lambda: all_gone(first[0]))
    await alone(root, asker)


async def test_interpreter_waits_for_its_functions(root: aiopip.Root) -> None:
    """They read its memory; and what is in a pool ends with it."""
    source = f"""
        import anyio, os, sys, time
        sys.path.append({str(PROGRAMS)!r})
        import aiopip, pooled
        root = aiopip.this_task().root
        async def main():
            global pool, task
            import numpy as np
            task = await root.spawn_python(os.system, "sleep 0.3; echo function")
            pool = root.pool(workers=1)
            await pool.__aenter__()
            print(await pool.run(pooled.double, 1), flush=True)
        anyio.run(main, backend={loops.running().backend!r})
    """
    reader, writer = os.pipe()
    task = await root.spawn(*python_source(source), stdout=writer, stderr=writer, cwd="/")
    os.close(writer)
    assert await task.wait() == 0
    with open(reader) as said:  # noqa: ASYNC230, PTH123  all who could write have ended
        assert sorted(said.read().split()) == ["2", "function"]
    await until(lambda: not root.tasks)


async def test_root_is_left_with_a_pool_open(tmp_path: Path) -> None:
    """Its calls fail, and nobody hangs."""
    result = tmp_path / "result"
    body = f"""
        signal.signal(signal.SIGTERM, lambda *_: None)
        told = []
        try:
            async with root.pool(workers=2) as pool:
                me.export("open", b"")
                for _ in range(3):
                    try: await pool.run(pooled.nap)
                    except (aiopip.WorkerDiedError, aiopip.ClosedError) as error:
                        told.append(type(error).__name__)
        finally:
            with open({str(result)!r}, "w") as file:
                file.write(told[-1])
            os._exit(0)
    """
    stack = AsyncExitStack()

    async def run() -> None:
        async with aiopip.Root(grace_s=20) as root:
            asker = await stack.enter_async_context(asking(root))
            await asker.worker.do(PREPARE)
            asker.tell(body)
            await asker.task.named_import("open")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run()
    await stack.aclose()
    assert result.read_text() == "ClosedError"


async def test_interrupted_from_the_keyboard(root: aiopip.Root) -> None:
    source = f"""
        import anyio, os, sys, signal
        sys.path.append({str(PROGRAMS)!r})
        import aiopip, pooled
        async def main():
            async with aiopip.this_task().root.pool(workers=2) as pool:
                aiopip.this_task().export("open", b"")
                await pool.run(pooled.nap)
        try: anyio.run(main, backend={loops.running().backend!r})
        except KeyboardInterrupt: print("interrupted")
    """
    reader, writer = os.pipe()
    task = await root.spawn(*python_source(source), stdout=writer, stderr=writer, cwd="/")
    os.close(writer)
    await task.named_import("open")
    root.kill_all(signal.SIGINT)  # as a terminal does
    assert await task.wait() == 0
    with open(reader) as said:  # noqa: ASYNC230, PTH123  likewise
        assert said.read() == "interrupted\n"
    await until(lambda: not root.tasks)


async def test_executor_is_refused_in_a_task(asker: Asker) -> None:
    with pytest.raises(Told, match=r"NotPermittedError"):
        await asker.worker.do("aiopip.PoolExecutor(1).submit(len, '').result()")
