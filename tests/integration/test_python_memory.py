"""Python programs as tasks: memory, what is a task's own, many at once, and killed at work."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import signal
import subprocess
import tempfile
from pathlib import Path
from textwrap import dedent

import pytest
from integration.pythons import Ran, alike, as_process, as_task, environment, python
from jobs import gather
from support import mapping_count, output, pipe, ready, settled, until

import aiopip

# Memory

MEMORY = {
    "anonymous": """
        import mmap
        blocks = [mmap.mmap(-1, 3_000_000) for _ in range(100)]
        for number, block in enumerate(blocks): block[-1] = number
        print(sum(block[-1] for block in blocks))
        for block in blocks[::2]: block.close()
        print(sum(block[-1] for block in blocks[1::2]))
    """,
    "larger than a window": """
        import mmap
        with mmap.mmap(-1, 5 << 30) as block:
            block[0], block[-1] = 1, 2
            print(len(block), block[0] + block[-1], block[1 << 32])
    """,
    "grown and shrunk": """
        import mmap, tempfile
        with tempfile.TemporaryFile() as file:
            file.truncate(4096)
            block = mmap.mmap(file.fileno(), 4096)
            neighbours = [mmap.mmap(-1, 4096) for _ in range(3)]
            for pages in (2, 1000, 3, 5000, 1):
                block.resize(4096 * pages)
                block[-1] = 7
                print(len(block), block[-1])
        private = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private[8191] = 1
        private.resize(1 << 20)
        print(private[8191], private[-1])
    """,
    "private file": """
        import mmap, os, sys
        with open(sys.executable, "rb") as file:
            block = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            begin = block[:4]
            block[:4] = b"mine"
            print(begin, block[:4], file.read(4))
            block.madvise(mmap.MADV_DONTNEED)
            print(block[:4])
    """,
    "shared with a child": """
        import mmap, os
        shared, own = mmap.mmap(-1, 1 << 20), mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE)
        child = os.fork()
        if child == 0:
            shared[100], own[100] = 5, 5
            os._exit(0)
        print(os.waitpid(child, 0)[1], shared[100], own[100])
    """,
    "grown bytearray": """
        block = bytearray()
        for size in (10, 1 << 20, 50 << 20, 100 << 20, 1 << 20, 0, 30 << 20):
            block.extend(bytes(max(0, size - len(block))))
            del block[size:]
            print(len(block), block.count(0))
    """,
    "memory given back": """
        for _ in range(50):
            data = [bytes(40_000_000), [str(n) for n in range(10_000)]]
        print(len(data))
    """,
    "tracemalloc": """
        import gc, tracemalloc
        tracemalloc.start()
        data = [bytes(1000) for _ in range(1000)]
        print(tracemalloc.get_traced_memory()[0] > 1_000_000)
        del data
        gc.collect()
        print(tracemalloc.get_traced_memory()[0] < 1_000_000)
    """,
}


@pytest.mark.parametrize("name", MEMORY)
async def test_memory(root: aiopip.Root, name: str) -> None:
    ran = await alike(root, *python(MEMORY[name]))
    assert (ran.status, ran.err) == (0, b"")
    assert ran.out


@pytest.mark.parametrize(
    "variable",
    [
        "MALLOC_ARENA_MAX=1",
        "MALLOC_PERTURB_=165",
        "GLIBC_TUNABLES=glibc.malloc.mmap_max=0",  # all of malloc's memory by sbrk, if it can
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=2",
        "GLIBC_TUNABLES=glibc.pthread.stack_cache_size=0:glibc.pthread.rseq=0",
    ],
)
async def test_tunables_of_libc(root: aiopip.Root, variable: str) -> None:
    source = """
        import threading
        found = []
        def work():
            found.append(sum(bytearray(number * 10_000).count(0) for number in range(60)))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(found)
    """
    name, _, value = variable.partition("=")
    ran = await alike(root, *python(source), env=environment(**{name: value}))
    assert ran == Ran(0, f"{[17_700_000] * 4}\n".encode(), b"")


@pytest.mark.parametrize("folder", ["/dev/shm", None])
async def test_file_is_shared_by_root_and_task(root: aiopip.Root, folder: str | None) -> None:
    source = """
        import mmap, sys
        with open(sys.argv[1], "r+b") as file:
            block = mmap.mmap(file.fileno(), 0)
        print("ready", flush=True)
        sys.stdin.read()
        block[:5] = block[:5].upper()
        block.flush()
    """
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(1 << 20)
        reader, writer = os.pipe()
        with mmap.mmap(file.fileno(), 0) as block:
            task = await ready(root, *python(source, file.name), stdin=reader)
            block[:5] = b"words"  # the task has it mapped already
            os.close(reader)
            os.close(writer)
            assert await task.wait() == 0
            assert block[:5] == b"WORDS"


async def test_child_by_fork_outlives_its_task(root: aiopip.Root, tmp_path: Path) -> None:
    """It has a memory of its own: that of the task goes back, and the child works on."""
    source = """
        import os, sys, threading
        if os.fork() == 0:
            os.setsid()
            sys.stdin.read()
            found = []
            thread = threading.Thread(target=lambda: found.append(bytes(50_000_000)))
            thread.start()
            thread.join()
            with open(sys.argv[1], "w") as file:
                file.write(f"{len(found[0])}\\n")
    """
    path, (reader, writer) = tmp_path / "written", os.pipe()
    task = await root.spawn(*python(source, path), stdin=reader, stdout=subprocess.DEVNULL)
    os.close(reader)
    try:
        assert await task.wait() == 0
        await settled(root)
        assert not path.exists()
    finally:
        os.close(writer)
    await until(lambda: path.exists() and path.read_text() == "50000000\n")


# What is a task's own


def surroundings() -> tuple[object, ...]:
    umask = os.umask(0)
    os.umask(umask)
    limits = [resource.getrlimit(number) for number in range(8)]
    return Path.cwd(), umask, dict(os.environ), limits, os.getpriority(0, 0), os.getpgrp()


async def test_what_a_task_changes_is_its_own(root: aiopip.Root, tmp_path: Path) -> None:
    """Neither the root nor a sibling sees it."""
    changes = """
        import locale, os, resource, signal, sys, tempfile, time
        os.environ["CHANGED"] = "yes"
        os.putenv("ALSO", "yes")
        os.environ["TZ"] = "XXX-9"
        time.tzset()
        os.chdir(sys.argv[1])
        os.umask(0o27)
        os.nice(2)
        os.setpgid(0, 0)
        tempfile.tempdir = sys.argv[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.close(0)
        made = tempfile.NamedTemporaryFile(delete=False)
        try:
            made.write(b"x" * 10_000)
            made.flush()
        except OSError as error:
            print("limited", error.errno, flush=True)
        print("ready" if os.path.dirname(made.name) == sys.argv[1] else "elsewhere", flush=True)
        signal.pause()
    """
    looks = """
        import os, resource, signal, time
        umask = os.umask(0)
        print(os.getcwd(), umask, sorted(os.environ), time.tzname, os.nice(0), os.getpgrp())
        print([resource.getrlimit(number) for number in range(8)], signal.pthread_sigmask(0, []))
        print(signal.getsignal(signal.SIGTERM), os.path.exists("/proc/self/fd/0"))
    """
    before, line = surroundings(), python(looks)
    expected = as_process(*line)
    reader, writer = os.pipe()
    waits = python("import sys; print('ready', flush=True); sys.stdin.read()\n" + dedent(looks))
    async with pipe() as to_sibling, pipe() as made:
        sibling = await root.spawn(
            *waits, stdin=reader, stdout=to_sibling.writer, env=environment()
        )
        assert await to_sibling.line() == b"ready"
        task = await root.spawn(*python(changes, tmp_path), stdout=made.writer)
        assert await made.line() == b"limited 27"
        assert await made.line() == b"ready"
        assert surroundings() == before
        os.close(reader)
        os.close(writer)
        seen = [await to_sibling.line() for _ in range(3)]
        assert await sibling.wait() == 0
    assert b"\n".join([*seen, b""]) == expected.out
    assert await as_task(root, *line) == expected
    (file,) = os.scandir(tmp_path)
    assert file.stat().st_size == 1000
    task.terminate()  # which it ignores
    task.kill()
    assert await task.wait() == -signal.SIGKILL


async def test_locks_of_files_hold_between_tasks(root: aiopip.Root, tmp_path: Path) -> None:
    """Record locks are a process's, and the memory that tasks share does not make them one."""
    source = """
        import fcntl, os, sys
        kind = getattr(fcntl, sys.argv[2])
        with open(sys.argv[1], "w") as file:
            try:
                kind(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                print("ready", flush=True)
            except BlockingIOError:
                sys.exit(3)
            sys.stdin.read()
    """
    for kind in ("lockf", "flock"):
        line = python(source, tmp_path / "file", kind)
        reader, writer = os.pipe()
        first = await ready(root, *line, stdin=reader)
        assert await (await root.spawn(*line, stdout=subprocess.DEVNULL)).wait() == 3
        os.close(reader)
        os.close(writer)
        assert await first.wait() == 0
        assert await output(root, *line, stdin=subprocess.DEVNULL) == b"ready\n"


# Many at once, and killed


async def test_twenty_python_tasks_at_once(root: aiopip.Root, tmp_path: Path) -> None:
    source = """
        import json, sys, threading
        found = []
        number = int(sys.argv[1])
        thread = threading.Thread(target=lambda: found.append(sum(range(number * 10_000))))
        thread.start()
        thread.join()
        print("ready", flush=True)
        sys.stdin.read()
        with open(sys.argv[2], "w") as file:
            json.dump(found, file)
    """
    reader, writer = os.pipe()
    lines = [python(source, str(number), tmp_path / str(number)) for number in range(20)]
    tasks = await gather(*[ready(root, *line, stdin=reader) for line in lines])
    assert root.statistics().alive == 20
    assert len({task.pid for task in tasks}) == 20
    os.close(reader)
    os.close(writer)
    assert await gather(*[task.wait() for task in tasks]) == [0] * 20
    for number in range(20):
        top = number * 10_000
        assert json.loads((tmp_path / str(number)).read_bytes()) == [top * (top - 1) // 2]


STEPS = {
    "imports": """
        for name in ("json", "decimal", "ctypes", "email", "asyncio", "unittest", "ssl"):
            step()
            __import__(name)
    """,
    "numpy": """
        step()
        import numpy as np
        step()
        while True:
            square = np.ones((300, 300))
            step()
            square @ square
    """,
    "fork": """
        while True:
            child = os.fork()
            if child == 0: os._exit(0)
            step()
            os.waitpid(child, 0)
    """,
    "subprocess": """
        import subprocess
        while True:
            child = subprocess.Popen(["true"])
            step()
            child.wait()
    """,
    "memory": """
        import mmap
        kept = []
        while True:
            step()
            kept = [mmap.mmap(-1, 5_000_000), mmap.mmap(-1, 3 << 30), bytearray(5_000_000)]
            kept[1].resize(2 << 30)
    """,
    "threads": """
        import threading
        while True:
            thread = threading.Thread(target=bytes, args=(2_000_000,))
            thread.start()
            step()
            thread.join()
    """,
    "exit": """
        import threading
        thread = threading.Thread(target=bytes, args=(2_000_000,))
        thread.start()
        step()
    """,
}
STEP = "import os\ndef step(): os.write(1, b'step\\n')\n"


@pytest.mark.parametrize("name", STEPS)
async def test_task_killed_at_work_leaves_nothing(root: aiopip.Root, name: str) -> None:
    """Killed as soon as the root reads of a step: the task is in the next one by then."""
    if name == "numpy":
        pytest.importorskip("numpy")
    line = python(STEP + dedent(STEPS[name]))

    async def kill_behind(steps: int) -> None:
        async with pipe() as made:
            task = await root.spawn(*line, stdout=made.writer, env=environment())
            for _ in range(steps):
                if not await made.line():
                    break
            with contextlib.suppress(aiopip.TaskEndedError):
                task.kill()
            assert await task.wait() in ((-9, 0) if name in ("imports", "exit") else (-9,))

    await gather(*[kill_behind(2) for _ in range(3)])
    await settled(root)
    before = mapping_count()
    for steps in (0, 1, 2, 5, 7):
        await gather(*[kill_behind(steps) for _ in range(3)])
    await settled(root)
    assert mapping_count() <= before + 4
    assert root.statistics().untracked == 0
