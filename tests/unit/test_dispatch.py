"""Calls on their way, without any worker: what an interruption may leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from aiopip._dispatch import Dispatcher, Job, Outcome
from aiopip._errors import ClosedError
from aiopip._ffi_calls import Calls
from aiopip._pickling import dump

if TYPE_CHECKING:
    from aiopip._ffi import Peer


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
