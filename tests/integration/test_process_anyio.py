"""A Task as `anyio.abc.Process`: what is done with anyio's own must do with ours."""

from __future__ import annotations

import signal
import subprocess
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.abc import Process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiopip

    Open = Callable[..., Awaitable[Process]]


@pytest.fixture(params=["aiopip", "anyio"])
def spawn(request: pytest.FixtureRequest, root: aiopip.Root) -> Open:
    """`Root.spawn`, and anyio's function with the same signature."""

    def open_process(*command: str, **options: Any) -> Awaitable[Process]:
        # Those of anyio are pipes by default.
        return anyio.open_process(command, **{**dict.fromkeys(STDIO), **options})

    return root.spawn if request.param == "aiopip" else open_process


STDIO = ("stdin", "stdout", "stderr")


async def received(stream: Any) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_dialogue(spawn: Open) -> None:
    async with await spawn("cat", stdin=PIPE, stdout=PIPE) as process:
        assert isinstance(process, Process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is None
        await process.stdin.send(b"one")
        assert await process.stdout.receive() == b"one"
        assert process.returncode is None
        await process.stdin.aclose()
        with pytest.raises(anyio.EndOfStream):
            await process.stdout.receive()
        assert await process.wait() == 0
    assert process.returncode == 0


async def test_the_way_of_run_process(spawn: Open) -> None:
    """Both outputs are received while the input is fed."""
    data, got = b"x" * 1_000_000, {}

    async def receive(name: str, stream: Any) -> None:
        got[name] = await received(stream)

    pipes = dict.fromkeys(STDIO, PIPE)
    line = "head -c 1000000 /dev/zero | tr '\\0' x >&2 & cat; wait"
    async with await spawn("sh", "-c", line, **pipes) as process:
        async with anyio.create_task_group() as group:
            group.start_soon(receive, "stdout", process.stdout)
            group.start_soon(receive, "stderr", process.stderr)
            assert process.stdin is not None
            await process.stdin.send(data)
            await process.stdin.aclose()
        await process.wait()
    assert got == {"stdout": data, "stderr": data}
    assert process.returncode == 0


async def test_leaving_the_block_closes_the_pipes_and_waits(spawn: Open) -> None:
    async with await spawn("cat", stdin=PIPE, stdout=DEVNULL) as process:
        pass
    assert process.returncode == 0
    async with await spawn("sh", "-c", "exit 3") as process:
        pass
    assert process.returncode == 3


async def test_cancelled_block_kills(spawn: Open) -> None:
    with anyio.CancelScope() as scope:
        async with await spawn("sleep", "1000", stdin=PIPE) as process:
            scope.cancel()
            await anyio.sleep(1000)
    assert scope.cancelled_caught
    assert process.returncode == -signal.SIGKILL


async def test_cancelled_while_the_block_waits_for_the_end(spawn: Open) -> None:
    process = await spawn("sleep", "1000")
    with anyio.move_on_after(0.05) as scope:
        async with process:
            pass
    assert scope.cancelled_caught
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
async def test_signals(spawn: Open, number: signal.Signals) -> None:
    process = await spawn("sleep", "1000")
    process.send_signal(number)
    assert await process.wait() == await process.wait() == -number


async def test_terminate_and_kill(spawn: Open) -> None:
    for end, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        async with await spawn("sleep", "1000", stdout=PIPE, stderr=PIPE) as process:
            getattr(process, end)()
            assert await process.wait() == -number


async def test_input_that_nobody_reads(root: aiopip.Root) -> None:
    """Of anyio's own the first send() may say nothing, on asyncio."""
    async with await root.spawn("true", stdin=PIPE) as process:
        assert process.stdin is not None
        await process.wait()
        with pytest.raises(anyio.BrokenResourceError):
            await process.stdin.send(b"x" * 1_000_000)  # more than a pipe holds


async def test_closed_pipe(spawn: Open) -> None:
    async with await spawn("cat", stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        await process.stdin.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await process.stdin.send(b"x")


async def test_what_is_not_there(spawn: Open) -> None:
    with pytest.raises(FileNotFoundError):
        await spawn("no-such-program-here", stdin=PIPE, stdout=PIPE)


async def test_stderr_goes_where_stdout_goes(spawn: Open) -> None:
    line = "echo 1; echo 2 >&2"
    async with await spawn("sh", "-c", line, stdout=PIPE, stderr=subprocess.STDOUT) as process:
        assert await received(process.stdout) == b"1\n2\n"
