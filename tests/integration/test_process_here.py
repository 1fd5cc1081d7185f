"""What our processes have that asyncio's do not: a Root, and programs that cannot be tasks."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import shutil
import signal
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration.subprocesses import ONLY_ASYNCIO, Subprocesses, communicate
from jobs import begun, start, turns
from loops import IN_SCRIPT, IN_SCRIPTS, only
from support import (
    DEADLINE_S,
    children,
    clean_root,
    is_gone,
    run_python,
    settled,
    still_works,
)

import aiopip

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CompileC

on_asyncio = only("asyncio", reason=ONLY_ASYNCIO)

TELLS = """
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct rlimit limit;
    char folder[4096], text[4096] = "";

    getrlimit(RLIMIT_DATA, &limit);
    printf("%d %s %s|", argc, argv[0], argc > 1 ? argv[1] : "");
    printf("%s|", getcwd(folder, sizeof folder));
    printf("%d|", limit.rlim_cur == RLIM_INFINITY && sbrk(65536) != (void *)-1);
    fflush(stdout);
    ssize_t bytes = read(0, text, sizeof text - 1);
    printf("%s", bytes > 0 ? text : "");
    fprintf(stderr, "to stderr");
    return 7;
}
"""


@pytest.fixture(scope="session")
def odd_program(c_program: CompileC) -> dict[str, Path]:
    """One program, linked in the ways in which it can be a task, and cannot."""
    flags = {"task": (), "fixed": ("-no-pie",), "static": ("-static", "-no-pie")}
    return {kind: c_program(TELLS, *flag, name="tells") for kind, flag in flags.items()}


# Programs that cannot be tasks


@on_asyncio
@pytest.mark.parametrize("kind", ["task", "fixed", "static"])
@pytest.mark.parametrize("whose", ["aiopip", "asyncio"])
async def test_program_runs_however_it_is_linked(
    root: aiopip.Root, odd_program: dict[str, Path], tmp_path: Path, kind: str, whose: str
) -> None:
    process = await Subprocesses(whose, root).exec(
        odd_program[kind], "ä", stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=tmp_path
    )
    out, err = await communicate(process, b"from stdin")
    assert out == f"2 {odd_program[kind]} ä|{tmp_path}|1|from stdin".encode()
    assert (err, process.returncode) == (b"to stderr", 7)


@on_asyncio
async def test_task_says_which_of_the_two_it_is(
    root: aiopip.Root, odd_program: dict[str, Path]
) -> None:
    for kind, is_task in (("task", True), ("fixed", False), ("static", False)):
        process = await root.create_subprocess_exec(
            odd_program[kind], stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
        )
        (task,) = root.tasks.values()
        assert (task.pid, task.shared, task.name) == (process.pid, is_task, "tells")
        await process.communicate(b"x")
        assert (task.status, task.shared, task.loaded) == (7, is_task, is_task)


async def test_spawn_still_refuses_them(root: aiopip.Root, odd_program: dict[str, Path]) -> None:
    for kind in ("fixed", "static"):
        with pytest.raises(aiopip.NotPieError):
            await root.spawn(odd_program[kind])
    await still_works(root)


async def test_script_of_such_an_interpreter(
    root: aiopip.Root, odd_program: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!{odd_program['static']} option\n")
    script.chmod(0o755)
    done = await root.run(script, "argument", check=False, input=b"x")
    assert done.status == 7
    assert done.stdout is not None
    assert done.stdout.startswith(f"4 {odd_program['static']} option|".encode())


async def test_such_a_name_is_searched_in_path(
    root: aiopip.Root, odd_program: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(odd_program["static"], tmp_path / "a_name")
    done = await root.run(
        "a_name", env={"PATH": f"/nowhere::{tmp_path}"}, argv0="zero", check=False, input=b"x"
    )
    assert done.stdout is not None
    assert done.stdout.startswith(b"1 zero |")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's file can be made by root only")
async def test_set_uid_program_gets_its_user(root: aiopip.Root, tmp_path: Path) -> None:
    program = tmp_path / "id"
    shutil.copy(shutil.which("id") or "", program)
    os.chown(program, 65534, 65534)
    program.chmod(0o6755)
    with pytest.raises(aiopip.PrivilegedProgramError):
        await root.spawn(program)
    done = await root.run(program, "-nu")
    expected = await anyio.to_thread.run_sync(
        lambda: subprocess.run([program, "-nu"], capture_output=True, check=True)
    )
    assert done.stdout == expected.stdout


@on_asyncio
@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be others")
async def test_another_users_program_is_kept_apart(root: aiopip.Root) -> None:
    """It would have all of our memory, which is not what `user` is given for."""
    process = await root.create_subprocess_exec("cat", stdin=PIPE, user=65534, group=65534, cwd="/")
    (task,) = root.tasks.values()
    assert not task.shared
    await process.communicate(b"x")
    assert process.returncode == 0
    with pytest.raises(FileNotFoundError):
        await root.create_subprocess_exec("no-such-program-here", user=65534, env={"PATH": "/bin"})


@on_asyncio
async def test_what_asyncio_takes_and_we_do_not(root: aiopip.Root) -> None:
    refused: dict[str, Any] = {"preexec_fn": print, "restore_signals": False, "entry": "main"}
    for keyword, value in refused.items():
        with pytest.raises(aiopip.InvalidArgumentError, match=keyword):
            await root.create_subprocess_exec("true", **{keyword: value})
    await still_works(root)


@on_asyncio
async def test_signals_reach_them(root: aiopip.Root, odd_program: dict[str, Path]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = await root.create_subprocess_exec(
            odd_program["static"], stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
        )
        process.send_signal(number)
        assert await process.wait() == -number


@on_asyncio
async def test_status_that_somebody_else_takes(
    root: aiopip.Root, odd_program: dict[str, Path]
) -> None:
    """They are children as any other, and waitpid(-1) finds them."""
    process = await root.create_subprocess_exec(
        odd_program["static"], stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL
    )
    os.kill(process.pid, signal.SIGSTOP)
    taking = start(anyio.to_thread.run_sync(os.waitpid, -1, os.WUNTRACED))
    assert (await taking)[0] == process.pid  # of its stop; now it is known that it can be seen
    taking = start(anyio.to_thread.run_sync(os.waitpid, process.pid, 0))
    process.kill()
    with contextlib.suppress(ChildProcessError):  # ours was quicker
        await taking
    with anyio.fail_after(DEADLINE_S):
        assert await process.wait() in (-signal.SIGKILL, 255)


async def test_nothing_stays_of_them(root: aiopip.Root, odd_program: dict[str, Path]) -> None:
    async def run() -> None:
        done = await root.run(odd_program["static"], input=b"x", check=False)
        assert done.status == 7

    for _ in range(3):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(run)
    await settled(root)
    now = root.statistics()
    assert (now.untracked, now.unloaded, now.failed) == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (b"no program\n", 0o755, aiopip.BadProgramError),
        (b"\x7fELF", 0o755, aiopip.BadProgramError),
        (b"#!/bin/sh\n", 0o644, aiopip.NotExecutableError),
    ],
)
async def test_what_execve_refuses_too(
    root: aiopip.Root, tmp_path: Path, content: bytes, mode: int, error: type[Exception]
) -> None:
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "file").chmod(mode)
    with pytest.raises(error):
        await root.run(tmp_path / "file")
    await still_works(root)


# With a Root


@on_asyncio
async def test_leaving_the_root_ends_them(odd_program: dict[str, Path]) -> None:
    async with clean_root() as root:
        for program in ("sleep", odd_program["static"]):
            await root.create_subprocess_exec(program, "1000", stdin=PIPE, stdout=DEVNULL)
        pids = [task.pid for task in root.tasks.values()]
        root.kill_all(signal.SIGTERM)
    assert len(pids) == 2
    assert all(map(is_gone, pids))


@on_asyncio
async def test_abort_ends_them() -> None:
    async with aiopip.Root() as root:
        process = await root.create_subprocess_exec("sleep", "1000", stdout=PIPE)
        root.abort()
        assert await communicate(process) == (b"", None)
        assert process.returncode == -signal.SIGKILL


@on_asyncio
async def test_no_wait_any_is_given_them(root: aiopip.Root) -> None:
    process = await root.create_subprocess_exec("true")
    short = await root.create_subprocess_exec("true")
    task = await root.spawn("sleep", "0.05")
    assert await root.wait_any() is task
    assert (await process.wait(), await short.wait()) == (0, 0)
    with pytest.raises(aiopip.NoTasksError):
        await root.wait_any()


@on_asyncio
async def test_events_tell_of_them(root: aiopip.Root) -> None:
    events = root.events()
    process = await root.create_subprocess_exec("sh", "-c", "exit 3")
    event = await anext(events)
    assert isinstance(event, aiopip.Exited)
    assert (event.task.pid, event.status) == (process.pid, 3)


@on_asyncio
async def test_functions_of_the_package_use_the_open_root(root: aiopip.Root) -> None:
    process = await aiopip.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.pid in [task.pid for task in root.tasks.values()]
    assert await communicate(process, b"a") == (b"a", None)
    process = await aiopip.create_subprocess_shell("exit 3")
    assert await process.wait() == 3


async def test_functions_of_the_package_need_a_root(anyio_backend: object) -> None:
    with pytest.raises(aiopip.NotInitializedError):
        await aiopip.create_subprocess_exec("true")
    with pytest.raises(aiopip.NotInitializedError):
        await aiopip.create_subprocess_shell("true")


@only("trio", reason="about trio")
async def test_trio_has_no_such_processes(root: aiopip.Root) -> None:
    for call in (root.create_subprocess_exec, root.create_subprocess_shell):
        with pytest.raises(aiopip.UnsupportedLoopError, match=r"root\.run"):
            await call("true")
    await still_works(root)


@on_asyncio
async def test_closed_root_starts_nothing() -> None:
    async with aiopip.Root() as root:
        pass
    with pytest.raises(aiopip.ClosedError):
        await root.create_subprocess_exec("true")


@on_asyncio
async def test_size_of_the_pipes(root: aiopip.Root) -> None:
    process = await root.create_subprocess_exec(
        "sleep", "1000", stdin=PIPE, stdout=PIPE, pipesize=8192
    )
    for number in (0, 1):
        end = os.open(f"/proc/{process.pid}/fd/{number}", os.O_RDWR)
        assert fcntl.fcntl(end, fcntl.F_GETPIPE_SZ) == 8192
        os.close(end)
    process.kill()
    await process.communicate()


# Cancellation


@on_asyncio
@pytest.mark.parametrize("iterations", range(12))
async def test_cancelled_start_leaves_nothing(root: aiopip.Root, iterations: int) -> None:
    """In the spawn, while the pipes are connected, or when it is done."""
    before = children()
    job = await begun(root.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE))
    await turns(iterations)
    job.cancel()
    try:
        process = await job
    except asyncio.CancelledError:
        assert children() == before
    else:
        process.kill()
        await process.communicate()


@on_asyncio
async def test_cancelled_while_pipes_are_connected(
    root: aiopip.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connecting, before = anyio.Event(), children()
    connect = type(loop).connect_read_pipe

    async def slow(*args: Any) -> Any:
        connecting.set()
        await anyio.sleep(0.01)
        return await connect(loop, *args)

    class Slow:
        connect_read_pipe = staticmethod(slow)

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

    monkeypatch.setattr(asyncio, "get_running_loop", Slow)
    job = await begun(root.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE))
    await connecting.wait()
    monkeypatch.undo()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert children() == before


@on_asyncio
async def test_pipe_that_cannot_be_connected(
    root: aiopip.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, before = asyncio.get_running_loop(), children()

    class Refusing:
        async def connect_read_pipe(self, *_: Any) -> Any:
            raise OSError("no")

        def __getattr__(self, name: str) -> Any:
            return getattr(loop, name)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "get_running_loop", Refusing)
        with pytest.raises(OSError, match="no"):
            await root.create_subprocess_exec("sleep", "1000", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert children() == before
    gc.collect()
    await still_works(root)


# Loops that end


@pytest.mark.parametrize("kind", [kind for kind in IN_SCRIPTS if kind != "trio"])
@pytest.mark.parametrize("ending", ["return", "raise RuntimeError('as is told')", "cancel()"])
def test_loop_that_ends_while_a_process_runs(kind: str, ending: str) -> None:
    """All is ended by the Root, and nobody complains of a closed loop."""
    source = (
        IN_SCRIPT
        + f"""
    import asyncio, gc, os
    import aiopip
    from subprocess import PIPE
    kept = []
    async def main():
        def cancel():
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        async with aiopip.Root(grace_s=0.1) as root:
            for _ in range(3):
                kept.append(await root.create_subprocess_exec(
                    "sleep", "0.1" if {ending!r} == "return" else "1000",
                    stdin=PIPE, stdout=PIPE))
            {ending}
            await asyncio.sleep(0.01)
    try:
        run(main)
    except (RuntimeError, asyncio.CancelledError) as error:
        print(error)
    print([process.returncode for process in kept])
    kept.clear()
    gc.collect()
    """
    )
    done = run_python(source, kind)
    assert (done.returncode, done.stderr) == (0, "")
    statuses = [0] * 3 if ending == "return" else [-signal.SIGTERM] * 3
    assert done.stdout.splitlines()[-1] == str(statuses)


def test_loop_is_closed_before_the_root_is_left() -> None:
    """As with asyncio's own, what is left is killed; here with the Root."""
    source = """
        import asyncio, os, warnings
        import aiopip
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        async def main():
            root = await aiopip.Root().__aenter__()
            return await root.create_subprocess_exec("sleep", "1000")
        process = loop.run_until_complete(main())
        loop.close()
        print(process.returncode, process.pid)
    """
    done = run_python(source)
    assert (done.returncode, done.stderr) == (0, "")
    returncode, pid = done.stdout.split()
    assert returncode == "None"
    assert is_gone(int(pid))
