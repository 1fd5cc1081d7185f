"""How a PoolExecutor ends: shut down, broken, dropped, with its program, and in a child by fork."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import gc
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration import jobs_in_workers as jobs

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND_S = 30

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures("multiprocessings")


@contextlib.contextmanager
def busy(workers: int = 1) -> Iterator[tuple[aiopip.PoolExecutor, cf.Future[None], Any]]:
    """An executor, a call that runs, and the event for which it waits."""
    begun, gate = (mp.get_context("spawn").Event() for _ in range(2))
    pool = aiopip.PoolExecutor(workers, initializer=jobs.remember, initargs=(begun, gate))
    try:
        running = pool.submit(jobs.begin_and_wait)
        assert begun.wait(BOUND_S)
        yield pool, running, gate
    finally:
        # It waits for those that sleep on it, and for ever when these were killed.
        if not running.done():
            gate.set()
        pool.shutdown()


def engine_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "aiopip-executor"]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event."""
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


# Shut down


def test_shutdown_waits_for_all_calls() -> None:
    pool = aiopip.PoolExecutor(2)
    futures = [pool.submit(jobs.square, number) for number in range(50)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [number**2 for number in range(50)]
    assert pool._processes == {}
    assert engine_threads() == []
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    pool.shutdown()


def test_shutdown_of_one_that_was_never_used() -> None:
    pool = aiopip.PoolExecutor(2)
    pool.shutdown(cancel_futures=True)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)


def test_shutdown_without_waiting_lets_calls_end() -> None:
    with busy() as (pool, running, gate):
        waiting = pool.submit(abs, -4)
        pool.shutdown(wait=False)
        assert not running.done()
        gate.set()
        assert waiting.result(BOUND_S) == 4
        until(lambda: engine_threads() == [])


def test_shutdown_cancels_what_has_not_begun() -> None:
    with busy() as (pool, running, gate):
        waiting = [pool.submit(abs, number) for number in range(3000)]  # more than the queue takes
        pool.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in waiting)
        assert cf.wait(waiting, 0).not_done == set()
        gate.set()
        assert running.result(BOUND_S) is None


def test_callbacks_may_shut_down_and_find_it_shut() -> None:
    found: list[Any] = []

    def shut(future: cf.Future[Any]) -> None:
        pool.shutdown()
        try:
            pool.submit(abs, 1)
        except RuntimeError as error:
            found.append(str(error))

    with busy() as (pool, running, gate):
        running.add_done_callback(shut)
        gate.set()
        until(lambda: engine_threads() == [])
    assert found == ["cannot schedule new futures after shutdown"]


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_workers_are_ended_at_once(how: str) -> None:
    with busy() as (pool, running, _):
        waiting = pool.submit(abs, 1)
        getattr(pool, how)()
        with pytest.raises(aiopip.BrokenPoolError) as caught:
            running.result(BOUND_S)
        number = signal.SIGKILL if how == "kill_workers" else signal.SIGTERM
        assert caught.value.signal == number
        assert waiting.cancelled()
        with pytest.raises(RuntimeError):
            pool.submit(abs, 1)
        pool.shutdown()
        getattr(pool, how)()


def test_a_worker_that_ignores_sigterm_ends_with_its_call() -> None:
    ready, gate = (mp.get_context("spawn").Event() for _ in range(2))
    with aiopip.PoolExecutor(1, initializer=jobs.remember, initargs=(ready, gate)) as pool:
        running = pool.submit(jobs.ignore_sigterm_and_wait)
        assert ready.wait(BOUND_S)
        pool.terminate_workers()
        gate.set()
        assert running.result(BOUND_S) > 0


# Broken


def test_a_worker_killed_while_it_runs_fails_all_calls() -> None:
    with busy(2) as (pool, running, _):
        others = [pool.submit(jobs.wait_for_given) for _ in range(5)]
        until(others[0].running)
        os.kill(next(iter(pool._processes)), signal.SIGKILL)
        calls: list[cf.Future[Any]] = [running, *others]
        for future in calls:
            with pytest.raises(aiopip.BrokenPoolError, match="worker 0 of the pool died") as caught:
                future.result(BOUND_S)
            assert isinstance(caught.value, process.BrokenProcessPool)
            assert caught.value.signal == signal.SIGKILL
        with pytest.raises(process.BrokenProcessPool):
            pool.submit(abs, 1)


def test_a_worker_killed_while_idle_breaks_the_executor() -> None:
    with aiopip.PoolExecutor(1) as pool:
        os.kill(pool.submit(jobs.pid).result(BOUND_S), signal.SIGKILL)
        until(lambda: pool._processes == {})
        with pytest.raises(aiopip.BrokenPoolError, match="SIGKILL"):
            pool.submit(abs, 1).result(BOUND_S)


@pytest.mark.parametrize("status", [0, 3])
def test_a_worker_that_leaves_breaks_the_executor(status: int) -> None:
    with aiopip.PoolExecutor(1, max_tasks_per_child=5) as pool:
        with pytest.raises(aiopip.BrokenPoolError) as caught:
            pool.submit(jobs.leave, status).result(BOUND_S)
        assert caught.value.status == status
        with pytest.raises(process.BrokenProcessPool):
            pool.submit(abs, 1)


def test_the_error_has_the_last_words() -> None:
    with aiopip.PoolExecutor(1) as pool:
        future = pool.submit(jobs.complain_and_die, "it is full of stars\n")
        with pytest.raises(aiopip.BrokenPoolError, match="full of stars"):
            future.result(BOUND_S)


def test_a_worker_dies_in_midst_of_many_calls() -> None:
    for _ in range(5):
        with aiopip.PoolExecutor(2) as pool:
            futures = [pool.submit(jobs.square, number) for number in range(300)]
            futures[40].result(BOUND_S)
            os.kill(next(iter(pool._processes)), signal.SIGKILL)
            done = cf.wait(futures, BOUND_S)
            assert done.not_done == set()
            for number, future in enumerate(futures):
                if future.exception(0) is None:
                    assert future.result(0) == number**2
                else:
                    assert isinstance(future.exception(0), aiopip.BrokenPoolError)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, SystemExit])
def test_an_initializer_that_fails_breaks_the_executor(kind: type[BaseException]) -> None:
    with aiopip.PoolExecutor(2, initializer=jobs.refuse, initargs=(kind,)) as pool:
        futures = [pool.submit(abs, 1) for _ in range(3)]
        for future in futures:
            with pytest.raises(process.BrokenProcessPool, match="not with me") as caught:
                future.result(BOUND_S)
            assert type(caught.value.__cause__) is kind
        with pytest.raises(process.BrokenProcessPool):
            pool.submit(abs, 1)


def test_initargs_that_do_not_pickle_are_told_by_submit() -> None:
    with aiopip.PoolExecutor(1, initializer=print, initargs=(threading.Lock(),)) as pool:
        for _ in range(2):
            with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock'"):
                pool.submit(abs, 1)


# Dropped, and forked


def test_one_that_is_dropped_ends_when_its_calls_have() -> None:
    begun, gate = (mp.get_context("spawn").Event() for _ in range(2))
    pool = aiopip.PoolExecutor(1, initializer=jobs.remember, initargs=(begun, gate))
    running, waiting = pool.submit(jobs.begin_and_wait), pool.submit(abs, -3)
    assert begun.wait(BOUND_S)
    del pool
    gate.set()
    assert (running.result(BOUND_S), waiting.result(BOUND_S)) == (None, 3)
    until(lambda: engine_threads() == [])


def test_one_that_is_dropped_in_a_cycle_ends() -> None:
    pool = aiopip.PoolExecutor(1)
    assert pool.submit(abs, -1).result(BOUND_S) == 1
    pool.itself = pool  # type: ignore[attr-defined]
    del pool
    gc.collect()
    until(lambda: engine_threads() == [])


def test_a_child_by_fork_leaves_it_alone() -> None:
    with busy() as (pool, running, gate):
        waiting = pool.submit(abs, -5)
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                for call in (running.result, running.exception, lambda: pool.submit(abs, 1)):
                    with pytest.raises(aiopip.ForkedError):
                        call()
                assert not waiting.cancel()
                assert not running.running()
                assert pool._processes == {}
                pool.kill_workers()
                pool.shutdown()
                del pool
                gc.collect()
                status = 0
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        gate.set()
        assert waiting.result(BOUND_S) == 5
        assert running.result(BOUND_S) is None


# The end of the program


def run(script: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    text = "import sys; sys.path[:0] = [{!r}]\n" + textwrap.dedent(script)
    line = [sys.executable, "-c", text.format(str(TESTS))]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=BOUND_S, cwd="/", **options
    )
    assert done.stderr == "", done.stderr
    return done


def test_the_interpreter_waits_for_pending_calls() -> None:
    done = run(
        """
        import aiopip, time
        pool = aiopip.PoolExecutor(1)
        for number in range(3):
            pool.submit(time.sleep, 0.01).add_done_callback(lambda _: print("ended", flush=True))
        """
    )
    assert (done.returncode, done.stdout) == (0, "ended\n" * 3)


def test_a_call_at_the_interpreters_end_is_refused() -> None:
    done = run(
        """
        import aiopip, atexit
        pool = aiopip.PoolExecutor(1)

        def late():
            try:
                pool.submit(abs, 1)
            except RuntimeError as error:
                print(error)

        atexit.register(late)
        pool.submit(abs, 1).result()
        """
    )
    assert (done.returncode, done.stdout) == (0, "cannot schedule new futures after shutdown\n")


def test_ctrl_c_while_a_result_is_awaited() -> None:
    done = run(
        """
        import _thread, aiopip, os, signal, threading, time
        with aiopip.PoolExecutor(1) as pool:
            pool.submit(abs, 1).result()
            future = pool.submit(time.sleep, 60)
            while not future.running():
                time.sleep(0.001)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                future.result()
            except KeyboardInterrupt:
                print("interrupted", future.running())
                pool.kill_workers()
        print(type(future.exception()).__name__)
        """
    )
    assert (done.returncode, done.stdout) == (0, "interrupted True\nBrokenPoolError\n")


def test_ctrl_c_while_calls_are_submitted_loses_none() -> None:
    done = run(
        """
        import _thread, aiopip, signal
        armed, interrupted, futures = False, 0, []

        def interrupt(*_):
            global armed
            if armed:
                armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGALRM, lambda *_: _thread.interrupt_main())
        with aiopip.PoolExecutor(2) as pool:
            pool.submit(abs, 1).result()
            signal.setitimer(signal.ITIMER_REAL, 0.0007, 0.0007)
            while interrupted < 100:
                try:
                    armed = True
                    futures.append(pool.submit(abs, -1))
                    armed = False
                except KeyboardInterrupt:
                    interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(sum(future.result(20) for future in futures) == len(futures))
        """
    )
    assert (done.returncode, done.stdout) == (0, "True\n")
