"""A native client without processes, so that tests decide which event comes when.

It stands in for `aiopip._ffi.Client`.  `deliver` hands events over at once, within the running
iteration of the loop: that is how a test has a start and a cancellation, or an end and a
cancellation, meet in one iteration.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, cast

from aiopip._records import Ended, Failed, Failure, Record, Started, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiopip
    from aiopip._core import Core
    from aiopip._ffi import ArrayFacts, Hold, Peer
    from aiopip._request import SpawnRequest
    from aiopip._statistics import RootStatistics


class FakePeer:
    """Exports whose importers a test plays."""

    def __init__(self) -> None:
        self.pipid = -748
        self.address = id(self)
        self.facts: dict[int, ArrayFacts] = {}
        self.names: dict[bytes, int] = {}
        self.export_result = 0
        self.held: set[int] = set()
        """What somebody has: the test adds and removes."""
        self.held_by_others: set[int] = set()
        """What of it the tasks of another client of the core have."""
        self.closed = False
        self._withdrawn: set[int] = set()

    def export(self, name: bytes, facts: ArrayFacts) -> tuple[int, int]:
        if name.startswith(b"aiopip."):  # a Root's own
            return 0, -1
        if self.export_result or name in self.names:
            return self.export_result or -errno.EBUSY, 0
        number = len(self.facts)
        self.facts[number], self.names[name] = facts, number
        return 0, number

    def withdraw(self, export: int) -> int:
        self.names = {name: number for name, number in self.names.items() if number != export}
        if export in self.held:
            self._withdrawn.add(export)
            return 1
        return 0

    def released(self) -> list[int]:
        found = self._withdrawn - self.held
        self._withdrawn -= found
        return sorted(found)

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """Records what is asked of it, and answers as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.exports = FakePeer()
        self.requests: list[SpawnRequest] = []
        self.spawn_results: deque[int] = deque()
        """What the next spawns return; 0 when it is empty."""
        self.imports: dict[bytes, Hold | int] = {}
        self.kill_result = 0
        self.ended_unseen: set[int] = set()
        """Tasks that have ended, and of which no event has been drained: no signal reaches them."""
        self.group_result = 4711
        self.shares_result = 1
        self.spans_result: list[tuple[int, int]] | int = []
        self.listen_result = 0
        self.close_result = 0
        self.left_after_abort = 0
        self.on_abort: list[Record] = []
        self.on_kill: Callable[[int], None] = lambda _signal: None
        self.drain_now: Callable[[], None] = lambda: None
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._records: deque[Record] = deque()
        self._spawned = 0

    def fd(self) -> int:
        return self._eventfd

    def close(self) -> int:
        self.calls.append(("close",))
        os.close(self._eventfd)
        if self.close_result == 0:
            self.exports.held &= self.exports.held_by_others
        return self.close_result

    def abort(self, timeout_ms: int) -> int:
        self.calls.append(("abort", timeout_ms))
        self._records.extend(self.on_abort)
        return self.left_after_abort

    def spawn(self, request: SpawnRequest) -> tuple[int, int, int]:
        self.requests.append(request)
        result = self.spawn_results.popleft() if self.spawn_results else 0
        if result == 0:
            self._spawned += 1
        return result, self._spawned - 1, self._spawned

    def cancel(self, pipid: int, generation: int) -> int:
        self.calls.append(("cancel", pipid))
        return 0

    def kill(self, pipid: int, generation: int, signal: int) -> int:
        self.calls.append(("kill", pipid, signal))
        self.on_kill(signal)
        return -errno.ESRCH if pipid in self.ended_unseen else self.kill_result

    def group(self, pipid: int, generation: int) -> int:
        return self.group_result

    def kill_group(self, group: int, signal: int) -> int:
        self.calls.append(("kill_group", group, signal))
        return self.kill_result

    def shares(self, pipid: int, generation: int) -> int:
        return self.shares_result

    def acknowledge(self, pipid: int, generation: int) -> int:
        self.calls.append(("acknowledge", pipid))
        return 0

    def listen(self, on: bool) -> int:
        self.calls.append(("listen", on))
        return self.listen_result

    def drain(self) -> list[Record]:
        taken = [self._records.popleft() for _ in range(min(64, len(self._records)))]
        if not self._records:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._eventfd)
        return taken

    def named_import(self, pipid: int, generation: int, name: bytes) -> Hold | int:
        self.calls.append(("import", pipid, name))
        return self.imports.get(name, -errno.EAGAIN)

    def heed(self, socket: int) -> int:
        return 0

    def spans(self, pipid: int, generation: int) -> list[tuple[int, int]] | int:
        return self.spans_result

    def peer(self) -> Peer:
        return cast("Peer", self.exports)

    def statistics(self) -> RootStatistics:
        raise NotImplementedError

    # What a test does

    def post(self, *records: Record) -> None:
        """Have events wait; the loop finds them in its next iteration."""
        self._records.extend(records)
        os.eventfd_write(self._eventfd, 1)

    def post_when_killed(self, *records: Record) -> None:
        """Have events wait as soon as a signal has been sent to any task."""

        def post(_signal: int) -> None:
            self.on_kill = lambda _signal: None
            self.post(*records)

        self.on_kill = post

    def deliver(self, *records: Record) -> None:
        """Have events dispatched now."""
        self._records.extend(records)
        self.drain_now()


# Task number n of a FakeClient has PiP ID n and generation n + 1.


def started(number: int) -> Started:
    return Started(number, number + 1, 1000 + number)


def ended(
    number: int, wait_status: int = 0, *, lost: bool = False, left: bool = False, hold: bool = True
) -> Ended:
    usage = Usage(user_us=1500000)
    return Ended(number, number + 1, wait_status, True, lost, left, hold, 10, 20, usage)


def failed(number: int, failure: Failure = Failure.CANCELLED, error: int = 0) -> Failed:
    return Failed(number, number + 1, failure, error, "")


class Stage:
    """An open Root, its fake client, and what both need in a test."""

    def __init__(self, root: aiopip.Root, client: FakeClient) -> None:
        self.root = root
        self.client = client
        self.core = cast("Core", root._core)
        client.drain_now = self.core.drain

    async def task(self) -> aiopip.Task:
        """A started task: number 0, 1, 2 ... in the order of these calls."""
        number = len(self.client.requests)
        self.client.post(started(number))
        return await self.root.spawn("program")

    async def member(self, group: aiopip.TaskGroup, *, check: bool = True) -> aiopip.Task:
        """A started task of a group, numbered as by `task`."""
        self.client.post(started(len(self.client.requests)))
        return await group.spawn("program", check=check)

    def calls(self, *names: str) -> list[tuple[object, ...]]:
        """The calls of these names, in their order."""
        return [call for call in self.client.calls if call[0] in names]
