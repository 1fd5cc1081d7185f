"""Task groups that are cancelled or interrupted, on a client without processes."""

# The exceptions leave blocks that have an `async with` in them.
# ruff: noqa: PT012

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from jobs import begun, cancelled, on_trio, start, turns
from loops import CANCELLED_TWICE, only
from support import check_in_fork
from unit.blocks import FAILS, KILLED, TERMINATED, Block, block, failures, leaves, signals_to
from unit.fake_client import Stage, ended

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from aiopip._records import Record

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

TASKS_OF_3_11 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio.timeout and TaskGroup need Python 3.11"
)
timeout: Any = getattr(asyncio, "timeout", None)
TaskGroup: Any = getattr(asyncio, "TaskGroup", None)
ASYNCIO = only("asyncio", reason="about asyncio's own blocks")


def joined(error: BaseException | None) -> tuple[list[type], dict[int, int]]:
    """What interrupted a block, and the failures raised with it, whichever loop it is."""
    if isinstance(error, BaseExceptionGroup):
        rest, failed_ones = error.split(aiopip.TaskFailed)[::-1]
        found = [type(one) for one in leaves(rest)]
        return found, failures(failed_ones)
    assert error is not None
    cause = error.__cause__
    return [type(error)], {} if cause is None else failures(cause)


# From outside


async def test_cancellation_of_the_body(stage: Stage) -> None:
    opened = await block(stage, tasks=2)
    opened.running.cancel()
    await turns(3)
    assert opened.body_cancelled == 1
    assert signals_to(stage, 0) == signals_to(stage, 1) == TERMINATED
    stage.client.deliver(ended(0, signal.SIGTERM))
    await turns(3)
    assert not opened.running.done()
    stage.client.deliver(ended(1, FAILS))
    assert joined(await opened.raised()) == ([cancelled()], {})


async def test_cancellation_while_the_block_waits(stage: Stage) -> None:
    opened = await block(stage)
    opened.end.set()
    await turns(3)
    opened.running.cancel()
    await turns(3)
    assert signals_to(stage, 0) == TERMINATED
    stage.client.deliver(ended(0, signal.SIGTERM))
    assert joined(await opened.raised()) == ([cancelled()], {})


@only("asyncio", reason=CANCELLED_TWICE)
async def test_second_cancellation_kills_at_once(stage: Stage) -> None:
    opened = await block(stage)
    for sent in (TERMINATED, KILLED, KILLED):
        opened.running.cancel()
        await turns(3)
        assert signals_to(stage, 0) == sent
        assert not opened.running.done()
    stage.client.deliver(ended(0, signal.SIGKILL))
    assert joined(await opened.raised()) == ([cancelled()], {})


async def test_kill_follows_after_the_grace(stage: Stage) -> None:
    opened = await block(stage, grace_s=0.01)
    killed = anyio.Event()
    stage.client.on_kill = lambda signum: killed.set() if signum == signal.SIGKILL else None
    opened.group.cancel()
    await killed.wait()
    assert signals_to(stage, 0) == KILLED
    stage.client.deliver(ended(0, signal.SIGKILL))
    await opened.running


async def test_no_grace_kills_at_once(stage: Stage) -> None:
    opened = await block(stage, grace_s=0)
    opened.group.cancel()
    assert signals_to(stage, 0) == [signal.SIGKILL]
    stage.client.deliver(ended(0, signal.SIGKILL))
    await opened.running


@pytest.mark.parametrize("place", ["body", "wait"])
@pytest.mark.parametrize("first", ["failure", "cancellation"])
async def test_failure_and_cancellation_in_one_iteration(
    stage: Stage, place: str, first: str
) -> None:
    opened = await block(stage, tasks=2)
    if place == "wait":
        opened.end.set()
    await turns(3)
    happenings: list[Callable[[], object]] = [
        lambda: stage.client.deliver(ended(0, FAILS)),
        opened.running.cancel,
    ]
    for happen in happenings if first == "failure" else happenings[::-1]:
        happen()
    await turns(3)
    assert opened.body_cancelled == (place == "body")
    stage.client.deliver(ended(1, signal.SIGTERM))
    assert joined(await opened.raised()) == ([cancelled()], {0: 3})


async def test_failure_behind_a_cancellation(stage: Stage) -> None:
    """One that had ended by itself, and was not heard of."""
    opened = await block(stage, tasks=2)
    stage.client.ended_unseen = {0}
    opened.running.cancel()
    await turns(3)
    stage.client.deliver(ended(1, signal.SIGTERM), ended(0, FAILS))
    assert joined(await opened.raised()) == ([cancelled()], {0: 3})


async def test_errors_of_nested_groups_come_with_a_cancellation(stage: Stage) -> None:
    """Those of the inner one, too."""

    async def body(opened: Block) -> None:
        async with stage.root.task_group(grace_s=3600) as inner:
            await stage.member(inner)
            await opened.wait()

    opened = await block(stage, body)
    await turns(3)
    stage.client.ended_unseen = {0, 1}
    opened.running.cancel()
    await turns(3)
    stage.client.deliver(ended(0, FAILS), ended(1, 4 << 8))
    assert joined(await opened.raised()) == ([cancelled()], {0: 3, 1: 4})


# By the group itself


async def test_cancel_ends_tasks_and_body_without_an_error(stage: Stage) -> None:
    opened = await block(stage, tasks=2)
    opened.group.cancel()
    opened.group.cancel()
    assert signals_to(stage, 0) == signals_to(stage, 1) == TERMINATED
    stage.client.deliver(ended(0, signal.SIGTERM), ended(1, FAILS))
    await opened.running
    assert opened.body_cancelled == 1
    opened.group.cancel()
    assert len(stage.calls("kill")) == 4


async def test_cancel_by_the_body_is_raised_at_its_next_wait(stage: Stage) -> None:
    went_on = []

    async def body(opened: Block) -> None:
        opened.group.cancel()
        went_on.append(1)
        await opened.wait()

    opened = await block(stage, body, tasks=0)
    await opened.running
    assert (went_on, opened.body_cancelled) == ([1], 1)


async def test_cancel_at_the_end_of_the_body_cancels_nothing_behind_it(stage: Stage) -> None:
    async with stage.root.task_group() as group:
        group.cancel()
    await turns(5)
    if not on_trio():
        assert cancelling() == 0


@only("asyncio-eager", reason="about tasks that begin within another one")
async def test_cancel_by_an_eager_task_cancels_nothing_behind_the_body(stage: Stage) -> None:
    async def cancel() -> None:
        group.cancel()

    async with stage.root.task_group() as group:
        job = start(cancel())
    await turns(5)
    await job


async def test_cancel_while_the_block_waits(stage: Stage) -> None:
    opened = await block(stage)
    opened.end.set()
    await turns(3)
    opened.group.cancel()
    assert signals_to(stage, 0) == TERMINATED
    stage.client.deliver(ended(0, signal.SIGTERM))
    await opened.running


async def test_cancel_before_the_block_does_nothing(stage: Stage) -> None:
    group = stage.root.task_group()
    group.cancel()
    async with group:
        await turns(3)


@only("asyncio", reason="trio cancels all that is awaited in the scope")
async def test_body_is_cancelled_once_and_may_wait_in_its_finally(stage: Stage) -> None:
    cleaned_up = []

    async def body(opened: Block) -> None:
        try:
            await opened.wait()
        finally:
            await turns(5)
            cleaned_up.append(1)

    opened = await block(stage, body, tasks=2)
    stage.client.ended_unseen = {1}
    stage.client.deliver(ended(0, FAILS))
    await turns(2)
    stage.client.deliver(ended(1, FAILS))
    assert failures(await opened.raised()) == {0: 3, 1: 3}
    assert (cleaned_up, opened.body_cancelled) == ([1], 1)


async def test_body_that_keeps_its_cancellation_to_itself(stage: Stage) -> None:
    async def body(opened: Block) -> None:
        try:
            await opened.wait()
        except cancelled():
            return

    opened = await block(stage, body)
    stage.client.deliver(ended(0, FAILS))
    assert failures(await opened.raised()) == {0: 3}


async def test_body_that_raises_when_it_is_cancelled(stage: Stage) -> None:
    async def body(opened: Block) -> None:
        try:
            await opened.wait()
        finally:
            raise KeyError

    opened = await block(stage, body)
    stage.client.deliver(ended(0, FAILS))
    error = await opened.raised()
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [aiopip.TaskFailed, KeyError]


async def test_exception_of_the_body_is_in_the_group(stage: Stage) -> None:
    opened = await block(stage, lambda opened: raise_behind(opened, KeyError()), tasks=1)
    opened.end.set()
    await turns(3)
    assert signals_to(stage, 0) == TERMINATED
    stage.client.deliver(ended(0, signal.SIGTERM))
    error = await opened.raised()
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [KeyError]


async def raise_behind(opened: Block, error: BaseException) -> None:
    await opened.end.wait()
    raise error


# What ends the program

ENDS_PROGRAM = pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])


@ENDS_PROGRAM
@pytest.mark.parametrize("failing", [False, True])
async def test_end_of_the_program_is_raised_alone(
    stage: Stage, kind: type[BaseException], failing: bool
) -> None:
    with pytest.raises(kind) as caught:
        async with stage.root.task_group(grace_s=3600) as group:
            await stage.member(group)
            if failing:
                stage.client.ended_unseen = {0}
            stage.client.post(ended(0, FAILS))
            raise kind
    assert joined(caught.value) == ([kind], {0: 3} if failing else {})


async def test_interrupt_in_the_wait_goes_before_a_cancellation(stage: Stage) -> None:
    """A KeyboardInterrupt is raised in whatever runs."""
    with pytest.raises(KeyboardInterrupt), anyio.CancelScope() as scope:
        async with stage.root.task_group(grace_s=3600) as group:
            await stage.member(group)
            interrupt_next_wait(stage, ended(0, signal.SIGKILL))
            scope.cancel()
            await anyio.sleep(1000)
    assert signals_to(stage, 0) == KILLED


async def test_interrupt_in_the_wait_is_raised_when_all_have_ended(stage: Stage) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with stage.root.task_group(grace_s=3600) as group:
            await stage.member(group)
            interrupt_next_wait(stage, ended(0, FAILS))
    assert signals_to(stage, 0) == TERMINATED
    assert not stage.core.live


def interrupt_next_wait(stage: Stage, then: Record) -> None:
    """Raise KeyboardInterrupt when events are taken next, and have one come behind that."""
    plain, calls = stage.client.drain, []

    def drain() -> list[Record]:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        if len(calls) == 2:
            stage.client.post(then)
        return plain()

    stage.client.drain = drain  # type: ignore[method-assign]


@pytest.mark.parametrize("place", ["body", "wait"])
async def test_coroutine_that_is_closed_kills_and_reaps_at_once(stage: Stage, place: str) -> None:
    waits = []

    async def hold() -> None:
        async with stage.root.task_group(grace_s=3600) as group:
            await stage.member(group)
            waits.append(place)
            if place == "body":
                await anyio.sleep(1000)

    stage.client.post_when_killed(ended(0, signal.SIGKILL))
    coroutine = hold()
    await Driven(coroutine, lambda: bool(waits))
    coroutine.close()
    assert signals_to(stage, 0) == [signal.SIGKILL]
    assert not stage.core.live


class Driven:
    """Run a coroutine by hand, up to where it waits next when a condition holds."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], enough: Callable[[], bool]) -> None:
        self._coroutine = coroutine
        self._enough = enough

    def __await__(self) -> Generator[Any, Any, None]:
        value = None
        while True:
            wanted = self._coroutine.send(value)
            if self._enough():
                return
            value = yield wanted


# Other blocks


async def fail_soon(stage: Stage, number: int, *others: int) -> None:
    """Have a task end with 3, and some others by SIGTERM behind that."""
    stage.client.deliver(ended(number, FAILS))
    await turns(3)
    stage.client.deliver(*[ended(other, signal.SIGTERM) for other in others])


def cancelling() -> int:
    """How many cancellations of the running asyncio task nobody has taken back."""
    task = asyncio.current_task()
    assert task is not None
    return int(getattr(task, "cancelling", int)())


@ASYNCIO
async def test_cancellation_by_the_group_is_taken_back(stage: Stage) -> None:
    with pytest.raises(ExceptionGroup):
        async with stage.root.task_group() as group:
            await stage.member(group)
            stage.client.post(ended(0, FAILS))
            await asyncio.sleep(1000)
    assert cancelling() == 0
    await turns(3)


@ASYNCIO
@TASKS_OF_3_11
async def test_timeout_around_a_group(stage: Stage) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with timeout(0) as late, stage.root.task_group(grace_s=3600) as group:
            late.reschedule(None)
            await stage.member(group)
            stage.client.ended_unseen = {0}
            stage.client.post_when_killed(ended(0, FAILS))
            late.reschedule(0)
            await asyncio.sleep(1000)
    # The first releases of Python 3.11 say so by the context.
    interruption = caught.value.__cause__ or caught.value.__context__
    assert joined(interruption) == ([asyncio.CancelledError], {0: 3})
    assert cancelling() == 0


@ASYNCIO
@TASKS_OF_3_11
async def test_timeout_within_a_group(stage: Stage) -> None:
    async with stage.root.task_group() as group:
        await stage.member(group)
        with pytest.raises(TimeoutError):
            async with timeout(0):
                await asyncio.sleep(1000)
        stage.client.post(ended(0))
    assert cancelling() == 0


@ASYNCIO
@TASKS_OF_3_11
async def test_group_in_a_task_group_of_asyncio(stage: Stage) -> None:
    async def fail() -> None:
        raise KeyError

    with pytest.raises(ExceptionGroup) as caught:
        async with TaskGroup() as outer, stage.root.task_group(grace_s=3600) as group:
            await stage.member(group)
            stage.client.post_when_killed(ended(0, signal.SIGTERM))
            outer.create_task(fail())
            await asyncio.sleep(1000)
    assert [type(one) for one in caught.value.exceptions] == [KeyError]
    assert cancelling() == 0


@ASYNCIO
@TASKS_OF_3_11
async def test_task_group_of_asyncio_in_a_group(stage: Stage) -> None:
    stopped = []

    async def run() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append(1)

    with pytest.raises(ExceptionGroup) as caught:
        async with stage.root.task_group() as group, TaskGroup() as inner:
            await stage.member(group)
            inner.create_task(run())
            await turns(3)
            stage.client.post(ended(0, FAILS))
    assert failures(caught.value) == {0: 3}
    assert (stopped, cancelling()) == ([1], 0)


async def test_group_in_a_group_of_anyio(stage: Stage) -> None:
    async def fail() -> None:
        raise KeyError

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as outer, stage.root.task_group() as group:
            await stage.member(group)
            stage.client.post_when_killed(ended(0, signal.SIGTERM))
            outer.start_soon(fail)
            await anyio.sleep(1000)
    assert [type(one) for one in caught.value.exceptions] == [KeyError]


async def test_group_of_anyio_in_a_group(stage: Stage) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with stage.root.task_group() as group, anyio.create_task_group() as inner:
            await stage.member(group)
            inner.start_soon(anyio.sleep, 1000)
            await turns(3)
            stage.client.post(ended(0, FAILS))
    assert failures(caught.value) == {0: 3}


async def test_inner_and_outer_group_end_in_one_iteration(stage: Stage) -> None:
    async def body(opened: Block) -> None:
        async with stage.root.task_group(grace_s=3600) as inner:
            await stage.member(inner)
            await opened.wait()

    for first in (0, 1):
        opened = await block(stage, body, tasks=1)
        await turns(3)
        numbers = (2 * first, 2 * first + 1)
        assert opened.group.live
        stage.client.deliver(*[ended(number, FAILS) for number in numbers[:: 1 - 2 * first]])
        error = await opened.raised()
        assert isinstance(error, ExceptionGroup)
        assert failures(error) == dict.fromkeys(numbers, 3)
        assert failures(error.exceptions[1]) == {numbers[0]: 3}


@pytest.mark.parametrize("first", ["scope", "group"])
async def test_scope_of_anyio_and_group_end_in_one_iteration(stage: Stage, first: str) -> None:
    """The body waits for a task of asyncio's, to which each cancellation is handed on."""
    raised = None
    awaited = start(anyio.sleep(1000))

    def both() -> None:
        happenings = [scope.cancel, lambda: stage.client.deliver(ended(0, FAILS))]
        for happen in happenings if first == "scope" else happenings[::-1]:
            happen()  # type: ignore[no-untyped-call]

    try:
        with anyio.CancelScope() as scope:
            async with stage.root.task_group(grace_s=3600) as group:
                await stage.member(group)
                stage.core.loop.call_later(0, both)
                await awaited
    except ExceptionGroup as error:
        raised = error
    # On asyncio the errors are the cause of the cancellation, unless the scope comes too late.
    assert scope.cancelled_caught if raised is None else failures(raised) == {0: 3}
    awaited.cancel()
    await turns(3)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks do not count their cancellations")
@only("asyncio", reason="trio's cancellation is taken by the innermost scope, which is a group's")
async def test_scope_of_anyio_and_nested_groups_end_in_one_iteration(stage: Stage) -> None:
    """The errors of the inner one are raised with those of the outer one."""
    raised: BaseException | None = None

    def all_at_once() -> None:
        stage.client.deliver(ended(1, FAILS), ended(0, FAILS))
        scope.cancel()

    with anyio.CancelScope() as scope:
        try:
            async with stage.root.task_group(grace_s=3600) as outer:
                await stage.member(outer)
                async with stage.root.task_group(grace_s=3600) as inner:
                    await stage.member(inner)
                    stage.core.loop.call_later(0, all_at_once)
                    await anyio.sleep(1000)
        except BaseException as error:
            raised = error
            raise
    assert joined(raised) == ([cancelled()], {0: 3, 1: 3})


# The Root goes first


async def test_root_is_aborted(stage: Stage) -> None:
    in_body, in_wait = await block(stage), await block(stage)
    in_wait.end.set()
    await turns(3)
    stage.client.on_abort += [ended(0, signal.SIGKILL), ended(1, signal.SIGKILL)]
    stage.root.abort()
    await in_wait.running
    with pytest.raises(aiopip.ClosedError):
        await in_body.group.spawn("program")
    in_body.end.set()
    await in_body.running


async def test_root_is_aborted_and_could_not_reap(stage: Stage) -> None:
    opened = await block(stage, grace_s=0.01)
    opened.group._end()
    stage.client.left_after_abort = 1
    stage.client.close_result = -16
    with pytest.raises(aiopip.TasksAliveError):
        stage.root.abort()
    calls = len(stage.client.calls)
    await opened.running
    await anyio.sleep(0.02)
    assert len(stage.client.calls) == calls


async def test_root_is_left_by_another_coroutine(stage: Stage) -> None:
    opened = await block(stage, tasks=2)
    leaving = await begun(stage.root.__aexit__(None, None, None))
    with pytest.raises(aiopip.ClosedError):
        await opened.group.spawn("program")
    stage.client.deliver(ended(0, FAILS))
    assert signals_to(stage, 1) == TERMINATED
    stage.client.deliver(ended(1, signal.SIGTERM))
    await leaving
    assert failures(await opened.raised()) == {0: 3}


# Wrong use


async def test_group_is_entered_once(stage: Stage) -> None:
    group = stage.root.task_group()
    with pytest.raises(aiopip.ClosedError, match="async with root"):
        await group.spawn("program")
    assert "not entered" in repr(group)
    async with group:
        with pytest.raises(aiopip.ClosedError, match="entered before"):
            await group.__aenter__()
    with pytest.raises(aiopip.ClosedError, match="entered before"):
        await group.__aenter__()
    assert await group.__aexit__(None, None, None) is False


async def test_other_thread_is_refused(stage: Stage) -> None:
    caught: list[object] = []

    def use() -> None:
        for call in (group.cancel, lambda: group.spawn("program").send(None)):
            with pytest.raises(aiopip.WrongThreadError) as refused:
                call()
            caught.append(refused)

    async with stage.root.task_group() as group:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(caught) == 2


async def test_forked_child_leaves_a_group(stage: Stage) -> None:
    group = stage.root.task_group()
    await group.__aenter__()
    await stage.member(group)

    def leave() -> None:
        with pytest.raises(aiopip.ForkedError):
            group.cancel()
        with pytest.raises(StopIteration) as returned:
            group.__aexit__(None, None, None).send(None)
        assert returned.value.value is True or returned.value.value is False

    check_in_fork(leave)
    assert stage.calls("kill") == []
    stage.client.post(ended(0))
    await group.__aexit__(None, None, None)


# What is left of it


@pytest.mark.parametrize("end", ["failure", "error", "cancelled", "failure in the wait", "quiet"])
async def test_no_reference_cycles(stage: Stage, end: str) -> None:
    """All is freed with the last reference, without the garbage collector."""
    watched: list[weakref.ref[Any]] = []

    class OfTheBodyError(Exception):
        pass

    async def run(scope: anyio.CancelScope) -> None:
        async with stage.root.task_group(grace_s=3600) as group:
            watched.append(weakref.ref(group))
            task = await stage.member(group)
            watched.append(weakref.ref(task))
            number = task.pipid
            del task
            stage.client.post_when_killed(ended(number, signal.SIGTERM))
            if end == "error":
                raise OfTheBodyError
            if end == "cancelled":
                scope.cancel()
            else:
                stage.client.post(ended(number, 0 if end == "quiet" else FAILS))
            if end in ("failure", "cancelled"):
                await anyio.sleep(1000)

    async def attempt() -> None:
        with anyio.CancelScope() as scope:
            try:
                await run(scope)
            except ExceptionGroup as error:
                watched.append(weakref.ref(error))
                watched.extend(weakref.ref(one) for one in error.exceptions)

    await attempt()
    await turns(3)
    watched.clear()
    gc.collect()
    gc.disable()
    try:
        await attempt()
        await turns(3)
        assert [one() for one in watched if one() is not None] == []
    finally:
        gc.enable()
