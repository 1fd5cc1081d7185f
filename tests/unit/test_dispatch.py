"""Calls on their way, without any worker: what an interruption may leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from aiopip._dispatch import Dispatcher, Job, Outcome
from aiopip._errors import ClosedError
from aiopip._ffi_calls import Calls
from aiopip._pickling import dump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiopip._ffi import Peer


def nothing(*_: Any) -> None:
    """Nobody wants to know."""


class Interrupted(Calls):
    """A queue into which a call goes, and then Ctrl-C is pressed."""

    def push(self, worker: int, data: bytes, table: bytes) -> int:
        super().push(worker, data, table)
        raise KeyboardInterrupt


def test_call_that_is_interrupted_when_it_is_handed_in_stops_nothing() -> None:
    calls = Interrupted()
    worker = calls.add_worker()
    dispatcher = Dispatcher(calls, cast("Peer", None), lambda *_: None)
    ends: list[Outcome] = []
    job = Job(dump((abs, (-1,), {})), ends.append, worker)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.submit(job)
    assert dispatcher.bury(worker, ClosedError) == []
    assert calls.add_worker() == worker, "its number is free"
    assert ends == []
    dispatcher.close(ClosedError)


class Collecting(Calls):
    """A queue that has finalisers run while calls go into it."""

    before: Callable[[], object] = nothing
    behind: Callable[[], object] = nothing

    def push(self, worker: int, data: bytes, table: bytes) -> int:
        before, self.before = self.before, nothing
        before()
        number = super().push(worker, data, table)
        behind, self.behind = self.behind, nothing
        behind()
        return number


@pytest.fixture
def full() -> Iterator[tuple[Collecting, Dispatcher, list[Job]]]:
    """One for whose last three calls the queue has no room."""
    calls = Collecting()
    dispatcher = Dispatcher(calls, cast("Peer", None), nothing)
    jobs: list[Job] = []
    while sum(map(len, dispatcher.waiting.values())) < 3:
        jobs.append(Job(dump((abs, (-1,), {})), nothing))
        dispatcher.submit(jobs[-1])
    yield calls, dispatcher, jobs
    dispatcher.close(ClosedError)


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("which", [slice(-3, -2), slice(-3, None), slice(-2, None), slice(0, 2)])
def test_calls_cancelled_while_one_is_handed_in(
    full: tuple[Collecting, Dispatcher, list[Job]], when: str, which: slice
) -> None:
    calls, dispatcher, jobs = full
    chosen = jobs[which]
    setattr(calls, when, lambda: [dispatcher.cancel(job) for job in chosen])
    assert dispatcher.cancel(jobs[5])
    assert all(job.over for job in chosen)
    assert len(dispatcher) == len(jobs) - 1 - len(chosen)
    # Whatever was cancelled is with no worker, and all else may be taken back in its turn.
    assert set(dispatcher.cancel_all()) == set(jobs) - {jobs[5], *chosen}
    assert len(dispatcher) == 0


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_call_cancelled_while_it_is_handed_in(when: str) -> None:
    calls = Collecting()
    dispatcher = Dispatcher(calls, cast("Peer", None), nothing)
    job, other = (Job(dump((abs, (-1,), {})), nothing) for _ in range(2))

    def finalise() -> None:
        dispatcher.cancel(job)
        dispatcher.submit(other)

    setattr(calls, when, finalise)
    dispatcher.submit(job)
    assert job.over
    assert list(dispatcher.jobs.values()) == [other]
    assert dispatcher.cancel(other)
    dispatcher.close(ClosedError)
