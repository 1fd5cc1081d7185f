"""The native core's events, decoded by their bytes, say what their fields say."""

from __future__ import annotations

import signal

from aiopip._decode import EVENT_BYTES, decode
from aiopip._native import ffi, lib
from aiopip._records import Ended, Failed, Halted, Started, Usage


def test_events_are_decoded_by_their_place() -> None:
    events = ffi.new("struct aiopip_event[4]")
    taken = memoryview(ffi.buffer(events))
    for number, event in enumerate(events[0:4]):
        event.pipid = number
        event.generation = 2**40 + number
        event.pid = 4711
    events[0].kind = lib.AIOPIP_EVENT_STARTED
    events[1].kind = lib.AIOPIP_EVENT_FAILED
    events[1].failure, events[1].error, events[1].detail = 3, 13, "ü".encode()
    events[2].kind = lib.AIOPIP_EVENT_STOPPED
    events[2].wait_status = signal.SIGTSTP << 8 | 0x7F
    ended = events[3]
    ended.kind = lib.AIOPIP_EVENT_EXITED
    ended.wait_status = 9
    ended.flags = lib.AIOPIP_EVENT_LOADED | lib.AIOPIP_EVENT_LEFT
    ended.started_ns, ended.ended_ns = 2**50, 2**50 + 1
    usage = Usage(*range(1, 10))
    for name, value in usage._asdict().items():
        setattr(ended, name, value)
    assert [decode(taken, number * EVENT_BYTES) for number in range(4)] == [
        Started(0, 2**40, 4711),
        Failed(1, 2**40 + 1, 3, 13, "ü"),
        Halted(2, 2**40 + 2, signal.SIGTSTP),
        Ended(3, 2**40 + 3, 9, True, False, True, False, 2**50, 2**50 + 1, usage),
    ]
