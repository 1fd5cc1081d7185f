"""`Root.run`: a program run to its end, with what it wrote."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration.usage import nothing_stays
from jobs import begun, cancelled, gather, turns
from support import children, is_gone, settled, still_works, until

import aiopip

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import Programs

MEBIBYTE = b"0123456789abcde\n" * 65536


async def test_it_gives_status_and_outputs(root: aiopip.Root) -> None:
    done = await root.run("sh", "-c", "echo out; echo err >&2")
    assert done == aiopip.Completed(aiopip.ExitStatus(0), b"out\n", b"err\n")
    assert isinstance(done.status, aiopip.ExitStatus)
    assert done.status.ended_ns > done.status.started_ns
    with pytest.raises(dataclasses.FrozenInstanceError):
        done.stdout = b""  # type: ignore[misc]


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), b""])
async def test_input_is_fed(root: aiopip.Root, data: Any) -> None:
    assert (await root.run("cat", input=data)).stdout == bytes(data)


async def test_much_in_all_directions(root: aiopip.Root) -> None:
    done = await root.run("tee", "/dev/stderr", input=MEBIBYTE)
    assert (done.stdout, done.stderr) == (MEBIBYTE, MEBIBYTE)


async def test_program_need_not_read_its_input(root: aiopip.Root) -> None:
    for line in ("exit 0", "exec 0<&-; exit 0", "head -c 1 >/dev/null"):
        assert (await root.run("sh", "-c", line, input=MEBIBYTE)).status == 0


async def test_without_input_stdin_is_as_in_spawn(root: aiopip.Root, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as file:
        assert (await root.run("cat", stdin=file)).stdout == b"from a file"
    assert (await root.run("cat", stdin=subprocess.DEVNULL)).stdout == b""
    assert (await root.run("cat", stdin=subprocess.PIPE)).stdout == b""


async def test_outputs_may_go_elsewhere(root: aiopip.Root, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        done = await root.run("echo", "x", stdout=file, stderr=None)
    assert (done.stdout, done.stderr) == (None, None)
    assert (tmp_path / "out").read_bytes() == b"x\n"
    both = await root.run("sh", "-c", "echo 1; echo 2 >&2", stderr=subprocess.STDOUT)
    assert (both.stdout, both.stderr) == (b"1\n2\n", None)


async def test_options_are_those_of_spawn(root: aiopip.Root, tmp_path: Path) -> None:
    line = 'pwd -P; echo "$0 $A"'
    done = await root.run(
        "/bin/sh", "-c", line, "zero", cwd=tmp_path, env={"A": "b"}, new_session=True, pipid=7
    )
    assert done.stdout == f"{tmp_path}\nzero b\n".encode()


async def test_failure_is_raised_with_what_was_written(root: aiopip.Root) -> None:
    with pytest.raises(aiopip.TaskFailed, match="exited with 3") as caught:
        await root.run("sh", "-c", "cat; echo why >&2; exit 3", input=b"out")
    error = caught.value
    assert (error.status, error.program, error.stdout, error.stderr) == (3, "sh", b"out", b"why\n")
    assert "why" in str(error)
    with pytest.raises(aiopip.TaskFailed, match="SIGTERM"):
        await root.run("sh", "-c", "kill $$")


async def test_failure_is_a_result_without_check(root: aiopip.Root) -> None:
    done = await root.run("sh", "-c", "echo x; exit 3", check=False)
    assert (done.status, done.stdout) == (3, b"x\n")
    assert (await root.run("sh", "-c", "kill -9 $$", check=False)).status == -9


async def timed_out(root: aiopip.Root, *command: str | Path) -> aiopip.TaskTimeoutError:
    """The error of a program that says something and goes on; it gets the time for that."""
    timeout_s = 0.1
    while True:
        with pytest.raises(aiopip.TaskTimeoutError) as caught:
            await root.run(*command, timeout_s=timeout_s)
        assert caught.value.timeout_s == timeout_s
        if caught.value.stdout:
            return caught.value
        timeout_s *= 4


async def test_timeout_kills_and_tells_what_was_written(root: aiopip.Root) -> None:
    error = await timed_out(root, "sh", "-c", "echo err >&2; echo $$; exec sleep 1000")
    assert isinstance(error, TimeoutError)
    assert (error.errno, error.program, error.stderr) == (errno.ETIMEDOUT, "sh", b"err\n")
    assert "err" in str(error)
    assert error.stdout is not None
    assert is_gone(int(error.stdout))
    await still_works(root)


async def test_timeout_that_is_over_at_once(root: aiopip.Root) -> None:
    before = children()
    with pytest.raises(aiopip.TaskTimeoutError) as caught:
        await root.run("sleep", "1000", timeout_s=0, stderr=None)
    assert (caught.value.stdout, caught.value.stderr) == (b"", None)
    assert children() == before


async def test_timeout_while_a_grandchild_has_the_pipe(root: aiopip.Root) -> None:
    """Nobody waits for that one: it may live for ever."""
    error = await timed_out(root, "sh", "-c", "sleep 60 & echo $!; wait")
    assert error.stdout is not None
    os.kill(int(error.stdout), signal.SIGKILL)


async def test_what_is_in_time_is_in_time(root: aiopip.Root) -> None:
    assert (await root.run("echo", "x", timeout_s=1000)).stdout == b"x\n"


async def test_pipe_of_a_grandchild_is_waited_for(root: aiopip.Root, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    line = '(until [ -e "$0" ]; do sleep 0.01; done; echo late) & echo early'
    job = await begun(root.run("sh", "-c", line, mark))
    await until(lambda: root.statistics().ended == 1)
    assert not job.done()
    mark.touch()
    assert (await job).stdout == b"early\nlate\n"


async def test_cancelled_run_kills(root: aiopip.Root, tmp_path: Path) -> None:
    before = children()
    for iterations in (0, 1, 3, 6, 12, 24):
        job = await begun(root.run("sleep", "1000", input=MEBIBYTE))
        await turns(iterations)
        job.cancel()
        with pytest.raises(cancelled()):
            await job
        assert children() == before, iterations


async def test_wrong_arguments(root: aiopip.Root) -> None:
    with pytest.raises(TypeError, match="encode"):
        await root.run("cat", input="text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes-like"):
        await root.run("cat", input=17)  # type: ignore[arg-type]
    with pytest.raises(aiopip.InvalidArgumentError, match="stdin"):
        await root.run("cat", input=b"", stdin=subprocess.DEVNULL)
    for timeout_s in (-1, float("nan")):
        with pytest.raises(aiopip.InvalidArgumentError, match="timeout_s"):
            await root.run("true", timeout_s=timeout_s)
    with pytest.raises(FileNotFoundError):
        await root.run("no-such-program-here", input=MEBIBYTE)
    with pytest.raises(aiopip.SpawnOptionError, match="cwd"):
        await root.run("true", cwd="/no/such/folder")
    await still_works(root)


async def test_no_wait_any_is_given_it(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "0.05")
    await root.run("true")
    assert await root.wait_any() is task
    with pytest.raises(aiopip.NoTasksError):
        await root.wait_any()


async def test_closed_root_runs_nothing(anyio_backend: object) -> None:
    async with aiopip.Root() as root:
        pass
    with pytest.raises(aiopip.ClosedError):
        await root.run("true")


async def test_root_that_is_left_ends_it(anyio_backend: object) -> None:
    async with aiopip.Root(grace_s=0) as root:
        job = await begun(root.run("sleep", "1000"))
        await until(lambda: len(root.tasks) == 1)
        root.kill_all()
        with pytest.raises(aiopip.TaskFailed, match="SIGKILL"):
            await job


# In a group


async def test_group_runs_a_program(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        done = await group.run("cat", input=b"x")
        assert (done.status, done.stdout) == (0, b"x")
        assert (await group.run("sh", "-c", "exit 3", check=False)).status == 3


async def test_failed_run_is_the_callers(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        other = await group.spawn("sleep", "1000")
        with pytest.raises(aiopip.TaskFailed, match="3"):
            await group.run("sh", "-c", "exit 3")
        assert other.status is None
        group.cancel()


async def test_failed_task_ends_what_the_body_runs(root: aiopip.Root) -> None:
    before = children()

    async def use() -> None:
        async with root.task_group() as group:
            await group.spawn("sh", "-c", "exit 3")
            await group.run("sleep", "1000")

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    (error,) = caught.value.exceptions
    assert isinstance(error, aiopip.TaskFailed)
    assert error.status == 3
    assert children() == before


async def test_group_that_is_ended_ends_what_others_run(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        job = await begun(group.run("sleep", "1000"))
        await until(lambda: len(group.tasks) == 1)
        group.cancel()
    with pytest.raises(aiopip.TaskFailed, match="SIGTERM"):
        await job
    with pytest.raises(aiopip.ClosedError):
        await group.run("true")


async def test_group_waits_for_no_grandchild(root: aiopip.Root, tmp_path: Path) -> None:
    """Who runs the program waits for that one; the program itself has ended."""
    async with root.task_group() as group:
        job = await begun(group.run("sh", "-c", 'sleep 60 & echo $! > "$0"', tmp_path / "pid"))
        await until(lambda: root.statistics().ended == 1)
    assert not job.done()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert (await job).status == 0


# Many, and what they leave


async def test_many_at_once(root: aiopip.Root) -> None:
    async def run(number: int) -> bytes | None:
        return (await root.run("cat", input=b"%d" % number)).stdout

    assert await gather(*(run(number) for number in range(40))) == [b"%d" % n for n in range(40)]
    await settled(root)


async def test_nothing_stays(root: aiopip.Root, program: Programs) -> None:
    async def cycle() -> None:
        done = await root.run(program("code"), "3", input=b"x", check=False)
        assert done.status == 3
        with pytest.raises(aiopip.TaskTimeoutError):
            await root.run("sleep", "1000", timeout_s=0)

    await nothing_stays(root, cycle, 60)


async def test_scope_of_anyio_around_it(root: aiopip.Root) -> None:
    before = children()
    with anyio.move_on_after(0.05) as scope:
        await root.run("sleep", "1000", timeout_s=1000)
    assert scope.cancelled_caught
    assert children() == before
