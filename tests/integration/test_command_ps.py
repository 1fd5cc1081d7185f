"""`aiopip ps`: the tasks of all Roots of this user, asked from another process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from integration.commands import aiopip, on_terminal
from loops import only
from support import clean_root, python_source, ready, until

from aiopip import Root
from aiopip._commands import roots
from aiopip._commands.ps import ps
from aiopip._runtime_folder import connected, folder, folders, sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.conftest import Programs

ROOT = """
    import asyncio, sys, time, aiopip
    async def main():
        async with aiopip.Root(grace_s=0) as root:
            for _ in range(int(sys.argv[1])):
                await root.spawn("sleep", "600")
            print("ready", flush=True)
            if "busy" in sys.argv:
                time.sleep(600)
            await asyncio.sleep(600)
    asyncio.run(main())
"""
"""A Root with some tasks, which perhaps keeps its loop busy."""


ONE_LOOP = only("asyncio", reason="what the loop has to do with it is tested above")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets that no other Root of the machine has; not there yet."""
    # pytest's own folders have names that are too long for a socket's.
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        yield Path(base) / "aiopip"


@contextlib.contextmanager
def other_root(*args: str) -> Iterator[subprocess.Popen[str]]:
    """A Root in another process, killed behind the block."""
    line = [*python_source(ROOT), *args]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def asked(*pids: int) -> dict[int, dict[str, Any]]:
    """What `aiopip ps --json` says, by the Roots' process IDs."""
    done = aiopip("ps", "--json", *pids)
    assert "Traceback" not in done.stderr
    return {root["pid"]: root for root in json.loads(done.stdout)["roots"]}


async def listed() -> dict[int, dict[str, Any]]:
    """The same, while this process has the Root."""
    return await anyio.to_thread.run_sync(asked)


def mode(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


def names(place: Path) -> list[str]:
    """What is in a folder, but for what was learned of ld.so."""
    return sorted(path.name for path in place.iterdir() if path.name != "loader")


async def test_task_is_listed_with_its_memory_and_time(program: Programs) -> None:
    pause = program("pause")
    async with clean_root(max_tasks=5) as root:
        task = await ready(root, pause, "0")
        await until(lambda: task.statistics().state == "sleeping")
        own = (await listed())[os.getpid()]
        assert own["max_tasks"] == 5
        assert own["command"]
        (entry,) = own["tasks"]
        expected = {"pipid": 0, "pid": task.pid, "name": "pause", "shared": True, "threads": 1}
        assert expected.items() <= entry.items()
        assert entry["state"] == "sleeping"
        assert entry["memory"] == vars(task.memory())


@ONE_LOOP
async def test_stopped_task_is_shown_so(program: Programs) -> None:
    pause = program("pause")
    async with clean_root() as root:
        task = await ready(root, pause, "0")
        task.stop()
        await until(lambda: task.statistics().state == "stopped")
        assert (await listed())[os.getpid()]["tasks"][0]["state"] == "stopped"


@ONE_LOOP
async def test_task_that_has_left_is_listed_with_memory_of_its_own() -> None:
    async with clean_root() as root:
        task = await root.spawn("sh", "-c", "exec sleep 600")
        await until(lambda: not task.shared, "it leaves by exec")
        (entry,) = (await listed())[os.getpid()]["tasks"]
        assert not entry["shared"]
        assert entry["memory"]["resident_bytes"] > 0


@ONE_LOOP
async def test_root_without_tasks_is_listed() -> None:
    async with clean_root():
        assert (await listed())[os.getpid()]["tasks"] == []


async def test_many_tasks_are_listed(program: Programs) -> None:
    pause = program("pause")
    async with clean_root() as root:
        tasks = [await root.spawn(pause) for _ in range(100)]
        entries = (await listed())[os.getpid()]["tasks"]
        assert [entry["pid"] for entry in entries] == [task.pid for task in tasks]


async def test_asking_again_and_again_leaves_nothing() -> None:
    async with clean_root() as root:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for _ in range(3):
            assert os.getpid() in await listed()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert await (await root.spawn("true")).wait() == 0


@ONE_LOOP
async def test_who_connects_and_goes_away_does_no_harm() -> None:
    async with clean_root():
        for _ in range(5):
            connected(sockets(folder())[0]).close()
        assert os.getpid() in await listed()


def test_all_roots_are_listed_and_one_can_be_named() -> None:
    with other_root("2") as one, other_root("1") as other:
        # The machine may have others, in the folder in /tmp.
        counts = {pid: len(root["tasks"]) for pid, root in asked().items()}
        assert {one.pid: 2, other.pid: 1}.items() <= counts.items()
        assert list(asked(one.pid)) == [one.pid]
        done = aiopip("ps", other.pid, 1)
        assert done.returncode == 1
        assert "process 1 has no open Root" in done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].split() == ["ROOT", "PIP", "ID", "PID", "STATE", "CPU", "MEMORY", "NAME"]
        assert [line.split()[0] for line in lines[1:]] == [str(other.pid)]
        assert lines[1].endswith("sleep")


def test_terminal_has_a_table_a_root() -> None:
    pytest.importorskip("rich")
    with other_root("2") as root:
        status, shown = on_terminal("ps", root.pid)
    assert status == 0
    assert f"{root.pid}  " in shown
    assert "(2 of 1024 tasks)" in shown
    assert "\x1b[" in shown


@pytest.mark.parametrize("as_json", [False, True])
def test_no_root_is_no_error(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roots, "folders", lambda: iter(()))
    assert ps([], as_json=as_json) == 0
    written, complained = capsys.readouterr()
    assert "no Root of this user is open" in complained
    assert json.loads(written) == {"roots": []} if as_json else written == ""


def test_root_that_is_busy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roots, "connected", partial(connected, timeout_s=0.1))
    with other_root("1", "busy") as root:
        assert ps([root.pid], as_json=False) == 1
    written, complained = capsys.readouterr()
    assert written == ""
    assert f"process {root.pid} does not answer" in complained


def test_socket_of_a_killed_root_is_removed(place: Path) -> None:
    with other_root("0"):
        assert len(sockets(place)) == 1
    assert len(sockets(place)) == 1, "it was killed"
    aiopip("ps")
    assert sockets(place) == []


@pytest.fixture
def left_behind(place: Path) -> str:
    """The name of the socket of a Root that was killed."""
    with other_root("0"):
        pass
    (name,) = names(place)
    return name


@ONE_LOOP
async def test_opening_removes_the_socket_of_a_killed_root(place: Path, left_behind: str) -> None:
    async with clean_root():
        (name,) = names(place)
        assert name != left_behind
        assert name.startswith(f"{os.getpid()}.")
    assert names(place) == []


@pytest.fixture
def strangers(place: Path) -> Path:
    """What was killed before it had its name, and a file of somebody's."""
    place.mkdir(mode=0o700)
    no_process = subprocess.Popen(["true"])
    no_process.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as draft:
        draft.bind(str(place / f".{no_process.pid}.draft"))
    (place / f".{no_process.pid}.loader").touch()
    (place / "notes.txt").touch()
    return place


@ONE_LOOP
async def test_opening_removes_drafts_and_nothing_else(strangers: Path) -> None:
    async with clean_root():
        assert len(names(strangers)) == 2
    assert names(strangers) == ["notes.txt"]


@ONE_LOOP
async def test_socket_is_this_users_alone(place: Path) -> None:
    async with clean_root():
        (path,) = sockets(place)
        assert (mode(path), mode(place)) == (0o600, 0o700)


@ONE_LOOP
async def test_other_users_are_told_nothing(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only the superuser can become another user")
    async with clean_root():
        (path,) = sockets(place)
        for each, allowed in ((path, 0o666), (place, 0o755), (place.parent, 0o755)):
            os.chmod(each, allowed)  # noqa: PTH101
        told = await anyio.to_thread.run_sync(asked_as_nobody, path)
    assert told == "nothing"


def asked_as_nobody(path: Path) -> str:
    """What another user is told who gets as far as the socket."""
    source = f"""
        import os, socket
        os.setuid(65534)
        asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asker.connect({str(path)!r})
        print("something" if asker.recv(100) else "nothing")
        asker.close()
    """
    done = subprocess.run(python_source(source), capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


@pytest.fixture
def open_to_others(place: Path) -> None:
    """A folder for sockets that others can enter."""
    place.mkdir()
    place.chmod(0o755)


@ONE_LOOP
@pytest.mark.usefixtures("open_to_others")
async def test_root_works_where_it_can_have_no_socket(place: Path) -> None:
    async with clean_root() as root:
        assert await (await root.spawn("true")).wait() == 0
        assert names(place) == []


def test_without_a_runtime_folder_it_is_one_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "relative", "/nonexistent", "/etc/passwd"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert next(folders()) == Path(f"/tmp/aiopip-{os.geteuid()}")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert next(folders()) == Path(f"/tmp/aiopip-{os.geteuid()}")


def test_link_in_the_folders_place_is_not_followed(place: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="others can enter it"):
        folder()
    assert sockets(place) == []


@ONE_LOOP
async def test_forked_child_does_not_answer_for_its_parent(place: Path) -> None:
    async with clean_root():
        child = os.fork()
        if child == 0:
            os._exit(0 if len(sockets(place)) == 1 else 1)
        _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
        assert status == 0
        assert os.getpid() in await listed()


@ONE_LOOP
async def test_aborted_root_has_no_socket(place: Path) -> None:
    async with Root() as root:
        assert len(sockets(place)) == 1
        root.abort()
        assert sockets(place) == []


def test_root_that_nobody_left_has_no_socket_at_exit(place: Path) -> None:
    source = """
        import asyncio, aiopip
        async def main():
            await aiopip.Root().__aenter__()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
    """
    subprocess.run(python_source(source), check=True, capture_output=True)
    assert place.is_dir()
    assert sockets(place) == []


def test_what_was_learned_of_the_loader_is_kept_for_the_next_process(place: Path) -> None:
    with other_root("0"):
        if not (place / "loader").exists():
            pytest.skip("nothing can be learned of this ld.so")
        before = (place / "loader").stat()
        with other_root("0"):
            pass
    assert mode(place / "loader") == 0o600
    assert (place / "loader").stat().st_ino == before.st_ino
