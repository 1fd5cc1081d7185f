"""What a task has and does at a moment: `Task.memory()`, `Task.statistics()`."""

from __future__ import annotations

import errno
import os
import select
import signal
from typing import TYPE_CHECKING

import pytest
from integration.dialogue import Dialogue, talk
from integration.worker import work
from loops import only
from support import DEADLINE_S, PAGE, ready, until

import aiopip
from aiopip import _looking, _memory

if TYPE_CHECKING:
    from integration.conftest import Programs

pytestmark = only("asyncio", reason="nothing in it waits")

MIB = 1 << 20
SOME = 64 * MIB


async def test_memory_grows_and_shrinks_with_what_the_task_uses(root: aiopip.Root) -> None:
    async with work(root) as worker:
        before = worker.task.memory()
        assert 0 < before.anonymous_bytes <= before.resident_bytes
        await worker.do("import mmap")
        await worker.do(f"block = mmap.mmap(-1, {SOME}, flags=mmap.MAP_PRIVATE)")
        assert worker.task.memory().resident_bytes < before.resident_bytes + SOME / 2, "untouched"
        await worker.do(f"block.write(b'x' * {SOME})")
        full = worker.task.memory()
        assert full.anonymous_bytes > before.anonymous_bytes + 0.9 * SOME
        await worker.do("block.close()")
        assert worker.task.memory().anonymous_bytes < full.anonymous_bytes - 0.9 * SOME


async def test_memory_is_each_tasks_own(root: aiopip.Root, program: Programs) -> None:
    pause = program("pause")
    async with work(root) as worker:
        small = await ready(root, pause, "0")
        await until(lambda: small.statistics().state == "sleeping")
        before = small.memory()
        await worker.do(f"block = b'x' * {SOME}")
        assert small.memory() == before
        assert before.anonymous_bytes < MIB


async def test_shared_file_pages_are_resident_and_not_anonymous(root: aiopip.Root) -> None:
    async with work(root) as worker:
        before = worker.task.memory()
        await worker.do("import mmap")
        await worker.do(f"block = mmap.mmap(-1, {SOME})")  # shared
        await worker.do(f"block.write(b'x' * {SOME})")
        after = worker.task.memory()
        assert after.resident_bytes > before.resident_bytes + 0.9 * SOME
        assert after.anonymous_bytes < before.anonymous_bytes + 0.9 * SOME


async def test_memory_outside_the_window_counts(root: aiopip.Root) -> None:
    # More than half of a window goes to an extent.
    size = 3 << 30
    async with work(root) as worker:
        before = worker.task.memory()
        await worker.do("import mmap")
        await worker.do(f"block = mmap.mmap(-1, {size}, flags=mmap.MAP_PRIVATE)")
        await worker.do(f"[block.__setitem__(n * {PAGE}, 1) for n in range(1000)]")
        more = worker.task.memory().anonymous_bytes - before.anonymous_bytes
        assert more >= 1000 * PAGE


async def test_text_says_what_the_ioctl_says(root: aiopip.Root, program: Programs) -> None:
    task = await ready(root, program("pause"), "0")
    await until(lambda: task.statistics().state == "sleeping")
    spans = task._core.client.spans(task.pipid, task._state.generation)
    assert not isinstance(spans, int)
    assert _memory._read_smaps("self", spans) == task.memory()
    assert _memory._read_smaps(os.getpid(), spans) == _memory.of_spans(os.getpid(), spans)


async def test_more_regions_than_one_call_tells_are_told(
    root: aiopip.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with work(root) as worker:
        whole = worker.task.memory()
        monkeypatch.setattr(_memory, "REGIONS", 1)
        assert worker.task.memory() == whole


async def test_where_the_ioctl_is_refused_the_text_is_read(
    root: aiopip.Root, program: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await ready(root, program("pause"), "0")
    await until(lambda: task.statistics().state == "sleeping")
    memory = task.memory()
    monkeypatch.setattr(_memory, "SCAN", _memory.SCAN + 1)  # no such call: ENOTTY
    assert task.memory() == memory


async def test_task_that_has_left_has_the_memory_of_its_process(root: aiopip.Root) -> None:
    task = await root.spawn("sh", "-c", "exec sleep 600")
    await until(lambda: not task.shared, "it leaves by exec")
    memory = task.memory()
    assert 0 < memory.anonymous_bytes <= memory.resident_bytes < 50 * MIB


async def test_statistics_say_what_it_does(root: aiopip.Root) -> None:
    async with work(root) as worker:
        task = worker.task
        await until(lambda: task.statistics().state == "sleeping")
        before = task.statistics()
        assert before.threads == 1
        assert before.processor in range(os.cpu_count() or 1)
        await worker.do("import threading, time")
        await worker.do("go_on = threading.Event()")
        await worker.do("threading.Thread(target=go_on.wait, daemon=True).start()")
        assert task.statistics().threads == 2
        await worker.do("while time.process_time() < 0.5: pass")
        after = task.statistics()
        assert after.user_s + after.system_s >= 0.4
        assert after.minor_faults >= before.minor_faults
        task.stop()
        await until(lambda: task.statistics().state == "stopped")
        task.resume()


async def test_name_with_anything_in_it_confuses_nobody(root: aiopip.Root) -> None:
    async with work(root) as worker:
        await worker.do("open('/proc/self/comm', 'w').write(') R 1 (')")
        await until(lambda: worker.task.statistics().state == "sleeping")


async def test_task_that_has_ended_has_neither(root: aiopip.Root) -> None:
    task = await root.spawn("true")
    await task.wait()
    for look in (task.memory, task.statistics):
        with pytest.raises(aiopip.TaskEndedError, match="'true'") as caught:
            look()
        assert caught.value.errno == errno.ESRCH


async def test_end_that_nobody_has_heard_of_is_one(root: aiopip.Root, program: Programs) -> None:
    async with talk(Dialogue, root, program("pause"), "0") as dialogue:
        task = dialogue.task
        assert await dialogue.heard() == "ready"
        wait_without_the_loop(task.pid)
        for look in (task.memory, task.statistics):
            with pytest.raises(aiopip.TaskEndedError):
                look()
        assert task.status is None


def wait_without_the_loop(pid: int) -> None:
    """Kill a process, and wait until it is dead; the loop, which would hear of it, has no turn."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    ends = select.poll()
    ends.register(pidfd, select.POLLIN)
    assert ends.poll(DEADLINE_S * 1000)
    os.close(pidfd)


async def test_closed_root_tells_nothing() -> None:
    async with aiopip.Root(grace_s=0) as root:
        task = await root.spawn("sleep", "600")
        root.abort()
    for look in (task.memory, task.statistics):
        with pytest.raises((aiopip.TaskEndedError, aiopip.ClosedError)):
            look()


async def test_space_that_must_not_be_looked_at_is_an_error(
    root: aiopip.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/self/smaps")

    monkeypatch.setattr(_looking, "of_spans", refused)
    task = await root.spawn("sleep", "600")
    with pytest.raises(PermissionError, match=r"task .sleep. .* cannot be looked at") as caught:
        task.memory()
    assert isinstance(caught.value, aiopip.CallError)
    assert caught.value.filename == "/proc/self/smaps"
