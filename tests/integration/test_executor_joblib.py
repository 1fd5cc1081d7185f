"""joblib's backend "aiopip", and other libraries that are handed a PoolExecutor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from integration import jobs_in_workers as jobs

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator

joblib = pytest.importorskip("joblib")
numpy = pytest.importorskip("numpy")

from aiopip import _reused_executors  # noqa: E402


@pytest.fixture(autouse=True)
def two_jobs() -> Iterator[None]:
    """The backend for two jobs; its workers end with the test."""
    aiopip.register_joblib()
    with joblib.parallel_config(backend="aiopip", n_jobs=2):
        yield
    _reused_executors.end_all()


def run(function: Any, *arguments: Any, **options: Any) -> list[Any]:
    calls = (joblib.delayed(function)(argument) for argument in arguments)
    return list(joblib.Parallel(**options)(calls))


def test_calls_run_in_workers_that_are_kept() -> None:
    assert run(jobs.square, *range(200)) == [number**2 for number in range(200)]
    pids = set(run(jobs.pid, *range(20)))
    assert os.getpid() not in pids
    again = set(run(jobs.pid, *range(20)))
    workers = _reused_executors._kept[0].executor._processes
    assert pids | again <= set(workers)
    assert len(workers) <= 2


def test_as_many_workers_as_processors() -> None:
    assert joblib.effective_n_jobs(-1) == joblib.cpu_count()
    assert run(jobs.square, 3, 4, n_jobs=-1) == [9, 16]
    with pytest.raises(ValueError, match="n_jobs == 0"):
        run(jobs.square, 3, n_jobs=0)


def test_one_job_runs_here() -> None:
    assert run(jobs.pid, 1, n_jobs=1) == [os.getpid()]


def test_arrays_are_seen_in_place() -> None:
    array = numpy.zeros(300_000)
    assert run(jobs.address, array, array) == [jobs.address(array)] * 2
    joblib.Parallel()(joblib.delayed(jobs.fill)(array[at::2], at + 1) for at in (0, 1))
    assert (array[::2] == 1).all()
    assert (array[1::2] == 2).all()


def test_lambdas_and_closures_travel() -> None:
    offset = 5
    assert run(lambda number: number + offset, 1, 2) == [6, 7]


def test_an_exception_ends_all_and_the_next_call_has_new_workers() -> None:
    with pytest.raises(ValueError, match="7") as caught:
        run(jobs.fail, 7, 7, 7)
    assert "raise ValueError(number)" in str(caught.value.__cause__)
    assert run(jobs.square, 5, 6) == [25, 36]


def test_a_worker_that_dies_is_replaced_for_the_next_call() -> None:
    with pytest.raises(aiopip.BrokenPoolError, match="SIGKILL"):
        run(jobs.die, 9, 9)
    assert run(jobs.square, 5, 6) == [25, 36]


@pytest.mark.parametrize("kind", ["generator", "generator_unordered"])
def test_results_come_one_by_one(kind: str) -> None:
    calls = (joblib.delayed(jobs.square)(number) for number in range(20))
    found = joblib.Parallel(return_as=kind)(calls)
    assert sorted(found) == [number**2 for number in range(20)]


@pytest.mark.parametrize("backend", [None, "aiopip"])
def test_parallel_calls_within_a_call_run_in_threads(backend: str | None) -> None:
    for pids, thread in run(jobs.parallel, backend, backend):
        assert os.getpid() not in pids
        assert thread != "MainThread"


def test_threads_of_native_libraries_are_limited() -> None:
    assert run(os.getenv, *["OMP_NUM_THREADS"] * 2) == [str(joblib.cpu_count() // 2 or 1)] * 2
    with joblib.parallel_config(backend="aiopip", n_jobs=2, inner_max_num_threads=7):
        assert run(os.getenv, *["OMP_NUM_THREADS"] * 2) == ["7"] * 2


def test_idle_workers_end() -> None:
    with joblib.parallel_config(backend="aiopip", n_jobs=2, idle_worker_timeout=0.01):
        run(jobs.square, 1, 2)
    kept = list(_reused_executors._kept)
    for one in kept:
        if one.timer is not None:
            one.timer.join(20)
    assert _reused_executors._kept == []


def test_dask_computes_with_an_executor() -> None:
    dask = pytest.importorskip("dask")
    array = numpy.arange(1000.0)
    with aiopip.PoolExecutor(2) as pool:
        squares = [dask.delayed(jobs.square)(number) for number in range(10)]
        total = dask.delayed(sum)(squares)
        where = dask.delayed(jobs.address)(array)
        found = dask.compute(total, where, dask.delayed(jobs.pid)(), scheduler=pool)
        assert found[0] == sum(number**2 for number in range(10))
        assert found[1] == jobs.address(array)
        assert found[2] in pool._processes
