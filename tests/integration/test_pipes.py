"""Pipes to and from tasks: stdin=PIPE, stdout=PIPE, stderr=PIPE."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextReceiveStream
from jobs import begun, cancelled, gather, start, turns
from support import DEADLINE_S, children, descriptor_count, run_python, still_works

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs

    from aiopip._pipes import ReceivePipe, SendPipe


def out(task: aiopip.Task) -> ReceivePipe:
    assert task.stdout is not None
    return task.stdout


def err(task: aiopip.Task) -> ReceivePipe:
    assert task.stderr is not None
    return task.stderr


def into(task: aiopip.Task) -> SendPipe:
    assert task.stdin is not None
    return task.stdin


async def all_of(pipe: ReceivePipe) -> bytes:
    return b"".join([data async for data in pipe])


# Data


async def test_much_data_both_ways_at_once(root: aiopip.Root) -> None:
    data = os.urandom(10 << 20)

    async def send(task: aiopip.Task) -> bytes:
        await into(task).send(data)
        await into(task).aclose()
        return b""

    async def one() -> None:
        async with await root.spawn("cat", stdin=PIPE, stdout=PIPE) as task:
            assert (await gather(send(task), all_of(out(task))))[1] == data
        assert task.returncode == 0

    await gather(one(), one())


async def test_three_pipes(root: aiopip.Root) -> None:
    line = "read line; echo out $line; echo err $line >&2"
    task = await root.spawn("sh", "-c", line, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    await into(task).send(b"here\n")
    assert await all_of(out(task)) == b"out here\n"
    assert await all_of(err(task)) == b"err here\n"
    assert await task.wait() == 0
    await task.aclose()


async def test_only_what_is_asked_for(root: aiopip.Root) -> None:
    task = await root.spawn("true", stdin=DEVNULL)
    assert (task.stdin, task.stdout, task.stderr) == (None, None, None)
    task = await root.spawn("sh", "-c", "echo x >&2", stdout=PIPE, stderr=subprocess.STDOUT)
    assert task.stderr is None
    assert await all_of(out(task)) == b"x\n"
    await task.aclose()


async def test_receive_gives_what_there_is(root: aiopip.Root) -> None:
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE)
    await into(task).send(b"abcdef")
    assert await out(task).receive(4) == b"abcd"
    assert await out(task).receive(4) == b"ef"
    for wrong in (0, -1):
        with pytest.raises(aiopip.InvalidArgumentError, match="max_bytes"):
            await out(task).receive(wrong)
    await into(task).send(memoryview(b"xyz").cast("B"))  # type: ignore[arg-type]
    await into(task).send(b"")
    assert await out(task).receive() == b"xyz"
    await into(task).aclose()
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await out(task).receive()
    await task.aclose()


async def test_streams_of_anyio_take_them(root: aiopip.Root) -> None:
    async with await root.spawn("printf", "ä\\nb\\n", stdout=PIPE) as task:
        assert isinstance(task, Process)
        assert "".join([text async for text in TextReceiveStream(out(task))]) == "ä\nb\n"
    async with await root.spawn("printf", "a\\nb", stdout=PIPE) as task:
        lines = BufferedByteReceiveStream(out(task))
        assert await lines.receive_until(b"\n", 10) == b"a"
        with pytest.raises(anyio.IncompleteRead):
            await lines.receive_until(b"\n", 10)


async def test_cancelled_receive_loses_nothing(root: aiopip.Root) -> None:
    data = os.urandom(1 << 20)
    got = bytearray()
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE)

    async def send() -> None:
        await into(task).send(data)

    sending = start(send())
    count = 0
    while len(got) < len(data):
        receiving = start(out(task).receive(10_000))
        await turns(count % 4)
        count += 1
        receiving.cancel()
        try:
            got += await receiving
        except cancelled():
            if count % 7 == 0:
                got += await out(task).receive()
    await sending
    assert got == data
    await task.aclose()


# Ends


async def test_task_closes_its_stdin(root: aiopip.Root) -> None:
    task = await root.spawn("sh", "-c", "exec <&-; echo; exec sleep 1000", stdin=PIPE, stdout=PIPE)
    assert await out(task).receive() == b"\n"
    with pytest.raises(anyio.BrokenResourceError):
        await into(task).send(b"x")
    task.kill()
    await task.aclose()


async def test_task_ends_while_much_is_sent(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000", stdin=PIPE)
    sending = await begun(into(task).send(bytes(1 << 20)))
    await turns(3)
    assert not sending.done()
    task.kill()
    with pytest.raises(anyio.BrokenResourceError):
        await sending
    await task.aclose()


async def test_closing_ends_who_waits(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000", stdin=PIPE, stdout=PIPE)
    receiving = await begun(out(task).receive())
    sending = await begun(into(task).send(bytes(1 << 20)))
    await turns(3)
    for busy in (out(task).receive(), into(task).send(b"x")):
        with pytest.raises(anyio.BusyResourceError):
            await busy
    await out(task).aclose()
    await into(task).aclose()
    for waiting in (receiving, sending):
        with pytest.raises(anyio.ClosedResourceError):
            await waiting
    for closed in (out(task).receive(), into(task).send(b"x"), into(task).send(b"")):
        with pytest.raises(anyio.ClosedResourceError):
            await closed
    assert "closed" in repr(task.stdout)
    await out(task).aclose()
    task.kill()
    await task.aclose()


async def test_aclose_closes_and_waits(root: aiopip.Root) -> None:
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    before = descriptor_count()
    await task.aclose()
    assert task.returncode == 0
    assert descriptor_count() == before - 3
    assert not root.tasks


async def test_cancelled_aclose_kills_and_reaps(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000", stdout=PIPE)
    with anyio.move_on_after(0.01) as scope:
        async with task:
            pass
    assert scope.cancelled_caught
    assert (task.returncode, children()) == (-9, set())


async def test_cancelled_aclose_is_no_failure_of_a_group(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        task = await group.spawn("sleep", "1000", stdout=PIPE)
        with anyio.move_on_after(0.01):
            async with task:
                pass
    assert task.returncode == -9


# Descriptors


async def test_ends_are_inherited_by_nobody_else(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE)
    other = await root.spawn("sleep", "1000", stdin=DEVNULL)
    line = ["sleep", "1000"]
    with subprocess.Popen(line, close_fds=False) as child:  # noqa: ASYNC220  anyio's closes them
        await into(task).aclose()
        with pytest.raises(anyio.EndOfStream):
            await out(task).receive()
        child.kill()
    report = await root.spawn(program("descriptors"), tmp_path / "report", stdin=PIPE, stderr=PIPE)
    assert await report.wait() == 0
    lines = (tmp_path / "report").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    other.kill()
    await task.aclose()


async def test_task_s_ends_block(root: aiopip.Root) -> None:
    source = "import os; print([os.get_blocking(number) for number in range(3)])"
    task = await root.spawn(sys.executable, "-c", source, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await all_of(out(task)) == b"[True, True, True]\n"
    assert await task.wait() == 0


async def test_dropped_pipes_are_closed(root: aiopip.Root) -> None:
    before = descriptor_count()
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert descriptor_count() == before + 3
    task.kill()
    await task.wait()
    del task
    await turns(2)
    gc.collect()
    assert descriptor_count() == before


@pytest.mark.parametrize("wrong", [{"program": "/no/such"}, {"cwd": "/no/such"}, {"pipid": 9999}])
async def test_failed_spawn_closes_all_ends(root: aiopip.Root, wrong: dict[str, Any]) -> None:
    before = descriptor_count()
    options = {"program": "true", **wrong}
    with pytest.raises(aiopip.AiopipError) as caught:
        await root.spawn(stdin=PIPE, stdout=PIPE, stderr=PIPE, **options)
    assert descriptor_count() == before
    assert caught.value.__traceback__ is not None


async def test_cancelled_spawn_closes_all_ends(root: aiopip.Root) -> None:
    before = descriptor_count()
    for count in range(8):
        spawning = start(root.spawn("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE))
        await turns(count)
        spawning.cancel()
        try:
            await (await spawning).aclose()
        except cancelled():
            pass
        del spawning
        await turns(1)
        assert descriptor_count() == before


@pytest.mark.parametrize("free", range(6))
async def test_no_descriptor_is_left_for_a_pipe(root: aiopip.Root, free: int) -> None:
    """Each option in its turn; a pipe is two descriptors."""
    await still_works(root)
    before = descriptor_count()
    taken = sorted(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208  numbers are wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fill = [os.open("/dev/null", os.O_RDONLY) for _ in range(taken[-1] + 8 - len(taken))]
    last = max(fill)
    for number in sorted(fill)[-free:] if free else []:
        os.close(number)
        fill.remove(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
    try:
        with pytest.raises(aiopip.SpawnOptionError) as caught:
            await root.spawn("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in fill:
            os.close(number)
    assert caught.value.errno == errno.EMFILE
    assert caught.value.option == ("stdin", "stdout", "stderr")[free // 2]
    assert "'cat'" in str(caught.value)
    assert "RLIMIT_NOFILE" in str(caught.value)
    assert descriptor_count() == before
    await still_works(root)


# What a TaskFailed looks at


async def test_tail_takes_nothing_away(root: aiopip.Root) -> None:
    task = await root.spawn("sh", "-c", "printf 0123456789 >&2", stderr=PIPE)
    await task.wait()
    assert err(task).tail() == b"0123456789"
    assert await err(task).receive(4) == b"0123"
    assert err(task).tail() == b"0123456789"
    assert await err(task).receive() == b"456789"
    with pytest.raises(anyio.EndOfStream):
        await err(task).receive()
    await task.aclose()
    assert err(task).tail() == b"0123456789"
    with pytest.raises(anyio.ClosedResourceError):
        await err(task).receive()


@pytest.mark.parametrize("held", [False, True])
async def test_tail_leaves_who_waits_what_it_has_read(root: aiopip.Root, held: bool) -> None:
    """Whether the pipe is at its end then, or somebody still has it."""
    line = "read line; echo said >&2" + ("; sleep 1000 & echo" if held else "; exec 2>&-; echo")
    options: Any = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "process_group": 0}
    task = await root.spawn("sh", "-c", line + "; read line", **options)
    receiving = await begun(err(task).receive())
    await into(task).send(b"\n")
    # Nobody else runs from the moment that it has been written to that at which it is looked at.
    while not err(task).tail():
        os.sched_yield()
    with anyio.fail_after(DEADLINE_S):
        assert await receiving == b"said\n"
    root.signal_group(task, signal.SIGKILL)
    await task.aclose()


# Handed on


async def test_chain_of_tasks(root: aiopip.Root) -> None:
    """Programs want their stdin to block: the producer keeps them waiting."""
    producer = await root.spawn("sh", "-c", "echo b; sleep 0.2; echo a", stdout=PIPE)
    between = out(producer)
    middle = await root.spawn("sort", stdin=between, stdout=PIPE)
    assert between.closed
    with pytest.raises(anyio.ClosedResourceError):
        await between.receive()
    last = await root.spawn("tr", "a-z", "A-Z", stdin=middle.stdout, stdout=PIPE)
    assert await all_of(out(last)) == b"A\nB\n"
    assert [await task.wait() for task in (producer, middle, last)] == [0, 0, 0]


async def test_chain_from_its_end(root: aiopip.Root) -> None:
    last = await root.spawn("sort", stdin=PIPE, stdout=PIPE)
    assert await (await root.spawn("printf", "b\\na\\n", stdout=last.stdin)).wait() == 0
    assert await all_of(out(last)) == b"a\nb\n"


async def test_pipe_is_not_handed_on_by_a_spawn_that_fails(root: aiopip.Root) -> None:
    task = await root.spawn("cat", stdin=PIPE, stdout=PIPE)
    with pytest.raises(aiopip.ProgramNotFoundError):
        await root.spawn("no such program", stdin=task.stdout)
    assert not os.get_blocking(out(task).fileno())
    await into(task).send(b"here")
    assert await out(task).receive() == b"here"


async def test_closed_pipe_is_not_handed_on(root: aiopip.Root) -> None:
    async with await root.spawn("true", stdout=PIPE) as task:
        await out(task).aclose()
        with pytest.raises(aiopip.InvalidArgumentError, match=r"stdin: .*ReceivePipe.*is closed"):
            await root.spawn("cat", stdin=task.stdout)


def test_pipes_where_the_standard_descriptors_are_closed() -> None:
    """They take the numbers 0 to 2, which the next task would inherit, and hold open."""
    done = run_python("""
        import asyncio, os, aiopip
        from subprocess import PIPE

        async def main():
            async with aiopip.Root() as root:
                os.close(0)
                first = await root.spawn("cat", stdin=PIPE, stdout=PIPE)
                second = await root.spawn("sleep", "1000")
                assert min(first.stdin.fileno(), first.stdout.fileno()) > 2
                await first.stdin.aclose()
                print(await first.wait())
                second.kill()

        asyncio.run(main())
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)
