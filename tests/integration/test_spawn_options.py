"""Options of spawn that are given seldom: what a task then is, and what cannot be applied."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import output, settled, signals_in, status_field, still_works

import aiopip

if TYPE_CHECKING:
    from conftest import CompileC


async def status_of(root: aiopip.Root, **options: object) -> str:
    return (await output(root, "cat", "/proc/self/status", **options)).decode()


async def fails(root: aiopip.Root, option: str, number: int, **options: object) -> str:
    """What spawn says of an option that cannot be applied; nothing of the task is left."""
    with pytest.raises(aiopip.SpawnOptionError) as caught:
        await root.spawn("true", **options)  # type: ignore[arg-type]
    assert (caught.value.option, caught.value.errno) == (option, number)
    assert isinstance(caught.value, type(OSError(number, "")))
    await settled(root)
    await still_works(root)
    return str(caught.value)


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


async def test_umask(root: aiopip.Root, tmp_path: Path) -> None:
    script = 'umask; : > "$1"'
    path = tmp_path / "made"
    assert await output(root, "sh", "-c", script, "sh", path, umask=0o037) == b"0037\n"
    assert path.stat().st_mode & 0o777 == 0o640
    ours = os.umask(0o022)
    os.umask(ours)
    assert int(await output(root, "sh", "-c", "umask"), 8) == ours


async def test_nice(root: aiopip.Root) -> None:
    assert await output(root, "nice", nice=11) == b"11\n"
    assert os.getpriority(os.PRIO_PROCESS, 0) == int(await output(root, "nice"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may lower the nice value")
async def test_nice_may_be_less_than_ours(root: aiopip.Root) -> None:
    assert await output(root, "nice", nice=-3) == b"-3\n"


async def test_cpu(root: aiopip.Root) -> None:
    ours = sorted(os.sched_getaffinity(0))
    status = await status_of(root, cpu=ours[-1])
    assert status_field(status, "Cpus_allowed_list") == str(ours[-1])
    program = "import os; print(*sorted(os.sched_getaffinity(0)))"
    for chosen in ({ours[0]}, set(ours)):
        seen = await output(root, sys.executable, "-c", program, cpu=chosen)
        assert set(map(int, seen.split())) == chosen


async def test_cpu_that_is_not_there(root: aiopip.Root) -> None:
    text = await fails(root, "cpu", errno.EINVAL, cpu=8191)
    assert "none of these processors" in text


async def test_sigmask(root: aiopip.Root) -> None:
    blocked = {signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMAX}
    status = await status_of(root, sigmask=blocked)
    assert signals_in(status_field(status, "SigBlk")) == blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        status = await status_of(root, sigmask=())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert not signals_in(status_field(status, "SigBlk"))


async def test_name(root: aiopip.Root) -> None:
    task = await root.spawn("sleep", "1000", name="wörker 1")
    assert comm(task.pid) == "wörker 1\n"
    assert task.name == "wörker 1"
    assert task.program == "sleep"
    assert "wörker 1" in repr(task)
    task.kill()
    await task.wait()


async def test_stack_bytes(root: aiopip.Root) -> None:
    program = "import resource, threading; print(*resource.getrlimit(resource.RLIMIT_STACK))"
    wanted = 32 << 20
    seen = await output(root, sys.executable, "-c", program, stack_bytes=wanted)
    assert int(seen.split()[0]) == wanted
    assert await output(root, "sh", "-c", "ulimit -s", stack_bytes=wanted) == b"32768\n"


DEEP = """
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) static int use(unsigned long bytes)
{
    volatile char some[4096];
    memset((char *)some, 1, sizeof some);
    return bytes < sizeof some ? some[7] : use(bytes - sizeof some) + some[9] - 1;
}
int main(int argc, char **argv) { return use(strtoul(argv[1], 0, 0)) != 1; }
"""


async def test_large_stack_is_there(root: aiopip.Root, c_program: CompileC) -> None:
    program = c_program(DEEP)
    bytes_ = 100 << 20
    assert await (await root.spawn(program, str(bytes_), stack_bytes=110 << 20)).wait() == 0
    assert await (await root.spawn(program, str(bytes_))).wait() == -signal.SIGSEGV


async def test_stack_larger_than_a_task_s_address_space(root: aiopip.Root) -> None:
    text = await fails(root, "stack_bytes", errno.ENOMEM, stack_bytes=1 << 46)
    assert "max_tasks" in text


LIMITS = {
    resource.RLIMIT_DATA: ("-d", 1 << 40, 1024),
    resource.RLIMIT_NOFILE: ("-n", 77, 1),
    resource.RLIMIT_CORE: ("-c", 1 << 20, 512),
    resource.RLIMIT_STACK: ("-s", 4 << 20, 1024),
    resource.RLIMIT_CPU: ("-t", 100, 1),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_limit_as_a_pair_and_as_a_soft_one(root: aiopip.Root, limit: int) -> None:
    letter, value, unit = LIMITS[limit]
    shows = f"ulimit -S {letter}; ulimit -H {letter}; true"
    seen = await output(root, "sh", "-c", shows, rlimits={limit: (value, value + unit)})
    assert seen.split() == [b"%d" % (value // unit), b"%d" % (value // unit + 1)]
    before = await output(root, "sh", "-c", shows)
    soft, hard = (await output(root, "sh", "-c", shows, rlimits={limit: value})).split()
    assert (soft, hard) == (b"%d" % (value // unit), before.split()[1])


async def test_limit_that_cannot_be(root: aiopip.Root) -> None:
    text = await fails(root, "rlimits", errno.EINVAL, rlimits={resource.RLIMIT_CPU: 1, 99: 1})
    assert "rlimits[99]" in text


async def test_options_of_a_group_s_spawn(root: aiopip.Root) -> None:
    async with root.task_group() as group:
        task = await group.spawn(
            "sh", "-c", '[ "$(umask)" = 0077 ]', umask=0o077, name="grouped", stderr=subprocess.PIPE
        )
        assert task.name == "grouped"


async def test_many_options_at_once(root: aiopip.Root, tmp_path: Path) -> None:
    options = {
        "cwd": tmp_path,
        "umask": 0o077,
        "rlimits": {resource.RLIMIT_NOFILE: (50, 60), resource.RLIMIT_CORE: 0},
        "nice": 12,
        "cpu": os.sched_getaffinity(0),
        "sigmask": {signal.SIGUSR2},
        "name": "all at once",
        "stack_bytes": 1 << 20,
        "new_session": True,
    }
    shows = "umask; ulimit -n; ulimit -s; nice; pwd; cat /proc/$$/comm"
    for _ in range(3):  # nothing of it is left for the next spawn
        seen = (await output(root, "sh", "-c", shows, **options)).decode().splitlines()
        assert seen == ["0077", "50", "1024", "12", str(tmp_path), "all at once"]
        plain = await output(root, "sh", "-c", "nice; cat /proc/$$/comm")
        assert plain.split() == [b"%d" % os.getpriority(os.PRIO_PROCESS, 0), b"sh"]
