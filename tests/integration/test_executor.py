"""PoolExecutor: what concurrent.futures promises of ProcessPoolExecutor, and memory in place."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import gc
import itertools
import multiprocessing as mp
import os
import signal
import threading
import weakref
from concurrent.futures import process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration import jobs_in_workers as jobs
from support import block_until, until

import aiopip
from aiopip._engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiopip._engine import Submission

BOUND_S = 30

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.usefixtures("multiprocessings")


@pytest.fixture
def pool() -> Iterator[aiopip.PoolExecutor]:
    """Two workers at the most."""
    with aiopip.PoolExecutor(2) as pool:
        yield pool


@contextlib.contextmanager
def gated(workers: int = 1) -> Iterator[tuple[aiopip.PoolExecutor, Any, Any]]:
    """An executor, and the events of `jobs.begin_and_wait`; the second is set in the end."""
    begun, gate = (mp.get_context("spawn").Event() for _ in range(2))
    with aiopip.PoolExecutor(workers, initializer=jobs.remember, initargs=(begun, gate)) as pool:
        try:
            yield pool, begun, gate
        finally:
            gate.set()


# Submitting


def test_submit_gives_what_the_function_returns(pool: aiopip.PoolExecutor) -> None:
    total, pid = pool.submit(jobs.sum_and_pid, 1, 2, extra=4).result(BOUND_S)
    assert total == 7
    assert pid != os.getpid()
    assert pid in pool._processes


def test_it_is_a_process_pool_executor() -> None:
    pool = aiopip.PoolExecutor(3)
    assert isinstance(pool, process.ProcessPoolExecutor)
    assert pool._max_workers == 3
    assert aiopip.PoolExecutor()._max_workers == os.cpu_count()
    assert pool._processes == {}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -1}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": 1.5}, TypeError, "max_tasks_per_child must be an integer"),
    ],
)
def test_bad_options_are_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        aiopip.PoolExecutor(**options)


def test_self_is_an_ordinary_keyword(pool: aiopip.PoolExecutor) -> None:
    assert pool.submit(dict, self=1, fn=2).result(BOUND_S) == {"self": 1, "fn": 2}


def test_calls_end_in_any_order() -> None:
    with gated(2) as (pool, _, gate):
        first, *others = (pool.submit(jobs.wait_if, number) for number in range(4))
        done = cf.as_completed([first, *others], BOUND_S)
        assert [next(done).result() for _ in others] == [1, 2, 3]
        assert cf.wait([first], timeout=0).not_done == {first}
        gate.set()
        assert next(done).result() == 0


def test_wait_returns_with_the_first_exception(pool: aiopip.PoolExecutor) -> None:
    futures = [pool.submit(abs, -1), pool.submit(jobs.fail, 1)]
    cf.wait(futures, BOUND_S, cf.FIRST_EXCEPTION)
    assert isinstance(futures[1].exception(0), ValueError)
    assert cf.wait(futures, BOUND_S).not_done == set()


# Mapping


@pytest.mark.parametrize("chunksize", [1, 7, 100])
def test_map_keeps_the_order(pool: aiopip.PoolExecutor, chunksize: int) -> None:
    found = pool.map(pow, range(40), range(40), chunksize=chunksize)
    assert list(found) == [number**number for number in range(40)]


def test_map_raises_where_the_exception_was(pool: aiopip.PoolExecutor) -> None:
    found = pool.map(divmod, [1, 1, 1], [2, 0, 3])
    assert next(found) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_map_gives_up_after_its_timeout() -> None:
    with gated() as (pool, _, _):
        pool.submit(jobs.pid).result(BOUND_S)
        found = pool.map(jobs.wait_if, [0, 2], timeout=0.1)
        with pytest.raises(cf.TimeoutError):
            list(found)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses_bad_options(
    pool: aiopip.PoolExecutor, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        pool.map(str, [1], **options)


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_map_takes_its_iterables_in_turn(pool: aiopip.PoolExecutor, chunksize: int) -> None:
    numbers = iter(range(10))
    assert list(pool.map(divmod, numbers, itertools.repeat(3), chunksize=chunksize)) == [
        divmod(number, 3) for number in range(10)
    ]
    numbers = iter(range(10))
    assert list(pool.map(pow, numbers, numbers, chunksize=chunksize)) == [0, 8, 1024, 6**7, 8**9]
    assert list(pool.map(divmod, range(3), [2], chunksize=chunksize)) == [(0, 0)]
    assert list(pool.map(divmod)) == []


def test_map_asks_no_iterable_behind_its_end(pool: aiopip.PoolExecutor, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("1\n2\n3\n")
    with file.open() as lines:
        found = pool.map(int, lines)
    assert list(found) == [1, 2, 3]
    numbers = iter(range(9))
    assert list(pool.map(pow, numbers, [1, 2, 3])) == [0, 1, 8]
    assert next(numbers) == 4
    endless = iter([1, 2, None, 3].__iter__().__next__, None)  # it goes on behind its end
    assert list(pool.map(abs, endless, chunksize=5)) == [1, 2]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_does_not_end_with_what_a_call_raises(
    pool: aiopip.PoolExecutor, chunksize: int
) -> None:
    found = pool.map(jobs.stop_at_three, range(8), chunksize=chunksize)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(found)


def test_map_gives_what_stands_before_an_error_of_its_chunk(pool: aiopip.PoolExecutor) -> None:
    found = pool.map(divmod, [1, 1, 1, 1], [2, 3, 0, 3], chunksize=4)
    assert [next(found), next(found)] == [(0, 1), (0, 1)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(found)
    assert type(caught.value.__cause__) is process._RemoteTraceback
    assert list(found) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_names_what_does_not_pickle_in_its_place(
    pool: aiopip.PoolExecutor, chunksize: int
) -> None:
    found = pool.map(bool, [1, 2, threading.Lock(), 3], chunksize=chunksize)
    assert [next(found), next(found)] == [True, True]
    with pytest.raises(aiopip.NotPicklableError, match=r"^builtins\.bool: argument 1.*lock"):
        next(found)


def test_map_asks_for_an_item_when_those_before_it_are_handed_in(
    pool: aiopip.PoolExecutor, tmp_path: Path
) -> None:
    marks = [tmp_path / str(number) for number in range(10)]

    def paths() -> Iterator[Path]:
        for before, mark in itertools.pairwise([tmp_path, *marks]):
            block_until(before.exists, "a call runs while the next argument is waited for")
            yield mark

    assert list(pool.map(Path.touch, paths())) == [None] * 10


@pytest.mark.parametrize("count", [0, 1, 8, 9, 100])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_of_any_number(pool: aiopip.PoolExecutor, count: int, chunksize: int) -> None:
    for numbers in (range(count), list(range(count)), iter(range(count))):
        found = pool.map(str, numbers, chunksize=chunksize)
        assert list(found) == [str(number) for number in range(count)]


def test_map_takes_no_more_than_its_buffer(pool: aiopip.PoolExecutor) -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    found = pool.map(str, numbers(), buffersize=3, chunksize=2)
    assert len(taken) == 6
    assert [next(found) for _ in range(4)] == list("0123")
    assert len(taken) == 10
    assert list(found) == [str(number) for number in range(4, 100)]


def test_map_with_a_buffer_is_done_when_all_was_handed_in() -> None:
    executor = aiopip.PoolExecutor(1)
    found = executor.map(str, range(3), buffersize=3)
    executor.shutdown()
    assert list(found) == ["0", "1", "2"]


def test_map_with_a_buffer_keeps_the_executor() -> None:
    found = aiopip.PoolExecutor(1).map(str, range(20), buffersize=1)
    gc.collect()
    assert list(found) == [str(number) for number in range(20)]


def test_map_that_gives_up_takes_back_what_was_not_begun(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with gated() as (pool, begun, gate):
        held = pool.submit(jobs.begin_and_wait)
        begun.wait(BOUND_S)
        found = pool.map(Path.touch, itertools.repeat(mark, 20_000), timeout=0.01)
        with pytest.raises(cf.TimeoutError):
            next(found)
        gate.set()
        held.result(BOUND_S)
        pool.submit(jobs.pid).result(BOUND_S)
    assert not mark.exists()


def test_map_of_an_executor_that_is_shut_down() -> None:
    with gated() as (pool, begun, gate):
        pool.submit(jobs.begin_and_wait)
        begun.wait(BOUND_S)
        found = pool.map(str, range(3))
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(cf.CancelledError):
            next(found)
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.map(str, [1])
        gate.set()


def test_map_of_workers_that_die(pool: aiopip.PoolExecutor) -> None:
    with pytest.raises(aiopip.BrokenPoolError):
        list(pool.map(jobs.die, [signal.SIGKILL] * 3))


# Ctrl-C in the midst of it


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT comes while calls are taken back."""
    take_back = Engine._take_back

    def take_back_and_press(self: Engine, submission: Submission) -> None:
        take_back(self, submission)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Engine, "_take_back", take_back_and_press)


@pytest.mark.usefixtures("interrupted")
def test_a_future_is_cancelled_whoever_interrupts() -> None:
    with gated() as (pool, begun, _):
        pool.submit(jobs.begin_and_wait)
        begun.wait(BOUND_S)
        future = pool.submit(jobs.pid)
        with pytest.raises(KeyboardInterrupt):
            future.cancel()
        assert future.cancelled()


@pytest.mark.usefixtures("interrupted")
def test_all_are_cancelled_whoever_interrupts() -> None:
    with gated() as (pool, begun, gate):
        pool.submit(jobs.begin_and_wait)
        begun.wait(BOUND_S)
        futures = [pool.submit(jobs.pid) for _ in range(5)]
        found = pool.map(abs, range(5))
        with pytest.raises(KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
        assert all(future.cancelled() for future in futures)
        with pytest.raises(cf.CancelledError):
            next(found)
        gate.set()


# Errors


def test_an_exception_has_its_remote_traceback(pool: aiopip.PoolExecutor) -> None:
    error = pool.submit(jobs.fail, 5).exception(BOUND_S)
    assert isinstance(error, ValueError)
    assert error.args == (5,)
    assert type(error.__cause__) is process._RemoteTraceback
    assert "raise ValueError(number)" in error.__cause__.tb
    assert str(error.__cause__).startswith('\n"""\nTraceback')


@pytest.mark.parametrize(
    ("function", "args", "error", "text"),
    [
        (jobs.fail_hiding, (), aiopip.RemoteError, "HidingError: hidden"),
        (jobs.lock, (), aiopip.NotPicklableError, "lock: its result, a _thread.lock"),
        (abs, (threading.Lock(),), aiopip.NotPicklableError, "argument 1.*_thread.lock"),
        (jobs.unreadable, (), ZeroDivisionError, "on arrival"),
        (abs, (jobs.Unreadable(),), ZeroDivisionError, "on arrival"),
        (jobs.exit_by_exception, (), SystemExit, "3"),
    ],
)
def test_what_does_not_travel_fails_its_call_alone(
    pool: aiopip.PoolExecutor,
    function: Any,
    args: tuple[Any, ...],
    error: type[BaseException],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        pool.submit(function, *args).result(BOUND_S)
    assert pool.submit(abs, -1).result(BOUND_S) == 1


def test_a_callback_that_raises_is_told_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    def raise_exit(_: Any) -> None:
        raise SystemExit

    with gated() as (pool, _, gate):
        pool.submit(jobs.wait_for_given).add_done_callback(raise_exit)
        gate.set()
        assert pool.submit(abs, -1).result(BOUND_S) == 1
    assert "exception calling a callback of <PoolFuture" in caplog.text
    caplog.clear()


# Cancelling


def test_a_call_is_cancelled_until_it_begins() -> None:
    called: list[Any] = []
    with gated() as (pool, begun, gate):
        first = pool.submit(jobs.begin_and_wait)
        second = pool.submit(abs, 1)
        second.add_done_callback(called.append)
        assert begun.wait(BOUND_S)
        assert (first.running(), second.running()) == (True, False)
        assert not first.cancel()
        assert second.cancel()
        assert second.cancel()
        assert called == [second]
        assert cf.wait([second], 0).done == {second}
        with pytest.raises(cf.CancelledError):
            second.result()
        gate.set()
        assert first.result(BOUND_S) is None
        assert not first.running()
        assert not first.cancel()


def test_who_waits_for_a_cancelled_call_is_told() -> None:
    with gated() as (pool, begun, _):
        pool.submit(jobs.begin_and_wait)
        assert begun.wait(BOUND_S)
        future = pool.submit(abs, 1)
        found: list[Any] = []
        waits = threading.Event()

        def wait() -> None:
            waits.set()
            with pytest.raises(cf.CancelledError):
                future.result(BOUND_S)
            found.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
        assert waits.wait(BOUND_S)
        assert future.cancel()
        thread.join(BOUND_S)
        assert found == [True]


def test_a_result_that_takes_too_long_is_waited_for_again() -> None:
    with gated() as (pool, _, gate):
        future = pool.submit(jobs.wait_for_given, 3)
        for wait in (future.result, future.exception):
            with pytest.raises(cf.TimeoutError):
                wait(0.01)
        gate.set()
        assert future.result(1e9) == 3


# Callbacks


def test_callbacks_submit_more(pool: aiopip.PoolExecutor) -> None:
    ended = threading.Event()
    left = 2000

    def again(future: cf.Future[int]) -> None:
        nonlocal left
        left -= 1
        if left:
            pool.submit(abs, -left).add_done_callback(again)
        else:
            ended.set()

    pool.submit(abs, 0).add_done_callback(again)
    assert ended.wait(BOUND_S)


def test_many_callbacks_submit_at_once(pool: aiopip.PoolExecutor) -> None:
    second: list[cf.Future[int]] = []
    first = [pool.submit(abs, -number) for number in range(1500)]
    for future in first:
        future.add_done_callback(lambda done: second.append(pool.submit(abs, -done.result())))
    cf.wait(first, BOUND_S)
    cf.wait([pool.submit(abs, 0)], BOUND_S)  # its callbacks run behind theirs
    assert sorted(one.result(BOUND_S) for one in second) == list(range(1500))


def test_threads_submit_and_cancel_at_once(pool: aiopip.PoolExecutor) -> None:
    lost: list[Any] = []

    def work(base: int) -> None:
        futures = [pool.submit(jobs.square, base + number) for number in range(300)]
        cancelled = [future.cancel() for future in futures[::3]]
        for number, future in enumerate(futures):
            if number % 3 == 0 and cancelled[number // 3]:
                lost.extend([future] * (not future.cancelled()))
            elif future.result(BOUND_S) != (base + number) ** 2:
                lost.append(future)

    threads = [threading.Thread(target=work, args=(1000 * base,)) for base in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert lost == []


# Memory


def test_arrays_are_seen_in_place(pool: aiopip.PoolExecutor) -> None:
    array = numpy.arange(1000.0)
    assert pool.submit(jobs.address, array[10:]).result(BOUND_S) == jobs.address(array) + 80
    pool.submit(jobs.fill, out=array[::2], number=7).result(BOUND_S)
    assert (array[::2] == 7).all()
    assert (array[1::2] == numpy.arange(1.0, 1000, 2)).all()
    array.flags.writeable = False
    with pytest.raises(aiopip.InvalidArgumentError, match="out: the array is read only"):
        pool.submit(jobs.fill, out=array, number=7).result(BOUND_S)


def test_what_would_be_written_to_a_copy_is_refused(pool: aiopip.PoolExecutor) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"out: a bytearray is copied"):
        pool.submit(jobs.fill, out=bytearray(8), number=7).result(BOUND_S)


def test_result_that_calls_the_executor_when_it_is_read(pool: aiopip.PoolExecutor) -> None:
    """It is read without the lock, and in this process."""
    jobs.Calling.pool = pool
    try:
        nested = pool.submit(jobs.Calling, 21).result(BOUND_S)
    finally:
        jobs.Calling.pool = None
    assert nested.future is not None
    assert nested.future.result(BOUND_S) == 42


def test_executor_that_is_shut_down_by_its_owners_finaliser() -> None:
    for _ in range(10):
        pool = aiopip.PoolExecutor(1)
        futures = [pool.submit(abs, -number) for number in range(20)]
        owner = jobs.Owner(pool)
        del pool, owner
        gc.collect()
        assert [future.result(BOUND_S) for future in futures] == list(range(20))


def test_big_arguments_and_results_travel(pool: aiopip.PoolExecutor) -> None:
    data = b"x" * 100_000_000
    assert pool.submit(jobs.size, data).result(BOUND_S) == (len(data), b"x")
    assert pool.submit(jobs.repeat, b"y", 100_000_000).result(BOUND_S) == b"y" * 100_000_000


def test_results_outlive_worker_and_executor() -> None:
    array = numpy.arange(100_000.0)
    with aiopip.PoolExecutor(1, max_tasks_per_child=1) as pool:
        results = [pool.submit(jobs.double, array).result(BOUND_S) for _ in range(2)]
    del pool
    for result in results:
        result[0] = 1  # ours to be written
        assert (result[1:] == 2 * array[1:]).all()


def test_arguments_are_let_go_when_the_call_ends(pool: aiopip.PoolExecutor) -> None:
    import gc
    import weakref

    array = numpy.arange(100.0)
    gone = weakref.ref(array)
    gc.disable()
    try:
        pool.submit(jobs.size, array).result(BOUND_S)
        del array
        pool.submit(abs, 1).result(BOUND_S)  # the worker has told of the first one's by then
        assert gone() is None
    finally:
        gc.enable()


# Workers


def test_workers_are_started_when_there_are_calls() -> None:
    with aiopip.PoolExecutor(8) as pool:
        assert pool._processes == {}
        for _ in range(3):
            pool.submit(jobs.pid).result(BOUND_S)
        assert len(pool._processes) == 1


def test_a_worker_ends_after_its_calls() -> None:
    with aiopip.PoolExecutor(1, max_tasks_per_child=3) as pool:
        pids = [future.result(BOUND_S) for future in [pool.submit(jobs.pid) for _ in range(7)]]
        assert [len(set(pids[at : at + 3])) for at in (0, 3, 6)] == [1, 1, 1]
        assert len(set(pids)) == 3


def test_a_worker_that_ends_after_a_failed_call_breaks_nothing() -> None:
    with aiopip.PoolExecutor(1, max_tasks_per_child=1) as pool:
        for number in range(3):
            error = pool.submit(jobs.fail, number).exception(BOUND_S)
            assert isinstance(error, ValueError)
            assert error.args == (number,)


@pytest.mark.parametrize("method", ["spawn", None])
def test_initargs_may_be_multiprocessings(method: str | None) -> None:
    context: Any = mp.get_context(method)
    things = (
        context.Queue(),
        context.Lock(),
        context.Event(),
        context.BoundedSemaphore(1),
        context.Value("i", 0),
    )
    with aiopip.PoolExecutor(2, initializer=jobs.remember, initargs=things) as pool:
        list(pool.map(jobs.exchange, "abcdef"))
        found = [things[0].get(timeout=BOUND_S) for _ in range(6)]
    assert sorted(text for text, _ in found) == list("abcdef")
    assert things[2].is_set()
    assert things[4].value == 6
    things[0].close()
    things[0].join_thread()


def test_a_lock_of_multiprocessing_is_no_argument(pool: aiopip.PoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="through inheritance"):
        pool.submit(jobs.in_event, mp.get_context("spawn").Event()).result(BOUND_S)


def test_workers_leave_stdin_alone(pool: aiopip.PoolExecutor) -> None:
    assert pool.submit(jobs.read_stdin).result(BOUND_S) == ""


# Beside others


def test_in_a_worker_it_names_the_way_out(pool: aiopip.PoolExecutor) -> None:
    with pytest.raises(aiopip.NotPermittedError, match=r"this_task\(\)\.root\.pool\(\)"):
        pool.submit(jobs.nested).result(BOUND_S)


def test_two_executors_have_their_own_workers(pool: aiopip.PoolExecutor) -> None:
    with aiopip.PoolExecutor(1) as other:
        assert other.submit(jobs.pid).result(BOUND_S) not in pool._processes
        assert pool.submit(jobs.pid).result(BOUND_S) in pool._processes


async def test_run_in_executor_beside_a_root(root: aiopip.Root, anyio_backend: Any) -> None:
    if anyio_backend[0] != "asyncio":
        pytest.skip("run_in_executor is asyncio's")
    loop = asyncio.get_running_loop()
    pool = aiopip.PoolExecutor(2)
    try:
        task = await root.spawn("sleep", "60")
        calls = [loop.run_in_executor(pool, jobs.square, number) for number in range(20)]
        assert await asyncio.gather(*calls) == [number**2 for number in range(20)]
        with pytest.raises(ValueError, match="4"):
            await loop.run_in_executor(pool, jobs.fail, 4)
        task.kill()
        await task.wait()
    finally:
        await asyncio.to_thread(pool.shutdown)


def test_what_a_root_exported_is_dropped_without_the_executors_lock() -> None:
    """The finaliser of what a worker has given up runs in the executor's thread, and may submit."""
    called: list[cf.Future[int]] = []

    async def use(pool: aiopip.PoolExecutor) -> None:
        async with aiopip.Root() as root:
            array = numpy.full(4, 1, "u1")
            weakref.finalize(array, finalize)
            root.export("data", array)
            await asyncio.wrap_future(pool.submit(jobs.hold, "data"))

    def finalize() -> None:
        # In another thread: it waits for the lock, if somebody has that.
        thread = threading.Thread(target=lambda: called.append(pool.submit(jobs.square, 3)))
        thread.start()
        thread.join(BOUND_S)

    with aiopip.PoolExecutor(1) as pool:
        asyncio.run(use(pool))
        pool.submit(jobs.remember).result(BOUND_S)
        asyncio.run(until(lambda: bool(called), "the finaliser has run"))
        assert called[0].result(BOUND_S) == 9


def test_roots_come_and_go_beside_it() -> None:
    """The core stays open: what one Root exports is not in the way of the next, nor lost."""

    async def use(pool: aiopip.PoolExecutor, value: int) -> weakref.ref[Any]:
        async with aiopip.Root() as root:
            array = numpy.full(4, value, "u1")
            root.export("data", array)
            root.export("other", b"nobody has it")
            assert await asyncio.wrap_future(pool.submit(jobs.hold, "data")) == value
            return weakref.ref(array)

    with aiopip.PoolExecutor(1) as pool:
        first = asyncio.run(use(pool, 1))
        gc.collect()
        assert first() is not None
        assert pool.submit(jobs.first_held).result(BOUND_S) == 1
        second = asyncio.run(use(pool, 2))
        asyncio.run(until(lambda: first() is None, "the first Root's array goes"))
        assert pool.submit(jobs.first_held).result(BOUND_S) == 2
    assert second() is None
