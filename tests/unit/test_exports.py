"""A Root's exports: what is kept, and for how long; importers are played by the test."""

from __future__ import annotations

import errno
import gc
import weakref
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread
import pytest
from support import check_in_fork
from unit.fake_client import FakePeer

import aiopip
from aiopip._exports import Exports, collect_released
from aiopip._ffi import KEEP, READONLY
from aiopip._records import Released

if TYPE_CHECKING:
    from unit.fake_client import FakeClient, Stage

    from aiopip._ffi import Peer


class Memory(bytearray):
    """Memory whose end can be seen."""


def export(stage: Stage, name: str = "name") -> tuple[aiopip.Export, weakref.ref[Memory]]:
    memory = Memory(10)
    return stage.root.export(name, memory), weakref.ref(memory)


async def test_export_is_kept_without_a_reference(stage: Stage) -> None:
    made, memory = export(stage)
    assert (made.name, made.withdrawn, repr(made)) == ("name", False, "<aiopip.Export 'name'>")
    del made
    gc.collect()
    assert memory() is not None
    assert stage.client.exports.names == {b"name": 0}


async def test_withdrawn_export_goes_at_once_when_nobody_has_it(stage: Stage) -> None:
    made, memory = export(stage)
    made.withdraw()
    assert memory() is None
    assert made.withdrawn
    made.withdraw()
    assert repr(made) == "<aiopip.Export 'name' withdrawn>"


async def test_nothing_is_kept_of_what_was_withdrawn(stage: Stage) -> None:
    for _ in range(3):
        made, _memory = export(stage)
        made.withdraw()
    exports = stage.core.exports
    assert (exports._withdrawn, exports.published) == (set(), set())


async def test_withdrawn_export_stays_until_it_is_released(stage: Stage) -> None:
    (first, memory), (second, other) = export(stage), export(stage, "other")
    stage.client.exports.held |= {0, 1}
    first.withdraw()
    second.withdraw()
    stage.client.deliver(Released())
    assert memory() is not None
    stage.client.exports.held.remove(0)
    stage.client.deliver(Released())
    assert memory() is None
    assert other() is not None
    again, _ = export(stage)
    assert not again.withdrawn
    assert first.withdrawn


async def test_block_withdraws_also_by_an_exception(stage: Stage) -> None:
    made, memory = export(stage)
    with pytest.raises(ZeroDivisionError), made:
        _ = 1 / 0
    assert made.withdrawn
    assert memory() is None


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [
        (errno.EBUSY, aiopip.AlreadyExportedError, "'name' is exported already"),
        (errno.ESRCH, aiopip.ForkedError, "fork"),
        (errno.ENOSPC, aiopip.InvalidArgumentError, "a million exports"),
        (errno.ENOMEM, aiopip.CallError, "exporting 'name' failed"),
    ],
)
async def test_failed_export_keeps_nothing(
    stage: Stage, number: int, error: type[Exception], text: str
) -> None:
    stage.client.exports.export_result = -number
    memory = Memory(10)
    reference = weakref.ref(memory)
    with pytest.raises(error, match=text):
        stage.root.export("name", memory)
    del memory
    gc.collect()
    assert reference() is None


async def test_flags_say_what_may_be_written_and_nothing_of_keeping(stage: Stage) -> None:
    stage.root.export("bytes", b"x")
    stage.root.export("bytearray", bytearray(1))
    flags = [facts.flags & (READONLY | KEEP) for facts in stage.client.exports.facts.values()]
    assert flags == [READONLY, 0]


async def test_lock_can_be_exported(stage: Stage) -> None:
    lock = aiopip.Lock()
    stage.root.export("lock", lock)
    facts = stage.client.exports.facts[0]
    assert (facts.end - facts.start, facts.flags & READONLY, facts.start % 8) == (64, 0, 0)


async def test_all_goes_with_the_root(stage: Stage) -> None:
    made, memory = export(stage)
    stage.client.exports.held.add(0)
    stage.root.abort()
    assert memory() is None
    assert made.withdrawn
    assert stage.client.exports.closed
    made.withdraw()
    with pytest.raises(aiopip.ClosedError):
        stage.root.export("other", b"x")


async def test_what_a_core_that_is_left_open_has_stays(stage: Stage) -> None:
    _, memory = export(stage)
    stage.client.close_result = -errno.EBUSY
    stage.client.left_after_abort = 1
    with pytest.raises(aiopip.TasksAliveError):
        stage.root.abort()
    assert memory() is not None


async def test_names_are_free_again_when_a_core_is_left_open(stage: Stage) -> None:
    export(stage)
    stage.client.close_result = -errno.EBUSY
    stage.client.left_after_abort = 1
    with pytest.raises(aiopip.TasksAliveError):
        stage.root.abort()
    assert stage.client.exports.names == {}


async def test_what_tasks_of_others_have_stays_until_whoever_asks_is_told(stage: Stage) -> None:
    (_, memory), (_, other) = export(stage), export(stage, "other")
    peer = stage.client.exports
    peer.held |= {0, 1}
    peer.held_by_others |= {0, 1}
    stage.root.abort()
    assert peer.names == {}
    peer.held.clear()
    peer.held.add(1)
    collect_released(stage.core.peer)
    assert memory() is None
    assert other() is not None
    peer.held.clear()
    Exports(cast("Peer", FakePeer()), lambda: None)  # the next Root, of another core
    assert other() is None


async def test_root_that_cannot_be_opened_closes_its_client(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Exports, "announce", fail)
    with pytest.raises(ZeroDivisionError):
        await aiopip.Root().__aenter__()
    assert client.calls == [("close",)]
    monkeypatch.undo()
    async with aiopip.Root() as root:
        assert "open" in repr(root)


async def test_other_thread_and_forked_child_are_refused(stage: Stage) -> None:
    made, _ = export(stage)
    with pytest.raises(aiopip.WrongThreadError):
        await anyio.to_thread.run_sync(made.withdraw)
    assert not made.withdrawn

    def refused() -> None:
        with pytest.raises(aiopip.ForkedError):
            made.withdraw()

    check_in_fork(refused)


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", "a\0b", b"x", None, 3])
async def test_impossible_name_is_refused(stage: Stage, name: Any) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match=r"^name: "):
        stage.root.export(name, b"x")
    assert not stage.client.exports.names
