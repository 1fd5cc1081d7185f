"""Processes by asyncio's functions and by ours: they must not differ."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from integration.subprocesses import (
    ONLY_ASYNCIO,
    OURS_AND_THEIRS,
    Subprocesses,
    broken,
    communicate,
    ended,
)
from loops import only
from support import DEADLINE_S, is_gone, until

if TYPE_CHECKING:
    import aiopip

pytestmark = only("asyncio", reason=ONLY_ASYNCIO)

MEBIBYTE = b"0123456789abcde\n" * 65536


@pytest.fixture(params=OURS_AND_THEIRS)
def api(request: pytest.FixtureRequest, root: aiopip.Root) -> Subprocesses:
    return Subprocesses(request.param, root)


# What a process gets


@pytest.mark.parametrize("code", [0, 1, 3, 255])
async def test_returncode_is_the_exit_code(api: Subprocesses, code: int) -> None:
    process = await api.exec("sh", "-c", f"exit {code}")
    assert isinstance(process, Process)
    assert await process.wait() == process.returncode == code


async def test_arguments_are_taken_as_they_are(api: Subprocesses) -> None:
    words: list[Any] = [
        "",
        " ",
        "*",
        "$HOME",
        "ä",
        b"\xff\xfe",
        Path("a/b"),
        "line\nline",
        "-n",
        "'\"",
    ]
    got = await api.output("printf", "%s|", *words)
    assert got == b"|".join(map(os.fsencode, words)) + b"|"


@pytest.mark.parametrize("program", ["echo", b"echo", Path("/bin/echo"), "/bin/echo", b"/bin/echo"])
async def test_program_may_be_any_kind_of_path(api: Subprocesses, program: Any) -> None:
    assert await api.output(program, "said") == b"said\n"


async def test_environment_is_inherited(api: Subprocesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOPIP_TEST", "from outside")
    assert b"AIOPIP_TEST=from outside\n" in await api.output("env")


async def test_environment_that_is_given_is_all_there_is(api: Subprocesses) -> None:
    assert await api.output("/usr/bin/env", env={"A": "1", "B": "ö"}) == "A=1\nB=ö\n".encode()
    assert await api.output("/usr/bin/env", env={}) == b""


async def test_program_is_searched_in_the_path_that_is_given(
    api: Subprocesses, tmp_path: Path
) -> None:
    program = tmp_path / "an_unusual_name"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert await api.output(program.name, env={"PATH": f"/nowhere:{tmp_path}"}) == b"found\n"
    with pytest.raises(FileNotFoundError):
        await api.exec(program.name)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
async def test_cwd_may_be_any_kind_of_path(api: Subprocesses, tmp_path: Path, kind: Any) -> None:
    assert await api.output("pwd", "-P", cwd=kind(tmp_path)) == os.fsencode(tmp_path) + b"\n"


async def test_relative_program_is_found_from_cwd(api: Subprocesses, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "program").chmod(0o755)
    assert await api.output("./program", cwd=tmp_path) == b"here\n"


async def test_executable_is_run_under_another_name(api: Subprocesses) -> None:
    api.without_uvloops("argv[0] is the executable")
    line = ["name", "-c", 'echo "$0"']
    assert await api.output(*line, executable="/bin/sh") == b"name\n"


async def test_no_descriptor_is_inherited(api: Subprocesses) -> None:
    api.without_uvloops("what is inheritable is inherited")
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    try:
        listed = await api.output("ls", "/proc/self/fd")
    finally:
        os.close(reader)
        os.close(writer)
    assert listed.split() == [b"0", b"1", b"2", b"3"]  # the last is that of the folder


async def test_signals_have_their_defaults(api: Subprocesses) -> None:
    """Python ignores SIGPIPE and SIGXFSZ for itself."""
    status = (await api.output("cat", "/proc/self/status")).decode()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        assert not ignored >> (number - 1) & 1, number


async def test_new_session(api: Subprocesses) -> None:
    process = await api.exec("sleep", "1000", start_new_session=True)
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    process.kill()
    await process.wait()


async def test_process_group(api: Subprocesses) -> None:
    api.without_uvloops("it knows no process groups")
    if sys.version_info < (3, 11) and api.whose == "asyncio":
        pytest.skip("process_group is Python 3.11's")
    process = await api.exec("sleep", "1000", process_group=0)
    assert os.getpgid(process.pid) == process.pid
    assert os.getsid(process.pid) == os.getsid(0)
    process.kill()
    await process.wait()


async def test_umask(api: Subprocesses) -> None:
    api.without_uvloops("it knows no umask")
    assert await api.output("sh", "-c", "umask", umask=0o027) == b"0027\n"


async def test_descriptors_that_are_passed(api: Subprocesses) -> None:
    reader, writer = os.pipe()
    try:
        line = f"echo passed >/proc/self/fd/{writer}"
        assert await api.output("sh", "-c", line, pass_fds=[writer]) == b""
        assert os.read(reader, 100) == b"passed\n"
    finally:
        os.close(reader)
        os.close(writer)


async def test_inheritable_descriptors_without_close_fds(api: Subprocesses) -> None:
    inherited, other = os.pipe()
    os.set_inheritable(inherited, True)
    line = f"ls -d /proc/self/fd/{inherited} /proc/self/fd/{other} 2>/dev/null; true"
    try:
        listed = await api.output("sh", "-c", line, close_fds=False)
        assert listed == f"/proc/self/fd/{inherited}\n".encode()
    finally:
        os.close(inherited)
        os.close(other)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be others")
async def test_user_and_groups(api: Subprocesses) -> None:
    api.without_uvloops("it takes numbers only, and no further groups")
    who = {"user": 65534, "group": 65533, "extra_groups": [7, 8]}
    line = "id -u; id -g; id -G"
    assert await api.output("sh", "-c", line, cwd="/", **who) == b"65534\n65533\n65533 7 8\n"


# Shell


async def test_shell_runs_a_command(api: Subprocesses) -> None:
    process = await api.shell("echo $((6 * 7)) | cat; exit 3", stdout=PIPE)
    assert await communicate(process) == (b"42\n", None)
    assert process.returncode == 3


async def test_shell_takes_bytes_and_options(api: Subprocesses, tmp_path: Path) -> None:
    process = await api.shell(b"pwd -P; echo $A", stdout=PIPE, cwd=tmp_path, env={"A": "b"})
    assert await communicate(process) == (os.fsencode(tmp_path) + b"\nb\n", None)


async def test_another_shell(api: Subprocesses) -> None:
    process = await api.shell("echo ${BASH_VERSION:+bash}", stdout=PIPE, executable="/bin/bash")
    assert await communicate(process) == (b"bash\n", None)


async def test_command_that_is_not_found_is_the_shells_business(api: Subprocesses) -> None:
    process = await api.shell("no-such-program-here", stderr=PIPE)
    _, said = await process.communicate()
    assert process.returncode == 127
    assert b"no-such-program-here" in said


# What cannot be started


async def test_program_that_is_not_there(api: Subprocesses) -> None:
    for name in ("no-such-program-here", "/no/such/program"):
        with pytest.raises(FileNotFoundError) as caught:
            await api.exec(name, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        assert caught.value.errno == errno.ENOENT


async def test_folder_that_is_not_there(api: Subprocesses, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await api.exec("true", cwd=tmp_path / "nowhere")


async def test_file_that_is_not_executable(api: Subprocesses, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("#!/bin/sh\n")
    for path in (tmp_path / "file", tmp_path):
        with pytest.raises(PermissionError):
            await api.exec(path, stdout=PIPE)


async def test_text_without_an_interpreter(api: Subprocesses, tmp_path: Path) -> None:
    api.without_uvloops("execvp has /bin/sh run such a file")
    (tmp_path / "file").write_text("echo hello\n")
    (tmp_path / "file").chmod(0o755)
    with pytest.raises(OSError, match="format") as caught:
        await api.exec(tmp_path / "file", stdout=PIPE)
    assert caught.value.errno == errno.ENOEXEC


async def test_script_whose_interpreter_is_not_there(api: Subprocesses, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("#!/no/such/interpreter\n")
    (tmp_path / "file").chmod(0o755)
    with pytest.raises(FileNotFoundError):
        await api.exec(tmp_path / "file")


@pytest.mark.parametrize(
    "keywords",
    [
        {"universal_newlines": True},
        {"bufsize": 4096},
        {"text": True},
        {"encoding": "utf-8"},
        {"errors": "strict"},
    ],
    ids=str,
)
async def test_keywords_that_asyncio_refuses(api: Subprocesses, keywords: dict[str, Any]) -> None:
    api.without_uvloops("it lets some of them pass")
    (name,) = keywords
    with pytest.raises(ValueError, match=f"{name} must be"):
        await api.exec("true", **keywords)
    with pytest.raises(ValueError, match=f"{name} must be"):
        await api.shell("true", **keywords)


async def test_what_no_program_can_be_given(api: Subprocesses) -> None:
    api.without_uvloops("it takes a NUL for the end of the argument")
    with pytest.raises(ValueError, match=r"(?i)nul"):
        await api.exec("echo", "a\0b")
    with pytest.raises(TypeError):
        await api.exec("echo", 17)
    with pytest.raises(ValueError, match="string"):
        await api.shell(["echo"])
    with pytest.raises(ValueError, match="shell"):
        await api.exec("echo", shell=True)
    with pytest.raises(ValueError, match="shell"):
        await api.shell("echo", shell=False)
    with pytest.raises(TypeError):
        await api.exec("echo", no_such_keyword=1)


# stdin, stdout, stderr


async def test_communicate_gives_both_outputs(api: Subprocesses) -> None:
    process = await api.exec("sh", "-c", "echo out; echo err >&2", stdout=PIPE, stderr=PIPE)
    assert await communicate(process) == (b"out\n", b"err\n")
    assert process.returncode == 0


async def test_stderr_goes_where_stdout_goes(api: Subprocesses) -> None:
    line = "echo 1; echo 2 >&2; echo 3"
    process = await api.exec("sh", "-c", line, stdout=PIPE, stderr=STDOUT)
    assert await communicate(process) == (b"1\n2\n3\n", None)
    assert process.stderr is None


async def test_devnull(api: Subprocesses) -> None:
    process = await api.exec("cat", stdin=DEVNULL, stdout=PIPE)
    assert await communicate(process) == (b"", None)
    assert await (await api.shell("echo x; echo y >&2", stdout=DEVNULL, stderr=DEVNULL)).wait() == 0


async def test_files_and_descriptors(api: Subprocesses, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        process = await api.exec("cat", stdin=source, stdout=sink.fileno())
        assert (process.stdin, process.stdout) == (None, None)
        assert await process.wait() == 0
    assert (tmp_path / "out").read_bytes() == b"from a file"


async def test_two_programs_on_one_pipe(api: Subprocesses) -> None:
    reader, writer = os.pipe()
    first = await api.exec("echo", "through a pipe", stdout=writer)
    os.close(writer)
    second = await api.exec("tr", "a-z", "A-Z", stdin=reader, stdout=PIPE)
    os.close(reader)
    assert await communicate(second) == (b"THROUGH A PIPE\n", None)
    assert await first.wait() == 0


async def test_much_in_all_directions(api: Subprocesses) -> None:
    api.without_uvloops("its pipes are sockets, which cannot be opened")
    process = await api.exec("tee", "/dev/stderr", stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert await communicate(process, MEBIBYTE) == (MEBIBYTE, MEBIBYTE)


async def test_much_to_both_outputs(api: Subprocesses) -> None:
    line = "head -c 1000000 /dev/zero & head -c 1000000 /dev/zero >&2; wait"
    process = await api.shell(line, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert (len(out), len(err)) == (1000000, 1000000)


async def test_input_that_nobody_reads(api: Subprocesses) -> None:
    """A write fails there, or its pipe does; communicate() takes both for the program's right."""
    api.without_uvloops("RuntimeError, where its transport is closed by then")
    for line in ("exit 0", "exec 0<&-; exit 0", "head -c 1 >/dev/null"):
        process = await api.shell(line, stdin=PIPE)
        await process.communicate(MEBIBYTE)
        assert process.returncode == 0, line
        await broken(process)


async def test_input_that_nobody_reads_breaks_the_writer(api: Subprocesses) -> None:
    api.without_uvloops("RuntimeError, where its transport is closed by then")
    process = await api.exec("true", stdin=PIPE)
    assert process.stdin is not None

    async def write() -> None:
        assert process.stdin is not None
        while True:
            process.stdin.write(b"x" * 65536)
            await process.stdin.drain()
            await asyncio.sleep(0)

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await asyncio.wait_for(write(), DEADLINE_S)
    assert await process.wait() == 0
    await broken(process)


async def test_dialogue(api: Subprocesses) -> None:
    process = await api.exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in (b"one\n", b"two\n", b"three\n"):
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    assert process.returncode is None
    process.stdin.close()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_end_of_input(api: Subprocesses) -> None:
    process = await api.exec("wc", "-c", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.writelines([b"some ", b"bytes"])
    assert process.stdin.can_write_eof()
    process.stdin.write_eof()
    out, _ = await process.communicate()
    assert out.split() == [b"10"]


async def test_end_of_much_input(api: Subprocesses) -> None:
    """It comes behind all that has been written."""
    process = await api.exec("wc", "-c", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    process.stdin.write(MEBIBYTE)
    process.stdin.write_eof()
    assert process.stdout is not None
    assert (await process.stdout.read()).split() == [b"%d" % len(MEBIBYTE)]
    assert await process.wait() == 0


async def test_closed_stdin_says_so(api: Subprocesses) -> None:
    process = await api.exec("cat", stdin=PIPE)
    assert process.stdin is not None
    assert not process.stdin.is_closing()
    process.stdin.close()
    assert process.stdin.is_closing()
    await process.stdin.wait_closed()
    assert await process.wait() == 0


async def test_output_is_there_after_the_end(api: Subprocesses) -> None:
    process = await api.exec("sh", "-c", "echo one; echo two; echo three", stdout=PIPE)
    await until(lambda: process.returncode is not None)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"one\n"
    assert [line async for line in process.stdout] == [b"two\n", b"three\n"]
    assert process.stdout.at_eof()


async def test_line_that_is_longer_than_the_limit(api: Subprocesses) -> None:
    # Without an end: uvloop's own reads on before its reader can say stop.
    process = await api.exec("cat", "/dev/zero", stdout=PIPE, limit=1000)
    assert process.stdout is not None
    with pytest.raises(ValueError, match="limit"):
        await process.stdout.readline()
    with pytest.raises(asyncio.LimitOverrunError):
        await process.stdout.readuntil(b"\n")
    process.kill()
    assert await ended(process) == -signal.SIGKILL


async def test_output_that_nobody_reads_stops_the_program(
    api: Subprocesses, tmp_path: Path
) -> None:
    mark = tmp_path / "written"
    line = 'head -c 1000000 /dev/zero; touch "$0"'
    process = await api.exec("sh", "-c", line, mark, stdout=PIPE, limit=4096)
    assert process.stdout is not None
    assert await process.stdout.readexactly(1) == b"\0"
    assert not mark.exists()
    assert len(await process.stdout.read()) == 999999
    assert await process.wait() == 0
    assert mark.exists()


async def test_incomplete_read(api: Subprocesses) -> None:
    process = await api.exec("echo", "short", stdout=PIPE)
    assert process.stdout is not None
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await process.stdout.readexactly(100)
    assert caught.value.partial == b"short\n"
    assert await process.wait() == 0


# Signals and ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGUSR1])
async def test_signal_that_ends_it(api: Subprocesses, number: signal.Signals) -> None:
    process = await api.exec("sleep", "1000")
    assert process.returncode is None
    process.send_signal(number)
    assert await process.wait() == -number


async def test_terminate_and_kill(api: Subprocesses) -> None:
    process = await api.exec("sleep", "1000")
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
    process = await api.exec("sleep", "1000")
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_signal_that_it_catches(api: Subprocesses) -> None:
    line = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    process = await api.shell(line, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    process.terminate()
    assert await communicate(process) == (b"caught\n", None)
    assert process.returncode == 5


async def test_stopped_process_goes_on(api: Subprocesses) -> None:
    process = await api.exec("cat", stdin=PIPE, stdout=PIPE)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGCONT)
    assert await communicate(process, b"x") == (b"x", None)


async def test_ended_process_takes_no_signal(api: Subprocesses) -> None:
    process = await api.exec("true")
    await process.wait()
    for send in (process.terminate, process.kill, lambda: process.send_signal(signal.SIGTERM)):
        with pytest.raises(ProcessLookupError):
            send()
    assert process.returncode == 0


async def test_kill_then_communicate(api: Subprocesses) -> None:
    line = "echo before; exec sleep 1000"
    process = await api.shell(line, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"before\n"
    process.kill()
    assert await communicate(process) == (b"", b"")
    assert process.returncode == -signal.SIGKILL


async def test_signal_from_elsewhere(api: Subprocesses) -> None:
    process = await api.exec("sleep", "1000")
    os.kill(process.pid, signal.SIGTERM)
    assert await process.wait() == -signal.SIGTERM


async def test_wait_as_often_as_one_likes(api: Subprocesses) -> None:
    process = await api.exec("sh", "-c", "exit 3")
    for status in await asyncio.gather(process.wait(), process.wait(), process.wait()):
        assert status == 3
    assert await process.wait() == 3
    assert await communicate(process) == (None, None)


async def test_nobody_need_wait(api: Subprocesses) -> None:
    """No zombie stays, and the returncode comes by itself."""
    process = await api.exec("sh", "-c", "exit 3")
    await until(lambda: process.returncode is not None)
    assert process.returncode == 3
    await until(lambda: not Path(f"/proc/{process.pid}").exists())


# Cancellation


async def test_cancelled_wait_changes_nothing(api: Subprocesses) -> None:
    process = await api.exec("sleep", "1000")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    other = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert process.returncode is None
    process.kill()
    assert await other == await process.wait() == -signal.SIGKILL


async def test_cancelled_communicate_leaves_it_running(api: Subprocesses) -> None:
    process = await api.exec("sleep", "1000", stdout=PIPE, stderr=PIPE)
    talking = asyncio.ensure_future(process.communicate())
    await asyncio.sleep(0.01)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    assert process.returncode is None
    process.kill()
    assert await ended(process) == -signal.SIGKILL


async def test_communicate_that_takes_too_long(api: Subprocesses) -> None:
    """What the documentation of subprocess has for a timeout."""
    process = await api.exec("sleep", "1000", stdout=PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.communicate(), 0.05)
    process.kill()
    assert await communicate(process) == (b"", None)
    assert process.returncode == -signal.SIGKILL


# Many, and what they leave


async def test_many_at_once(api: Subprocesses) -> None:
    async def run(number: int) -> bytes:
        return await api.output("sh", "-c", "cat; echo $0", str(number), stdin=DEVNULL)

    got = await asyncio.gather(*(run(number) for number in range(30)))
    assert got == [b"%d\n" % number for number in range(30)]


async def test_pipe_that_a_grandchild_has(api: Subprocesses) -> None:
    """The process has ended, and its output has not."""
    process = await api.shell("sleep 1000 & echo $!", stdout=PIPE)
    assert process.stdout is not None
    grandchild = int(await process.stdout.readline())
    await until(lambda: process.returncode == 0)
    assert not is_gone(grandchild)
    assert not process.stdout.at_eof()
    os.kill(grandchild, signal.SIGKILL)
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


async def test_process_that_nobody_refers_to_goes_on(api: Subprocesses, tmp_path: Path) -> None:
    line = 'sleep 0.1; echo done > "$0"'
    await api.exec("sh", "-c", line, tmp_path / "mark")
    await until((tmp_path / "mark").exists)


async def test_descriptors_go_with_the_process(api: Subprocesses) -> None:
    descriptors = Path("/proc/self/fd")
    pipes = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}

    async def cycle() -> None:
        process = await api.exec("cat", **pipes)
        await process.communicate(b"x")
        with pytest.raises(FileNotFoundError):
            await api.exec("/no/such/program", **pipes)

    await cycle()  # loops open what they need for it
    await asyncio.sleep(0.01)
    before = len(list(descriptors.iterdir()))  # noqa: ASYNC240
    for _ in range(5):
        await cycle()
    await until(lambda: len(list(descriptors.iterdir())) <= before)


async def test_python_program(api: Subprocesses) -> None:
    source = "import sys; print(sys.stdin.read().upper(), end=''); sys.exit(4)"
    process = await api.exec(sys.executable, "-S", "-c", source, stdin=PIPE, stdout=PIPE)
    assert await communicate(process, b"python") == (b"PYTHON", None)
    assert process.returncode == 4


async def test_subprocess_beside_it(api: Subprocesses) -> None:
    """Other libraries' children are not taken, nor their statuses."""
    process = await api.exec("sleep", "1000")
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", "exit 6"], check=False)
    assert done.returncode == 6
    process.kill()
    assert await process.wait() == -signal.SIGKILL
