"""aiopip.Lock: among tasks in Python and C and their root, in coroutines and threads."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from integration.worker import Told, work
from jobs import cancelled, gather, start, turns
from loops import ABOUT_TO_GO_ON, only, run_in_thread_loop
from support import block_until, check_in_fork, run_python, until

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs

LOCK = """
me = aiopip.this_task()
lock = aiopip.Lock(me.named_import_sync(me.root, "lock"))
counter = me.named_import_sync(me.root, "counter").view()
def count(times):
    for _ in range(times):
        with lock:
            counter[0] += 1
"""


@pytest.fixture(scope="session")
def in_c(pip_program: Programs) -> Path:
    return pip_program("lock")


@pytest.fixture
def lock(root: aiopip.Root) -> aiopip.Lock:
    """A lock that the root exports, and a counter."""
    lock = aiopip.Lock()
    root.export("lock", lock)
    root.export("counter", counter)
    counter[0] = 0
    return lock


counter = memoryview(bytearray(8)).cast("l")


def is_wanted_now(lock: aiopip.Lock) -> bool:
    """Whether somebody sleeps on the lock: it has set the bit for that."""
    return bool(lock.memory[3] & 0x80)


async def is_wanted(lock: aiopip.Lock) -> None:
    """Wait until somebody sleeps on the lock."""
    await until(lambda: is_wanted_now(lock), "somebody waits for the lock")


# Exclusion


async def test_tasks_in_python_and_c_and_the_root_exclude_each_other(
    root: aiopip.Root, lock: aiopip.Lock, in_c: Path
) -> None:
    async with work(root, LOCK) as one, work(root, LOCK) as other:
        tasks = [await root.spawn(in_c, "count", "3000") for _ in range(2)]
        one.tell("count(500)")
        other.tell("count(500)")
        for _ in range(100):
            async with lock:
                counter[0] += 1
        thread = anyio.to_thread.run_sync(count, lock, 100)
        await gather(thread, *[count_async(lock, 20) for _ in range(5)])
        assert [await task.wait() for task in tasks] == [0, 0]
        assert [await one.answer(), await other.answer()] == [None, None]
    assert counter[0] == 6000 + 1000 + 100 + 100 + 100
    assert not lock.locked
    assert bytes(lock.memory) == bytes(64)


def count(lock: aiopip.Lock, times: int) -> None:
    for _ in range(times):
        with lock:
            counter[0] += 1


async def count_async(lock: aiopip.Lock, times: int) -> None:
    for _ in range(times):
        async with lock:
            before = counter[0]
            await turns(1)
            counter[0] = before + 1


async def test_waiting_does_not_block_the_loop(root: aiopip.Root, lock: aiopip.Lock) -> None:
    async with work(root, LOCK) as worker:
        await worker.do("lock.acquire_sync()")
        assert lock.locked
        acquiring = start(lock.acquire())
        await is_wanted(lock)
        await turns(10)
        assert not acquiring.done()
        await worker.do("lock.release()")
        await acquiring
        assert await worker.do("lock.locked") is True
        lock.release()
        assert await worker.do("lock.locked") is False


async def test_many_coroutines_wait_in_two_loops(root: aiopip.Root, lock: aiopip.Lock) -> None:
    async def both() -> None:
        await gather(*[count_async(lock, 10) for _ in range(20)])

    lock.acquire_nowait()
    runs = [start(run_in_thread_loop(both)) for _ in range(2)]
    mine = start(both())
    await is_wanted(lock)
    lock.release()
    await gather(mine, *runs)
    assert counter[0] == 600
    await until(lambda: "aiopip-waiter" not in [one.name for one in threading.enumerate()])


async def test_several_waiters_all_get_it(root: aiopip.Root, lock: aiopip.Lock, in_c: Path) -> None:
    lock.acquire_nowait()
    async with work(root, LOCK) as one, work(root, LOCK) as other:
        task = await root.spawn(in_c, "count", "1")
        one.tell("count(1)")
        other.tell("async with lock: counter[0] += 1")
        await is_wanted(lock)
        assert counter[0] == 0
        lock.release()
        assert await task.wait() == 0
        await one.answer()
        await other.answer()
    assert counter[0] == 3


# Not to be had


async def test_nowait_and_times(root: aiopip.Root, lock: aiopip.Lock, in_c: Path) -> None:
    async with work(root, LOCK) as worker:
        await worker.do("lock.acquire_nowait()")
        with pytest.raises(aiopip.WouldBlock, match=r"aiopip\.Lock .*somebody else's"):
            lock.acquire_nowait()
        assert not is_wanted_now(lock)  # its owner has nobody to wake
        for timeout_s in (0, -1, 0.01):
            with pytest.raises(TimeoutError, match="was not released within"):
                lock.acquire_sync(timeout_s)
        with pytest.raises(aiopip.InvalidArgumentError, match="timeout_s"):
            lock.acquire_sync(float("nan"))
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await lock.acquire()
        assert await (await root.spawn(in_c, "try")).wait() == errno.EBUSY
        assert await (await root.spawn(in_c, "wait", "10")).wait() == errno.ETIMEDOUT
        await worker.do("lock.release()")
        lock.acquire_sync(0)
        lock.release()


async def test_only_its_owner_releases(root: aiopip.Root, lock: aiopip.Lock, in_c: Path) -> None:
    async with work(root, LOCK) as worker:
        for give in (lock.release, lock.recover):
            with pytest.raises(aiopip.NotPermittedError, match="not this process's"):
                give()
        lock.acquire_nowait()
        for source in ("lock.release()", "lock.recover()"):
            with pytest.raises(Told, match=r"NotPermittedError: .*acquire it first"):
                await worker.do(source)
        assert await (await root.spawn(in_c, "release")).wait() == errno.EPERM
        assert await (await root.spawn(in_c, "recover")).wait() == errno.EPERM
        assert lock.locked
        await anyio.to_thread.run_sync(lock.release)  # any thread of the owner may
        assert not lock.locked


async def test_thread_that_would_wait_for_itself_is_told(
    root: aiopip.Root, lock: aiopip.Lock
) -> None:
    for take in (lock.acquire_nowait, lock.acquire_sync):
        take()
        with pytest.raises(aiopip.DeadlockError, match="wait for itself") as caught:
            lock.acquire_sync()
        assert caught.value.errno == errno.EDEADLK
        lock.release()
    await lock.acquire()
    with pytest.raises(aiopip.DeadlockError):
        lock.acquire_sync()
    with pytest.raises(TimeoutError):
        await anyio.to_thread.run_sync(lock.acquire_sync, 0.01)
    lock.release()
    lock.acquire_sync()
    # Released by another object on the same memory, and then another process's: no deadlock.
    aiopip.Lock(lock.memory).release()
    async with work(root, LOCK) as worker:
        await worker.do("lock.acquire_sync()")
        with pytest.raises(TimeoutError):
            lock.acquire_sync(0.01)
        await worker.do("lock.release()")
        lock.acquire_sync()
        lock.release()


# Cancellation


async def test_cancelled_waiter_does_not_get_it(root: aiopip.Root, lock: aiopip.Lock) -> None:
    async with work(root, LOCK) as worker:
        await worker.do("lock.acquire_sync()")
        for _ in range(10):
            acquiring = start(lock.acquire())
            await is_wanted(lock)
            acquiring.cancel()
            with pytest.raises(cancelled()):
                await acquiring
        await worker.do("lock.release()")
        assert not lock.locked
        lock.acquire_nowait()
        lock.release()


@only("asyncio", reason=ABOUT_TO_GO_ON)
async def test_cancelled_in_the_iteration_in_which_it_is_granted(
    root: aiopip.Root, lock: aiopip.Lock
) -> None:
    async with work(root, LOCK) as worker:
        for _ in range(5):
            await worker.do("lock.acquire_sync()")
            acquiring = start(lock.acquire())
            await is_wanted(lock)
            worker.tell("lock.release()")
            # The loop stands still until the thread has the lock.
            block_until(lambda: owned_by_root(lock))
            acquiring.cancel()
            with pytest.raises(cancelled()):
                await acquiring
            await worker.answer()
            await until(lambda: not lock.locked, "a granted lock is given back")


def owned_by_root(lock: aiopip.Lock) -> bool:
    return lock.locked and int.from_bytes(lock.memory[:2], "little") == 4097


@only("asyncio", reason="on trio no coroutine outlives its loop")
async def test_abandoned_waiter_does_not_keep_it(root: aiopip.Root, lock: aiopip.Lock) -> None:
    """Its loop was closed, and it is closed by whoever drops it."""
    lock.acquire_nowait()
    waiting: list[Any] = []

    def run() -> None:
        loop = asyncio.new_event_loop()
        coroutine = lock.acquire()

        async def begin() -> None:
            coroutine.send(None)

        loop.run_until_complete(begin())
        loop.close()
        waiting.append(coroutine)

    await anyio.to_thread.run_sync(run)
    await is_wanted(lock)
    lock.release()
    await until(lambda: not lock.locked, "the thread gives back what the loop cannot take")
    lock.acquire_nowait()
    waiting.pop().close()
    lock.release()
    await until(lambda: bytes(lock.memory) == bytes(64))


async def test_root_that_is_left_wakes_who_waits() -> None:
    async with aiopip.Root() as root:
        # A lock each, so that both are seen to wait.
        awaited, slept_on = aiopip.Lock(), aiopip.Lock()
        for lock in (awaited, slept_on):
            lock.acquire_nowait()
        waiting = [start(awaited.acquire()), start(anyio.to_thread.run_sync(slept_on.acquire_sync))]
        for lock in (awaited, slept_on):
            await is_wanted(lock)
        root.abort()
        for one in waiting:
            with pytest.raises(aiopip.ClosedError, match=r"was left|closed"):
                await one
    for use in (
        awaited.acquire_nowait,
        awaited.release,
        awaited.acquire_sync,
        lambda: awaited.locked,
    ):
        with pytest.raises(aiopip.NotInitializedError):
            use()
    async with aiopip.Root():
        awaited.release()


def test_ctrl_c_wakes_who_sleeps() -> None:
    done = run_python(
        """
        import asyncio, os, signal, sys, threading, time
        import aiopip
        async def main():
            async with aiopip.Root():
                lock = aiopip.Lock()
                await asyncio.to_thread(lock.acquire_sync)
                def interrupt():
                    while not lock.memory[3] & 0x80: time.sleep(0.001)
                    time.sleep(0.01)
                    os.kill(os.getpid(), signal.SIGINT)
                threading.Thread(target=interrupt).start()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                try:
                    lock.acquire_sync()
                except KeyboardInterrupt:
                    print("interrupted", lock.locked)
                lock.release()
                print("free", lock.locked)
        asyncio.run(main())
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == (
        "interrupted True\nfree False\n",
        "",
        0,
    )


# Owners that die


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(0)", "sys.exit()"])
async def test_next_owner_is_told_of_the_death(
    root: aiopip.Root, lock: aiopip.Lock, in_c: Path, end: str
) -> None:
    async with work(root, LOCK) as worker, work(root, LOCK) as other:
        await worker.do("lock.acquire_sync()")
        acquiring = start(lock.acquire())
        await is_wanted(lock)
        await worker.end(end)
        with pytest.raises(aiopip.OwnerDiedError, match=r"then call recover\(\)") as caught:
            await acquiring
        assert caught.value.errno == errno.EOWNERDEAD
        assert lock.locked
        # Until somebody has recovered it everyone is told.
        other.tell("lock.acquire_sync()")
        await is_wanted(lock)
        lock.release()
        with pytest.raises(Told, match="OwnerDiedError"):
            await other.answer()
        await other.do("lock.recover(); lock.release()")
        lock.acquire_nowait()
        lock.release()


async def test_c_and_python_tell_each_other_of_deaths(
    root: aiopip.Root, lock: aiopip.Lock, in_c: Path
) -> None:
    assert await (await root.spawn(in_c, "die")).wait() == -9
    assert repr(lock.locked) == "False"
    with pytest.raises(aiopip.OwnerDiedError):
        lock.acquire_nowait()
    lock.recover()
    lock.release()
    async with work(root, LOCK) as worker:
        await worker.end("lock.acquire_nowait(); os.kill(os.getpid(), 9)")
    assert await (await root.spawn(in_c, "repair")).wait() == 0
    with lock:
        pass
    async with work(root, LOCK) as worker:
        await worker.end("lock.acquire_nowait(); os.kill(os.getpid(), 9)")
    with pytest.raises(aiopip.OwnerDiedError):
        async with lock:
            pytest.fail("the block is not entered")
    assert lock.locked
    lock.recover()
    lock.release()


async def test_lock_in_a_withdrawn_region_goes_on(root: aiopip.Root) -> None:
    lock = aiopip.Lock()
    export = root.export("lock", lock)
    root.export("counter", counter)
    async with work(root, LOCK) as worker:
        export.withdraw()
        await worker.do("lock.acquire_sync()")
        acquiring = start(lock.acquire())
        await is_wanted(lock)
        await worker.do("lock.release(); del lock")
        await acquiring
        lock.release()


async def test_lock_of_a_task_that_has_ended_goes_on(root: aiopip.Root) -> None:
    async with work(root) as worker, work(root) as other:
        await worker.do("lock = aiopip.Lock(); me.export('lock', lock); lock.acquire_sync()")
        lock = aiopip.Lock(root.named_import_nowait(worker.task, "lock"))
        await other.do(f"lock = aiopip.Lock(me.named_import_nowait({worker.task.pipid}, 'lock'))")
        await worker.end("os.kill(os.getpid(), 9)")
        with pytest.raises(aiopip.OwnerDiedError):
            await lock.acquire()
        lock.recover()
        other.tell("lock.acquire_sync()")
        await is_wanted(lock)
        lock.release()
        await other.answer()
        assert await other.do("lock.locked") is True
        await other.end()
        assert not lock.locked
        del lock


async def test_child_by_fork_is_refused(root: aiopip.Root, lock: aiopip.Lock) -> None:
    async with work(root, LOCK) as worker:
        answer = await worker.do("""
            lock.acquire_sync()
            reader, writer = os.pipe()
            if os.fork() == 0:
                answers = []
                for use in (lock.acquire_nowait, lock.release, lock.acquire_sync, lock.recover):
                    try: use()
                    except Exception as error: answers.append(type(error).__name__)
                os.write(writer, " ".join(answers).encode())
                os._exit(0)
            os.wait()
            told = os.read(reader, 1000).decode()
        """)
        assert answer is None
        assert await worker.do("told") == " ".join(["ForkedError"] * 4)
        assert await worker.do("lock.locked") is True

    def refused() -> None:
        with pytest.raises(aiopip.ForkedError):
            lock.acquire_nowait()

    check_in_fork(refused)
