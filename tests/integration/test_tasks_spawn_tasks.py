"""this_task().root.spawn(): tasks that tasks have asked for."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import loops
import pytest
from integration.asking import asking
from integration.worker import Told
from jobs import begun
from support import (
    check_in_fork,
    children,
    clean_root,
    is_gone,
    python_source,
    run_python,
    settled,
    status_field,
    until,
)

import aiopip
from aiopip import _messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import CompileC

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user takes root's rights")


def path_of_socket(root: aiopip.Root) -> Path:
    path = root._core.listing.path  # type: ignore[union-attr]
    assert path is not None
    return path


def live(root: aiopip.Root) -> list[str]:
    return sorted(task.name for task in root.tasks.values() if task.status is None)


# What it gives


async def test_statuses_and_who_it_is(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            good, bad = await root.spawn("true"), await root.spawn("sh", "-c", "exit 3")
            statuses = [await good.wait(), await good.wait(), await bad.wait(), bad.wait_nowait()]
            return (list(map(int, statuses)), bad.returncode, bad.status.exited, good.name,
                    good.program, good.pipid, repr(bad)[-21:])
        """)
    assert found == ([0, 0, 3, 3], 3, True, "true", "true", 1, "ended <ExitStatus 3>>")


async def test_it_is_the_roots_and_no_child_of_who_asked(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        pid, pipid = await asker.ask("""
            kept = await root.spawn("sleep", "1000", name="asked for")
            return kept.pid, kept.pipid
        """)
        task = root.tasks[pipid]
        assert (task.pid, task.name, task.shared) == (pid, "asked for", True)
        assert pid in children()
        task.kill()
        assert await task.wait() == -signal.SIGKILL


async def test_usage_and_times_come_with_the_status(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        used, took = await asker.ask("""
            task = await root.spawn("sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done")
            status = await task.wait()
            used = status.rusage.ru_utime + status.rusage.ru_stime
            return used, status.ended_ns - status.started_ns
        """)
    assert used > 0
    assert took > 0


async def test_pipes_are_in_the_hands_of_who_asked(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            async with await root.spawn("tr", "a-z", "A-Z", stdin=PIPE, stdout=PIPE) as task:
                await task.stdin.send(b"over and back")
                await task.stdin.aclose()
                upper = await task.stdout.receive()
            mixed = await root.spawn(
                "sh", "-c", "echo out; echo err >&2", stdout=PIPE, stderr=subprocess.STDOUT
            )
            await mixed.wait()
            return upper, await mixed.stdout.receive(), task.returncode
        """)
    assert found == (b"OVER AND BACK", b"out\nerr\n", 0)


async def test_two_tasks_in_a_pipeline(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            first = await root.spawn("printf", "b\\na\\n", stdout=PIPE)
            second = await root.spawn("sort", stdin=first.stdout, stdout=PIPE)
            await first.wait(), await second.wait()
            return await second.stdout.receive(), first.stdout.closed
        """)
    assert found == (b"a\nb\n", True)


# What it starts with


async def test_environment_folder_and_streams_are_the_askers(
    root: aiopip.Root, tmp_path: Path
) -> None:
    (tmp_path / "inner").mkdir()
    async with asking(root) as asker:
        await asker.ask(f"""
            os.environ["ASKED"] = "by a task"
            os.chdir({str(tmp_path)!r})
            saved = [os.dup(1), os.dup(0)]
            with open("out", "wb") as out, open("in", "wb+") as source:
                source.write(b"input"); source.flush(); source.seek(0)
                os.dup2(source.fileno(), 0)
                os.dup2(out.fileno(), 1)
                try:
                    await (await root.spawn("sh", "-c", "echo $ASKED; pwd; cat")).wait()
                    await (await root.spawn("pwd", cwd="inner")).wait()
                    await (await root.spawn("env", env={{"ALONE": "1"}})).wait()
                finally:
                    os.dup2(saved[0], 1)
                    os.dup2(saved[1], 0)
                    list(map(os.close, saved))
        """)
    lines = (tmp_path / "out").read_text().split("\n")
    assert lines == ["by a task", str(tmp_path), f"input{tmp_path / 'inner'}", "ALONE=1", ""]


async def test_relative_program_is_found_from_the_askers_folder(
    root: aiopip.Root, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    async with asking(root, cwd=tmp_path) as asker:
        assert await asker.ask("""return int(await (await root.spawn("./script")).wait())""") == 7


async def test_attributes_are_the_asking_threads(root: aiopip.Root) -> None:
    cpu = min(os.sched_getaffinity(0))
    async with asking(root, cpu=cpu, sigmask={signal.SIGUSR2}) as asker:
        own, given = await asker.ask("""
            async def facts(**options):
                task = await root.spawn("cat", "/proc/self/status", stdout=PIPE, **options)
                await task.wait()
                return (await task.stdout.receive()).decode()
            return await facts(), await facts(sigmask=())
        """)
    names = ("Cpus_allowed_list", "SigBlk")
    assert [status_field(own, name) for name in names] == [str(cpu), f"{1 << 11:016x}"]
    assert [status_field(given, name) for name in names] == [str(cpu), "0" * 16]


async def test_nice_value_is_the_asking_threads(root: aiopip.Root) -> None:
    async with asking(root, nice=5) as asker:
        found = await asker.ask("""
            first = await root.spawn("nice", stdout=PIPE)
            second = await root.spawn("nice", stdout=PIPE, nice=7)
            await first.wait(), await second.wait()
            return await first.stdout.receive(), await second.stdout.receive()
        """)
    assert found == (b"5\n", b"7\n")


async def test_any_descriptors_at_any_numbers(root: aiopip.Root, tmp_path: Path) -> None:
    async with asking(root, cwd=tmp_path) as asker:
        found = await asker.ask("""
            script = 'cd /proc/self/fd; cat 50 $1 $2; set -- *; echo $#'
            with open("a", "w+") as a, open("b", "w+") as b, open("c", "w+") as c:
                for file in (a, b, c):
                    file.write(file.name); file.flush(); file.seek(0)
                os.set_inheritable(c.fileno(), True)
                task = await root.spawn(
                    "sh", "-c", script, "-", str(b.fileno()), str(c.fileno()), stdout=PIPE,
                    fd_map={50: a}, pass_fds=[b], close_fds=False,
                )
                await task.wait()
            return await task.stdout.receive()
        """)
    # 0 to 2, the three, and that by which the shell lists them.
    assert found == b"abc7\n"


async def test_arguments_larger_than_a_packet(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            env = {f"V{i}": "x" * 100_000 for i in range(10)}
            task = await root.spawn("env", env=env, stdout=PIPE)
            size = 0
            async for some in task.stdout:
                size += len(some)
            return size, int(await task.wait())
        """)
    assert found == (10 * (100_000 + 4), 0)


async def test_closed_stdin_is_empty(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            saved = os.dup(0)
            os.close(0)
            try:
                task = await root.spawn("cat", stdout=PIPE)
                return int(await task.wait())
            finally:
                os.dup2(saved, 0)
                os.close(saved)
        """)
    assert found == 0


# What it raises


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("no-such-program", {}),
        ("/no/such/program", {}),
        ("", {}),
        ("/etc", {}),
        ("/etc/passwd", {}),
        ("FIXED", {}),
        ("true", {"cwd": "/nonexistent"}),
        ("true", {"cwd": ""}),
        ("true", {"stdin": 999}),
        ("true", {"stdout": -77}),
        ("true", {"pass_fds": (999,)}),
        ("true", {"fd_map": {0: 999}}),
        ("true", {"fd_map": {9: 999}}),
        ("true", {"fd_map": {10**8: 1}}),
        ("true", {"process_group": 2**30}),
        ("true", {"pipid": 0}),
        ("true", {"pipid": 10**6}),
        ("true", {"entry": "no_such_function"}),
        ("true", {"name": "much too long for a name"}),
        ("true", {"argv0": "NUL\0"}),
        ("true", {"argv0": "x" * 200_000}),
        ("true", {"preexec_fn": print}),
        ("true", {"stack_bytes": 1}),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_errors_are_those_of_the_root(
    root: aiopip.Root, c_program: CompileC, program: str, options: dict[str, Any]
) -> None:
    if program == "FIXED":
        program = str(c_program("int main(void) { return 0; }", "-no-pie", "-fno-pie"))
    async with asking(root, pipid=0) as asker:
        with pytest.raises(Exception, match=r".") as here:
            await root.spawn(program, **options)
        shown = {**options, "preexec_fn": "PRINT"} if "preexec_fn" in options else options
        found = await asker.ask(f"""
            options = {shown!r}
            if "preexec_fn" in options: options["preexec_fn"] = print
            try: await root.spawn({program!r}, **options)
            except Exception as error: return (
                [one.__name__ for one in type(error).__mro__], str(error),
                getattr(error, "errno", None), getattr(error, "filename", None),
                getattr(error, "option", None),
            )
        """)
    error = here.value
    assert found == (
        [one.__name__ for one in type(error).__mro__], str(error),
        getattr(error, "errno", None), getattr(error, "filename", None),
        getattr(error, "option", None),
    )  # fmt: skip
    assert live(root) == []


async def test_what_cannot_be_asked_for(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        with pytest.raises(Told, match=r"InvalidArgumentError: share: .*not with this task"):
            await asker.ask("await root.spawn('true', share=aiopip.Share.FS)")
        with pytest.raises(Told, match=r"InvalidArgumentError: fd_map: 3\d\d descriptors .* 252"):
            await asker.ask("""
                files = [open("/dev/null") for _ in range(300)]
                try: await root.spawn("true", fd_map={3 + i: f for i, f in enumerate(files)})
                finally: [file.close() for file in files]
            """)
        with pytest.raises(Told, match=r"TypeError.*unknown"):
            await asker.ask("await root.spawn('true', unknown=1)")
        assert await asker.ask("return int(await (await root.spawn('true')).wait())") == 0


async def test_folder_that_is_gone(root: aiopip.Root, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    async with asking(root, cwd=gone) as asker:
        gone.rmdir()
        with pytest.raises(Told, match=r"SpawnOptionError: .*cwd: this task's own: No such file"):
            await asker.ask("await root.spawn('true')")


async def test_names_of_aiopips_own_are_refused(root: aiopip.Root) -> None:
    with pytest.raises(aiopip.InvalidArgumentError, match="for aiopip itself"):
        root.export("aiopip.socket", b"")
    async with asking(root) as asker:
        with pytest.raises(Told, match=r"InvalidArgumentError.*for aiopip itself"):
            await asker.worker.do("me.export('aiopip.x', b'')")


async def test_root_without_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "aiopip").mkdir(mode=0o755)
    (tmp_path / "aiopip").chmod(0o755)
    async with clean_root() as root, asking(root) as asker:
        with pytest.raises(Told, match=r"CallError: the Root cannot be asked: it has no socket"):
            await asker.ask("await root.spawn('true')")


async def test_socket_that_was_removed(root: aiopip.Root) -> None:
    path_of_socket(root).unlink()
    async with asking(root) as asker:
        with pytest.raises(Told, match=r"CallError: .*by its socket .*No such file.*removed"):
            await asker.ask("await root.spawn('true')")


@ROOT_ONLY
async def test_task_of_another_user_may_not_ask(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        with pytest.raises(Told, match=r"NotPermittedError: .*runs as another user"):
            await asker.ask("os.seteuid(65534)\nawait root.spawn('true')")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (_messages.task_address, "is no task of this Root"),
        (lambda: b"\0aiopip.task/0/x", "is no task of this Root"),
    ],
)
async def test_who_is_no_task_may_not_ask(
    root: aiopip.Root, address: Callable[[], bytes], text: str
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.bind(address())
        end.connect(str(path_of_socket(root)))
        await anyio.wait_readable(end)
        rejected = pickle.loads(end.recv(10000)[9:])
    assert text in str(rejected.error)
    assert isinstance(rejected.error, aiopip.NotPermittedError)


async def test_asker_of_another_version(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        with pytest.raises(Told, match=r"CallError: .*another version than its Root's"):
            await asker.ask("""
                from aiopip import _messages, _remote_socket
                _remote_socket.task_address = lambda: b"\\0aiopip.task/999/x"
                await root.spawn("true")
            """)


async def test_forked_child_of_an_asker(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            kept = await root.spawn("sleep", "1000")
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                told = []
                for use in (lambda: root.spawn("true").send(None), lambda: kept.wait().send(None),
                            kept.kill, kept.wait_nowait):
                    try: use()
                    except BaseException as error: told.append(type(error).__name__)
                os.write(writer, " ".join(told).encode())
                os._exit(0)
            os.waitpid(child, 0)
            told = os.read(reader, 1000)
            kept.kill()
            return told.decode().split(), int(await kept.wait())
        """)
    assert found == (["ForkedError"] * 4, -9)


async def test_fork_of_a_root_with_askers(root: aiopip.Root) -> None:
    core = root._core
    assert core is not None
    async with asking(root) as asker:
        await asker.ask("kept = await root.spawn('sleep', '1000')")
        descriptors = [one._channel._socket.fileno() for one in core.service._askers]

        def check() -> None:
            assert not core.service._askers
            for descriptor in descriptors:
                with pytest.raises(OSError, match="Bad file"):
                    os.fstat(descriptor)

        check_in_fork(check)
        assert await asker.ask("return int(await (await root.spawn('true')).wait())") == 0
        root.kill_all(signal.SIGKILL)


# Signals


async def test_signals_by_who_asked(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            tasks = [await root.spawn("sleep", "1000") for _ in range(3)]
            tasks[0].terminate(); tasks[1].kill(); tasks[2].send_signal(signal.SIGUSR1)
            statuses = [int(await task.wait()) for task in tasks]
            told = []
            for number in (15, 0, -1, 99):
                try: tasks[0].send_signal(number)
                except Exception as error: told.append(type(error).__name__)
            kept = await root.spawn("sleep", "1000")
            kept.stop()
            for number in (-1, 99, 10**30, "x"):
                try: kept.send_signal(number)
                except Exception as error: told.append(type(error).__name__)
            return statuses, told, kept.pid
        """)
        assert found[:2] == (
            [-15, -9, -10],
            ["TaskEndedError"] * 4 + ["InvalidArgumentError"] * 3 + ["TypeError"],
        )
        await until(lambda: "T (stopped)" in Path(f"/proc/{found[2]}/status").read_text())
        root.kill_all(signal.SIGKILL)


async def test_status_that_nobody_waits_for_is_seen(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            task = await root.spawn("sleep", "1000")
            try: task.wait_nowait()
            except BlockingIOError as error: first = type(error).__name__
            task.kill()
            while task.status is None:
                await anyio.sleep(0.001)
            return first, int(task.wait_nowait())
        """)
    assert found == ("WouldBlock", -9)


# Cancellation


async def test_cancel_during_spawn_reaps_the_child(root: aiopip.Root) -> None:
    """Wherever it comes, no task is left when the cancellation leaves."""
    async with asking(root) as asker:
        for turns in (*range(8), 12, 16, 24, 50, 100):
            outcome = await asker.ask(f"""
                async with anyio.create_task_group() as group:
                    started = False
                    async def spawn():
                        nonlocal started
                        await root.spawn("sleep", "1000")
                        started = True
                    group.start_soon(spawn)
                    for _ in range({turns}):
                        await anyio.sleep(0)
                    group.cancel_scope.cancel()
                return started
            """)
            if outcome:  # it came too late
                (task,) = (task for task in root.tasks.values() if task is not asker.task)
                task.kill()
                await task.wait()
            assert set(root.tasks) == {asker.task.pipid}
            assert root.statistics().alive == 1


async def test_cancel_of_a_spawn_whose_task_has_ended(root: aiopip.Root) -> None:
    """Of its start and its end is heard in the iteration in which it is cancelled."""
    async with asking(root) as asker:
        await asker.ask("""
            for _ in range(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(root.spawn, "true")
                    for _ in range(6):
                        await anyio.sleep(0)
                    time.sleep(0.02)  # the loop stands still meanwhile
                    group.cancel_scope.cancel()
        """)
        await until(lambda: set(root.tasks) == {asker.task.pipid})


async def test_cancel_while_the_spawn_waits_for_its_slot() -> None:
    async with clean_root(max_tasks=2) as root, asking(root, pipid=0) as asker:
        await asker.ask("""
            await (await root.spawn("true", pipid=1)).wait()
            for attempt in range(20):
                task = None
                with anyio.move_on_after(attempt / 10000):
                    task = await root.spawn("true", pipid=1)
                if task is not None:
                    await task.wait()
        """)
        await until(lambda: set(root.tasks) == {0})
        assert root.statistics().alive == 1


async def test_cancelled_wait_leaves_the_task_running(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            task = await root.spawn("sleep", "1000")
            with anyio.move_on_after(0.01):
                await task.wait()
            running = task.status is None
            with anyio.move_on_after(0.01):
                await task.aclose()
            return running, int(task.status)
        """)
    assert found == (True, -9)


# Many


async def test_a_hundred_at_once(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        found = await asker.ask("""
            outcomes = []
            async def one(number):
                task = await root.spawn("sh", "-c", f"exit {number}", stdout=PIPE)
                outcomes.append(await task.wait() - number)
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(one, number)
            return list(map(int, outcomes)), len(os.listdir("/proc/self/fd"))
        """)
        # 0 to 2, the connection, and the loop's own.
        assert found[0] == [0] * 100
        assert found[1] < 30
        await until(lambda: set(root.tasks) == {asker.task.pipid})


async def test_no_slot_is_left_and_then_one_is() -> None:
    async with clean_root(max_tasks=3) as root, asking(root) as asker:
        found = await asker.ask("""
            tasks = [await root.spawn("sleep", "1000") for _ in range(2)]
            try: await root.spawn("true")
            except OSError as error: told = type(error).__name__, error.errno
            tasks[0].kill()
            await tasks[0].wait()
            status = int(await (await root.spawn("true")).wait())
            tasks[1].kill()
            return told, status
        """)
    assert found == (("SlotBusyError", 16), 0)


async def test_descriptors_stay_as_they_were(root: aiopip.Root) -> None:
    """Behind many loops, each with a connection of its own."""
    count = "return len(os.listdir('/proc/self/fd'))"
    spawn = "await (await root.spawn('true', stdout=PIPE)).wait()\n" + count
    async with asking(root) as asker:
        first = await asker.ask(spawn)
        for _ in range(10):
            assert await asker.ask(spawn) == first


# Python tasks that ask, and so on


async def test_a_task_that_was_asked_for_asks(root: aiopip.Root) -> None:
    body = (
        "import sys, anyio, aiopip\n"
        "async def main():\n"
        "    depth, root = int(sys.argv[1]), aiopip.this_task().root\n"
        "    again = ['-W', 'error', '-c', sys.argv[2], str(depth - 1), sys.argv[2]]\n"
        "    task = await (root.spawn(sys.executable, *again) if depth else root.spawn('true'))\n"
        "    return await task.wait() + 1\n"
        f"sys.exit(anyio.run(main, backend={loops.running().backend!r}))\n"
    )
    task = await root.spawn(
        sys.executable, "-W", "error", "-c", body, "3", body, cwd="/", env=dict(os.environ)
    )
    assert await task.wait() == 4


async def test_imports_from_a_task_that_was_asked_for(root: aiopip.Root) -> None:
    source = "import aiopip; aiopip.this_task().export('found', bytearray(b'in place'))"
    async with asking(root, cwd="/") as asker:
        found = await asker.ask(f"""
            task = await root.spawn(sys.executable, "-c", {source!r})
            early = bytes((await task.named_import("found")).view())
            while task.status is None:
                await anyio.sleep(0.001)
            late = bytes((await task.named_import("found")).view())
            await task.wait()
            while True:  # until the Root has heard that it was collected
                try: await task.named_import("found")
                except OSError as error: return early, late, type(error).__name__
        """)
        assert found == (b"in place", b"in place", "ImportCanceledError")
        asker.worker.task.kill()
    await settled(root)


async def test_dropped_handle_is_collected(root: aiopip.Root) -> None:
    source = "import aiopip; aiopip.this_task().export('found', bytearray(10))"
    async with asking(root, cwd="/") as asker:
        # Before its end is known, and behind it.
        await asker.ask(f"""
            task = await root.spawn(sys.executable, "-c", {source!r})
            del task
            task = await root.spawn(sys.executable, "-c", {source!r})
            while task.status is None:
                await anyio.sleep(0.001)
            del task
            while (await root.spawn("true", pipid=5)).pipid != 5: pass
        """)
        await until(lambda: set(root.tasks) == {asker.task.pipid})
        await until(lambda: root.statistics().held == 0)


# Ends


async def test_no_wait_any_is_given_it(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        await asker.ask("await (await root.spawn('true')).wait()")
        waiting = await begun(root.wait_any())
        await asker.ask("await (await root.spawn('true')).wait()")
        assert not waiting.done()
        asker.task.kill()
        assert await waiting is asker.task


async def test_asker_killed_with_tasks_running(root: aiopip.Root) -> None:
    """What is bound goes with it; the others go on, and are collected by nobody else."""
    async with asking(root) as asker:
        free, held = await asker.ask("""
            kept = [await root.spawn("sleep", "1000"), await bound("sleep", "1000")]
            return [task.pid for task in kept]
        """)
        free_task, held_task = (
            next(task for task in root.tasks.values() if task.pid == pid) for pid in (free, held)
        )
        asker.task.kill()
        assert await held_task.wait() == -9
        assert not is_gone(free)
        free_task.kill()
        await until(lambda: set(root.tasks) <= {asker.task.pipid})


async def test_bound_task_goes_though_a_child_has_the_connection(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        pid, child = await asker.ask("""
            kept = await bound("sleep", "1000")
            import ctypes
            child = ctypes.CDLL(None).fork()  # Python's hooks are not run
            if child == 0:
                time.sleep(1000)
            return kept.pid, child
        """)
        asker.task.kill()
        await until(lambda: is_gone(pid))
        os.kill(child, 9)


async def test_asker_killed_while_it_spawns(root: aiopip.Root) -> None:
    for _ in range(5):
        async with asking(root) as asker:
            asker.tell("""
                async with anyio.create_task_group() as group:
                    for _ in range(100):
                        group.start_soon(root.spawn, "sleep", "1000")
            """)
            await until(lambda: len(root.tasks) > 10)
            asker.task.kill()
            await asker.task.wait()
        root.kill_all(signal.SIGKILL)
        await until(lambda: not root.tasks)
    await settled(root)


async def test_loop_that_ends_before_its_tasks(root: aiopip.Root) -> None:
    async with asking(root) as asker:
        await asker.ask("kept = await root.spawn('sleep', '1000')")
        with pytest.raises(Told, match=r"ClosedError|WrongThreadError"):
            await asker.ask("await kept.wait()")
        with pytest.raises(Told, match=r"ClosedError"):
            await asker.ask("await root.spawn('true')\nawait kept.wait()")
        root.kill_all(signal.SIGKILL)


async def test_spawns_while_the_root_is_left(tmp_path: Path) -> None:
    """The end of what it waits for is told; more is not started."""
    result = tmp_path / "result"
    body = f"""
        import signal
        signal.signal(signal.SIGTERM, lambda *_: None)
        task = await root.spawn("sleep", "1000")
        me.export("waiting", b"")
        status = int(await task.wait())
        try: await root.spawn("true")
        except aiopip.ClosedError as error: told = str(error)
        with open({str(result)!r}, "w") as file:
            file.write(f"{{status}} {{told}}")
        os._exit(0)
    """
    stack = AsyncExitStack()

    async def run() -> None:
        async with aiopip.Root(grace_s=20) as root:
            asker = await stack.enter_async_context(asking(root))
            asker.tell(body)
            await asker.task.named_import("waiting")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run()
    await stack.aclose()
    assert result.read_text() == "-15 the Root is closed"


async def test_nothing_is_said_at_the_interpreters_end(root: aiopip.Root) -> None:
    """No ResourceWarning, with handles and a connection left."""
    source = """
        import anyio, aiopip, sys
        async def main():
            spawn = aiopip.this_task().root.spawn
            return [await spawn("sleep", "1000", stderr=-3) for _ in range(3)]
        kept = anyio.run(main, backend=sys.argv[1])
        anyio.run(main, backend=sys.argv[1])
    """
    backend = loops.running().backend
    line = python_source(source)
    async with asking(root, cwd="/") as asker:
        said = await asker.ask(f"""
            task = await root.spawn(*{line!r}, {backend!r}, stderr=PIPE)
            status = int(await task.wait())
            return status, b"".join([some async for some in task.stderr])
        """)
    assert said == (0, b"")
    root.kill_all(signal.SIGKILL)


def test_exit_of_a_root_with_askers() -> None:
    """Nothing is said when a Root is never left, and its process ends."""
    done = run_python(
        """
        import asyncio, sys, aiopip
        async def main():
            root = aiopip.Root()
            await root.__aenter__()
            task = await root.spawn(sys.executable, "-c", '''if True:
                import asyncio, aiopip
                async def main():
                    me = aiopip.this_task()
                    task = await me.root.spawn("sleep", "1000")
                    me.export("spawned", b"")
                    await task.wait()
                asyncio.run(main())
            ''', cwd="/")
            await task.named_import("spawned")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
