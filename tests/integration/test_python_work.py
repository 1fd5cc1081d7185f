"""Python programs as tasks: threads, modules and NumPy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from integration.pythons import alike, as_process, as_task, environment, python, script
from jobs import gather
from support import output, ready

if TYPE_CHECKING:
    from pathlib import Path

    import aiopip

# Threads

THREADS = {
    "two hundred": """
        import threading
        barrier, total, lock = threading.Barrier(200), [0], threading.Lock()
        def work(number):
            barrier.wait(20)
            with lock: total[0] += number
        threads = [threading.Thread(target=work, args=(number,)) for number in range(200)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(total, threading.active_count())
    """,
    "a thousand, in turn": """
        import threading
        done = []
        for number in range(1000):
            thread = threading.Thread(target=done.append, args=(number,))
            thread.start()
            thread.join()
        print(sum(done))
    """,
    "stack sizes": """
        import threading
        def deep(depth):
            return 1 + max([deep(depth - 1)]) if depth else 0
        for size in (1 << 18, 1 << 20, 64 << 20, 1 << 30, 3 << 30):
            threading.stack_size(size)
            found = []
            thread = threading.Thread(target=lambda: found.append(deep(100)))
            thread.start()
            thread.join()
            print(size, found)
    """,
    "locals": """
        import contextvars, decimal, threading
        local, var = threading.local(), contextvars.ContextVar("var", default=0)
        barrier, found = threading.Barrier(20), []
        def work(number):
            local.value, decimal.getcontext().prec = number, number + 1
            var.set(number)
            barrier.wait(20)
            found.append((local.value, var.get(), decimal.getcontext().prec, hasattr(local, "x")))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sorted(found), hasattr(local, "value"), var.get())
    """,
    "pool": """
        import concurrent.futures, hashlib, zlib
        block = bytes(range(256)) * 4000
        def work(number):
            return hashlib.sha256(block * number).hexdigest()[:8], zlib.crc32(block[number:])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            print(list(pool.map(work, range(16))))
    """,
    "errno and C's locals": """
        import ctypes, threading
        libc = ctypes.CDLL(None, use_errno=True)
        barrier, found = threading.Barrier(8), []
        def work(number):
            for _ in range(50):
                libc.close(-1) if number % 2 else libc.open(b"/no/such", 0)
                error = ctypes.get_errno()
            barrier.wait(20)
            found.append((number, error))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sorted(found))
    """,
    "tracing": """
        import sys, threading
        seen = set()
        threading.setprofile(lambda frame, what, _: seen.add(what))
        sys.setswitchinterval(1e-6)
        thread = threading.Thread(target=lambda: [len("") for _ in range(1000)])
        thread.start(); thread.join()
        print(sorted(seen))
    """,
}


@pytest.mark.parametrize("name", THREADS)
async def test_threads(root: aiopip.Root, name: str) -> None:
    ran = await alike(root, *python(THREADS[name]))
    assert (ran.status, ran.err) == (0, b"")
    assert ran.out


async def test_task_that_never_gives_its_lock_away_stops_no_other(root: aiopip.Root) -> None:
    """PyDLL does not release the interpreter's lock, of which each task has its own."""
    source = "import ctypes; print('ready', flush=True); ctypes.PyDLL(None).pause()"
    stuck = [await ready(root, *python(source)) for _ in range(2)]
    sums = [output(root, *python("print(sum(range(100_000)))")) for _ in range(2)]
    assert await gather(*sums) == [b"4999950000\n"] * 2
    for task in stuck:
        assert task.status is None
        task.kill()
        assert await task.wait() == -9


# Modules

MODULES = {
    "_ctypes": """
        import ctypes
        pointer = ctypes.POINTER(ctypes.c_int)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)
        numbers = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
        ctypes.CDLL(None).qsort(numbers, 5, 4, kind(lambda a, b: a[0] - b[0]))
        print(list(numbers))
    """,
    "sqlite3": """
        import sqlite3
        base = sqlite3.connect(":memory:")
        base.execute("create table t (n integer)")
        base.executemany("insert into t values (?)", [(n,) for n in range(10_000)])
        print(base.execute("select sum(n), count(*) from t").fetchall(), sqlite3.sqlite_version)
    """,
    "ssl": """
        import hashlib, secrets, ssl
        print(ssl.OPENSSL_VERSION, bool(ssl.create_default_context().get_ciphers()))
        print(hashlib.scrypt(b"x", salt=b"y", n=1024, r=8, p=1).hex(), len(secrets.token_bytes(9)))
    """,
    "decimal": """
        import decimal, fractions, math
        decimal.getcontext().prec = 500
        print(decimal.Decimal(2).sqrt(), math.factorial(300), fractions.Fraction(6, 8))
    """,
    "zoneinfo": """
        import datetime, zoneinfo
        when = datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))
        print(when.isoformat(), len(zoneinfo.available_timezones()) > 0)
    """,
    "lzma": """
        import bz2, lzma, zlib
        data = bytes(range(256)) * 200
        for kind in (bz2, lzma, zlib):
            print(kind.decompress(kind.compress(data)) == data, len(kind.compress(data)))
    """,
    "cffi": """
        import cffi
        ffi = cffi.FFI()
        ffi.cdef("size_t strlen(const char *);")
        print(ffi.dlopen(None).strlen(b"four"))
    """,
    "psutil": """
        import os, psutil
        me = psutil.Process()
        print(me.pid == os.getpid(), me.ppid() == os.getppid(), me.num_threads())
    """,
    "xml.etree": """
        import curses, locale, unicodedata, xml.etree.ElementTree as tree
        print(tree.fromstring("<a><b>x</b></a>").find("b").text, unicodedata.name("ü"))
        print(locale.setlocale(locale.LC_ALL, "C"))
    """,
    "numpy": """
        import numpy as np
        square = np.arange(40_000, dtype="f8").reshape(200, 200) % 7
        print(int((square @ square).sum()), np.linalg.matrix_rank(square), np.fft.fft(range(4)))
        print(np.random.default_rng(5).integers(0, 100, 5), square.max())
    """,
}
AT_ONCE = 3


@pytest.mark.parametrize("module", MODULES)
async def test_module_in_tasks_at_once(root: aiopip.Root, module: str) -> None:
    pytest.importorskip(module)
    line = python(MODULES[module])
    expected = as_process(*line)
    assert (expected.status, expected.err) == (0, b"")
    assert await gather(*[as_task(root, *line) for _ in range(AT_ONCE)]) == ([expected] * AT_ONCE)


async def test_many_modules_in_many_tasks_at_once(root: aiopip.Root) -> None:
    present = [name for name in MODULES if as_process(*python(f"import {name}")).status == 0]
    source = f"import {', '.join(present)}, asyncio, email, http.client, json, unittest; print('x')"
    tasks = [output(root, *python(source)) for _ in range(6)]
    assert await gather(*tasks) == [b"x\n"] * 6


LINEAR_ALGEBRA = """
    import json, os, subprocess, sys
    import numpy as np
    def results():
        square = np.arange(22_500, dtype="f8").reshape(150, 150) % 11 + 20 * np.eye(150)
        values = np.linalg.eigvalsh(square + square.T)
        solved = np.linalg.solve(square, np.ones(150))
        factor = np.linalg.svd(square, compute_uv=False)
        return [int((square @ square).sum()), *map(float, (values[-1], solved.sum(), factor[0]))]
    if __name__ == "__main__":
        if sys.argv[1:]:
            print(json.dumps(results()))
            sys.exit()
        found = [results()]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, json.dumps(results()).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        found.append(json.loads(os.read(reader, 4096)))
        line = [sys.executable, __file__, "once"]
        found.append(json.loads(subprocess.check_output(line)))
        found.append(results())
        print(json.dumps(found))
"""


async def test_linear_algebra_in_four_tasks_at_once(root: aiopip.Root, tmp_path: Path) -> None:
    """With BLAS's threads, in the task, its child by fork and its child by exec, as in a process.

    The root does not compute: BLAS ends its threads at a fork, and starts them anew when asked.
    """
    numpy = pytest.importorskip("numpy")
    line = script(tmp_path / "program.py", LINEAR_ALGEBRA)
    env = environment(PYTHONWARNINGS="ignore::DeprecationWarning")
    tasks = [output(root, *line, env=env) for _ in range(4)]
    written = await gather(*tasks)
    expected = json.loads(as_process(*line, "once", env=env).out)
    for text in written:
        found = json.loads(text)
        assert len(found) == 4
        for one in found:
            assert one[0] == expected[0]
            numpy.testing.assert_allclose(one, expected, rtol=1e-9)
