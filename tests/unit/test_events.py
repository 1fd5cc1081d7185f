"""Streams of events: what they give, in which order, and who has the core report it."""

from __future__ import annotations

import errno
import gc
import signal
from typing import TYPE_CHECKING

import pytest
from jobs import begun
from unit.fake_client import ended, started

import aiopip
from aiopip._records import Halted, Published, Resumed

if TYPE_CHECKING:
    from unit.fake_client import Stage


async def test_events_of_a_task_come_in_their_order(stage: Stage) -> None:
    stream = stage.root.events()
    task = await stage.task()
    stage.client.deliver(Halted(0, 1, 20), Resumed(0, 1), Published(0, 1), ended(0))
    assert [event async for event in stream_of(stage, stream)] == [
        aiopip.Stopped(task, signal.SIGTSTP),
        aiopip.Continued(task),
        aiopip.Exported(task),
        aiopip.Exited(task, aiopip.ExitStatus(0)),
    ]


def stream_of(stage: Stage, stream: aiopip.EventStream) -> aiopip.EventStream:
    """The stream, at its end behind what it holds."""
    stage.core.listeners.close()
    return stream


async def test_signal_is_a_member(stage: Stage) -> None:
    stream = stage.root.events()
    await stage.task()
    stage.client.deliver(Halted(0, 1, 19))
    event = await anext(stream)
    assert isinstance(event, aiopip.Stopped)
    assert event.signal is signal.SIGSTOP


async def test_what_comes_before_spawn_has_returned_is_told_behind_it(stage: Stage) -> None:
    stream = stage.root.events()
    spawn = await begun(stage.root.spawn("program"))
    stage.client.deliver(started(0), Halted(0, 1, 19), Published(0, 1), ended(0))
    task = await spawn
    assert [event async for event in stream_of(stage, stream)] == [
        aiopip.Stopped(task, signal.SIGSTOP),
        aiopip.Exported(task),
        aiopip.Exited(task, aiopip.ExitStatus(0)),
    ]


async def test_stop_behind_the_end_is_nobody_s(stage: Stage) -> None:
    stream = stage.root.events()
    await stage.task()
    stage.client.deliver(ended(0), Halted(0, 1, 19), Resumed(0, 1), Halted(0, 9, 19))
    assert isinstance(await anext(stream), aiopip.Exited)
    assert repr(stream) == "<aiopip.EventStream open, 0 waiting>"


async def test_core_reports_while_there_is_a_stream(stage: Stage) -> None:
    await stage.task()
    stage.client.deliver(Published(0, 1))
    assert stage.calls("listen") == []
    first, second = stage.root.events(), stage.root.events()
    assert stage.calls("listen") == [("listen", True)]
    del first
    gc.collect()
    stage.client.deliver(Halted(0, 1, 19))
    assert stage.calls("listen") == [("listen", True)]
    assert isinstance(await anext(second), aiopip.Stopped)
    del second
    gc.collect()
    stage.client.deliver(Halted(0, 1, 19))
    stage.client.deliver(Halted(0, 1, 19))
    assert stage.calls("listen") == [("listen", True), ("listen", False)]
    stage.root.events()
    assert stage.calls("listen")[2:] == [("listen", True)]


async def test_stream_dropped_by_a_cycle_is_none(stage: Stage) -> None:
    await stage.task()
    cycle: list[object] = [stage.root.events()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    stage.client.deliver(Resumed(0, 1))
    assert stage.calls("listen") == [("listen", True), ("listen", False)]


async def test_thread_that_cannot_be_started(stage: Stage) -> None:
    stage.client.listen_result = -errno.EAGAIN
    with pytest.raises(aiopip.CallError, match="watches for stops") as error:
        stage.root.events()
    assert error.value.errno == errno.EAGAIN
    stage.client.listen_result = 0
    stage.root.events()
    assert stage.calls("listen") == [("listen", True)] * 2
