"""this_task().signals(): a task awaits its signals, on every kind of loop."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from integration.worker import Told, work
from support import DEADLINE_S, PROGRAMS, is_gone, until

if TYPE_CHECKING:
    import aiopip

LOOPS = [("asyncio",), ("asyncio", "uvloop"), ("trio",)]

PREPARE = """
    import signal, time
    me = aiopip.this_task()
    async def listen(*numbers): return me.signals(*numbers)
"""

CALLED = """
    came = []
    signal.signal(signal.SIGUSR1, lambda *_: came.append("handler"))
"""


class Lines:
    """What a task writes, line by line."""

    def __init__(self, task: aiopip.Task) -> None:
        assert task.stdout is not None
        self._stream = BufferedByteReceiveStream(task.stdout)

    async def next(self) -> bytes:
        with anyio.fail_after(DEADLINE_S):
            return await self._stream.receive_until(b"\n", 1000)


@pytest.mark.parametrize("loop", LOOPS, ids="-".join)
async def test_signals_are_awaited(root: aiopip.Root, loop: tuple[str, ...]) -> None:
    program = PROGRAMS / "signals.py"
    task = await root.spawn(sys.executable, program, *loop, stdout=subprocess.PIPE)
    lines = Lines(task)
    assert await lines.next() == b"ready"
    for number in (signal.SIGUSR1, signal.SIGRTMIN + 3, signal.SIGUSR1, signal.SIGTERM):
        task.send_signal(number)
        shown = repr(number) if isinstance(number, signal.Signals) else str(number)
        assert await lines.next() == shown.encode()
    assert await lines.next() == b"True"
    assert await task.wait() == 0


async def test_signals_are_kept_until_somebody_asks(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do("stream = await listen(signal.SIGUSR1, signal.SIGUSR2)")
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            worker.task.send_signal(number)
            # Two of one number that are pending at once would be one.
            await worker.until(f"stream._items and stream._items[-1] == {int(number)}")
        assert await worker.do("[(await anext(stream)).name for _ in range(3)]") == [
            "SIGUSR1",
            "SIGUSR2",
            "SIGUSR1",
        ]


async def test_every_stream_has_each_signal(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do("streams = [await listen(signal.SIGUSR1) for _ in range(3)]")
        worker.task.send_signal(signal.SIGUSR1)
        assert await worker.do("[(await anext(one)).name for one in streams]") == ["SIGUSR1"] * 3


@pytest.mark.parametrize("end", ["stream.close()", "del stream", "stream.__exit__()"])
async def test_handler_comes_back_with_the_end(root: aiopip.Root, end: str) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do(CALLED)
        await worker.do("stream = await listen(signal.SIGUSR1)")
        await worker.do("other = await listen(signal.SIGUSR1)")
        await worker.do("other.close()")
        worker.task.send_signal(signal.SIGUSR1)
        assert await worker.do("repr(await anext(stream))") == repr(signal.SIGUSR1)
        await worker.do(end)
        worker.task.send_signal(signal.SIGUSR1)
        await worker.until("came == ['handler']")


async def test_closed_stream_gives_what_had_come_and_ends(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do("stream = await listen(signal.SIGUSR1)")
        worker.task.send_signal(signal.SIGUSR1)
        await worker.until("len(stream._items) == 1")
        await worker.do("stream.close()")
        assert await worker.do("[number.name async for number in stream]") == ["SIGUSR1"]


async def test_stream_dropped_in_another_thread_gives_the_signal_back(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do(CALLED)
        await worker.do("""
            held = [await listen(signal.SIGUSR1)]
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        """)
        worker.task.send_signal(signal.SIGUSR1)
        await worker.until("came == ['handler']")


async def test_handler_set_by_others_meanwhile_stays(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do("stream = await listen(signal.SIGUSR1)")
        await worker.do(CALLED)
        await worker.do("stream.close()")
        worker.task.send_signal(signal.SIGUSR1)
        await worker.until("came == ['handler']")


async def test_forked_child_has_the_old_handler(root: aiopip.Root) -> None:
    async with work(root, PREPARE) as worker:
        await worker.do("stream = await listen(signal.SIGTERM)")
        await worker.do("reader, writer = os.pipe()")
        pid = await worker.do(
            "os.fork() or (os.write(writer, b'forked'), time.sleep(60), os._exit(1))"
        )
        # It gets its handler back within fork(): a signal that came before would find ours.
        await worker.do("os.read(reader, 6)")
        await worker.do(f"os.kill({pid}, signal.SIGTERM)")
        await until(lambda: is_gone(pid), "the child ends by SIGTERM")
        assert await worker.do(f"os.waitpid({pid}, 0)[1]") == signal.SIGTERM
        assert await worker.do("len(stream._items)") == 0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("await listen()", "InvalidArgumentError: signals: there is none"),
        ("await listen(signal.SIGKILL)", "SIGKILL.*cannot be caught"),
        ("await listen(signal.SIGSTOP)", "SIGSTOP.*cannot be caught"),
        ("await listen(0)", "InvalidArgumentError: signals: 0 is no signal"),
        ("await listen(32)", "32 is no signal"),
        ("await listen('SIGUSR1')", "TypeError: signals: 'SIGUSR1' is no integer"),
        ("await listen(True)", "TypeError: signals: True"),
        (
            "await asyncio.to_thread(asyncio.run, listen(signal.SIGUSR1))",
            "WrongThreadError: signals",
        ),
        ("me.signals(signal.SIGUSR1)", "RuntimeError: no running event loop"),
    ],
)
async def test_what_cannot_be_awaited_is_refused(root: aiopip.Root, source: str, text: str) -> None:
    async with work(root, PREPARE) as worker:
        with pytest.raises(Told, match=text):
            await worker.do(source)
        assert await worker.do("signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL")
