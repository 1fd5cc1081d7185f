"""Python interpreters at a fixed address, as Debian's is: they run through the launcher."""

# What an ordinary process does is asked of subprocess, while the loop has nothing else to do.
# ruff: noqa: ASYNC221, ASYNC240

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support import mapping_count, output, settled, still_works

import aiopip

if TYPE_CHECKING:
    from conftest import CompileC

DEBIANS = Path("/usr/bin/python3")
ET_EXEC = 2

SHOW = """if True:
    import os, sys, sysconfig
    print(sys.version, sys.implementation, sys.abiflags)
    print(sys.executable, sys._base_executable, sys.prefix, sys.base_prefix, sys.exec_prefix)
    print(sys.path, sys.argv, sys.orig_argv, sys.flags, sys.warnoptions, sys._xoptions)
    print(sysconfig.get_paths(), os.getcwd(), sorted(os.environ.items()))
    print(sys.stdin.encoding, sys.getfilesystemencoding(), sys.stdout.line_buffering)
    print(open("/proc/self/comm").read(), os.getppid() > 0)
"""


def is_fixed(path: Path) -> bool:
    """Whether a program is linked at a fixed address."""
    with path.open("rb") as file:
        head = file.read(18)
    return head[:4] == b"\x7fELF" and struct.unpack_from("<H", head, 16) == (ET_EXEC,)


def library_of(python: Path) -> Path | None:
    """The libpython of an interpreter at a fixed address."""
    real = python.resolve()
    folders = [real.parents[1] / name for name in ("lib/x86_64-linux-gnu", "lib", "lib64")]
    files = [folder / f"lib{real.name}.so.1.0" for folder in folders]
    return next((file for file in files if file.exists()), None)


@pytest.fixture
def python() -> Path:
    """Debian's interpreter."""
    if not DEBIANS.exists():
        pytest.skip(f"no {DEBIANS}")
    if not is_fixed(DEBIANS):
        pytest.skip(f"{DEBIANS} is position-independent")
    if library_of(DEBIANS) is None:
        pytest.skip(f"no lib{DEBIANS.resolve().name}: apt-get install it")
    return DEBIANS


def as_process(*line: str | Path, **options: Any) -> bytes:
    """What an ordinary process writes to its stdout."""
    options = {"stdin": subprocess.DEVNULL, "timeout": 60, **options}
    written: bytes = subprocess.run(line, check=True, stdout=subprocess.PIPE, **options).stdout
    return written


async def run(root: aiopip.Root, program: str | Path, *args: str | Path, **options: Any) -> bytes:
    """What a task writes to its stdout."""
    return await output(root, program, *args, stdin=subprocess.DEVNULL, **options)


async def test_entry_and_own_program(root: aiopip.Root, python: Path) -> None:
    code = "import os; print(os.readlink('/proc/self/exe'))"
    assert (await run(root, python, "-c", code)).decode().strip() == str(python.resolve())
    with pytest.raises(aiopip.EntryNotFoundError, match="run from its library"):
        await root.spawn(python, entry="main")


# As an ordinary process


@pytest.mark.parametrize(
    "flags", [[], ["-O", "-B", "-X", "dev", "-W", "ignore"], ["-I"], ["-E", "-s", "-u"]], ids=str
)
async def test_python_is_as_under_exec(root: aiopip.Root, python: Path, flags: list[str]) -> None:
    line = [*flags, "-c", SHOW, "one", "zwei ü", ""]
    assert await run(root, python, *line) == as_process(python, *line)


async def test_python_is_found_in_path(root: aiopip.Root, python: Path) -> None:
    env = {"PATH": f"/nowhere:{python.parent}", "LANG": "C.UTF-8"}
    for name in ("python3", python.resolve().name):
        expected = as_process(name, "-c", SHOW, executable=python.parent / name, env=env)
        assert await run(root, name, "-c", SHOW, env=env) == expected


async def test_argv0_is_the_callers(root: aiopip.Root, python: Path) -> None:
    for argv0 in ("other", "/no/such/bin/python3", ""):
        expected = as_process(argv0, "-c", SHOW, executable=python)
        assert await run(root, python, "-c", SHOW, argv0=argv0) == expected


async def test_virtual_environment_is_found(
    root: aiopip.Root, python: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "My Project" / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "only_here.py").write_text("answer = 42\n")
    show = f"{SHOW}\nimport only_here; print(only_here.answer, only_here.__file__)"
    for name in ("python", "python3"):
        program = folder / "bin" / name
        written = await run(root, program, "-c", show)
        assert written == as_process(program, "-c", show)
        assert os.fsencode(site / "only_here.py") in written
    with pytest.raises(subprocess.CalledProcessError):
        as_process(python, "-c", show, stderr=subprocess.DEVNULL)


MODULES = """
import concurrent.futures, ctypes, decimal, hashlib, json, multiprocessing, os, sqlite3, ssl
import subprocess, sys, threading, zlib

def double(number):
    return number * 2

def main():
    assert ctypes.pythonapi.Py_IsInitialized() == 1
    libc = ctypes.CDLL(None)
    assert libc.getpid() == os.getpid()
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t(n)")
        database.executemany("insert into t values (?)", [(n,) for n in range(100)])
        assert database.execute("select sum(n) from t").fetchone() == (4950,)
    database.close()
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
    assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
    assert zlib.decompress(zlib.compress(b"x" * 10_000)) == b"x" * 10_000
    assert str(decimal.Decimal(1) / 8) == "0.125"
    found = []
    threads = [threading.Thread(target=found.append, args=(n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert sorted(found) == list(range(8))
    line = [sys.executable, "-c", "import ssl, sys; print(sys.executable)"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.executable
    for method in ("spawn", "fork"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(double, range(10))) == list(range(0, 20, 2))
    print("done")

if __name__ == "__main__":
    main()
"""


@pytest.mark.timeout(120)
async def test_what_is_built_on_libpython_works(
    root: aiopip.Root, python: Path, tmp_path: Path
) -> None:
    script = tmp_path / "modules.py"
    script.write_text(MODULES)
    assert await run(root, python, script) == b"done\n"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("pass", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('in words')", 1),
        ("import os; os._exit(5)", 5),
        ("raise ValueError('uncaught')", 1),
        ("import os; os.kill(os.getpid(), 15)", -15),
        ("import signal, os; os.kill(os.getpid(), signal.SIGINT)", -2),
        ("syntax error", 1),
    ],
)
async def test_ends_as_an_ordinary_process(
    root: aiopip.Root, python: Path, source: str, status: int
) -> None:
    expected = subprocess.run([python, "-c", source], check=False, stderr=subprocess.PIPE)
    with tempfile.TemporaryFile() as stderr:
        task = await root.spawn(python, "-c", source, stderr=stderr)
        assert await task.wait() == status == expected.returncode
        stderr.seek(0)
        assert stderr.read() == expected.stderr
    assert task.shared


async def test_script_names_the_interpreter(
    root: aiopip.Root, python: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    script = tmp_path / "script"
    for line in (python, f"{python} -E", python.resolve(), "/usr/bin/env python3"):
        script.write_text(f"#!{line}\nimport __main__\nprint(__main__.__file__)\n{SHOW}")
        script.chmod(0o755)
        written = await run(root, script, "a b", env=env)
        expected = as_process(script, "a b", env=env)
        if "env" in str(line):
            # env's exec names the process python3; the task is the script from its start on.
            expected = expected.replace(b"\npython3\n", b"\nscript\n")
        assert written == expected


async def test_it_leaves_nothing(root: aiopip.Root, python: Path) -> None:
    async def run_some(count: int) -> int:
        for number in range(count):
            task = await root.spawn(python, "-c", "import json, ssl, time; time.sleep(1000)")
            if number % 2:
                await run(root, python, "-c", "import ctypes, sqlite3; bytearray(9_000_000)")
            task.kill()
            assert await task.wait() == -9
        await settled(root)
        return mapping_count()

    before = await run_some(2)
    assert await run_some(10) <= before + 4


# Any such interpreter


class Fake(NamedTuple):
    """What looks like an installed Python at a fixed address."""

    python: Path
    libpython: Path


def make_python(c_program: CompileC, prefix: Path, library: str | None) -> Fake:
    """Make one of which the library's C text is given, if it has one."""
    fixed = c_program("int main(void) { return 99; }", "-no-pie", "-fno-pie")
    made = Fake(prefix / "bin" / "python3.12", prefix / "lib" / "libpython3.12.so.1.0")
    made.python.parent.mkdir(parents=True)
    made.libpython.parent.mkdir()
    shutil.copy(fixed, made.python)
    if library is not None:
        shutil.copy(c_program(library, "-shared", "-fPIC"), made.libpython)
    return made


MAIN_OF_LIBRARY = r"""
#include <stdio.h>
int Py_BytesMain(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        printf("%s\n", argv[i]);
    return argc;
}
"""


async def test_main_of_the_library_is_run(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path
) -> None:
    fake = make_python(c_program, tmp_path / "usr", MAIN_OF_LIBRARY)
    link = tmp_path / "A Link: ü"
    link.symlink_to(fake.python)
    for name in (fake.python, link):
        with tempfile.TemporaryFile() as stdout:
            task = await root.spawn(name, "", "-c", stdout=stdout)
            assert await task.wait() == 3
            stdout.seek(0)
            assert stdout.read() == os.fsencode(f"{name}\n\n-c\n")
        assert task.shared


@pytest.mark.parametrize("content", ["int other;", None])
async def test_library_that_is_none(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path, content: str | None
) -> None:
    fake = make_python(c_program, tmp_path / "usr", content)
    if content is None:
        fake.libpython.write_text("INPUT(libpython3.12.a)\n")
    with tempfile.TemporaryFile() as stderr:
        assert await (await root.spawn(fake.python, stderr=stderr)).wait() == 127
        stderr.seek(0)
        assert b"aiopip-python: " in stderr.read()
    await still_works(root)


async def test_missing_library_is_named(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path
) -> None:
    fake = make_python(c_program, tmp_path / "usr", None)
    script = tmp_path / "script"
    script.write_text(f"#!{fake.python}\n")
    script.chmod(0o755)
    for program in (fake.python, script):
        with pytest.raises(aiopip.NotPieError, match=r"install libpython3\.12\)") as caught:
            await root.spawn(program)
        assert caught.value.errno == errno.ENOEXEC
        assert caught.value.filename == str(program)
    await still_works(root)


async def test_copy_of_debians_interpreter_has_no_library(
    root: aiopip.Root, python: Path, tmp_path: Path
) -> None:
    name = python.resolve().name
    copy = tmp_path / "x" / "bin" / name
    copy.parent.mkdir(parents=True)
    shutil.copy(python, copy)
    with pytest.raises(aiopip.NotPieError, match=f"apt-get install lib{name}"):
        await root.spawn(copy, "-c", "")


@pytest.mark.parametrize("prefix", ["My Python", "a:b"])
async def test_library_that_ld_so_cannot_be_told_of(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path, prefix: str
) -> None:
    fake = make_python(c_program, tmp_path / prefix, MAIN_OF_LIBRARY)
    with pytest.raises(aiopip.NotPieError, match="blanks and colons") as caught:
        await root.spawn(fake.python)
    assert str(fake.libpython) in str(caught.value)


async def test_other_programs_are_no_pythons(
    root: aiopip.Root, c_program: CompileC, tmp_path: Path
) -> None:
    fake = make_python(c_program, tmp_path / "usr", MAIN_OF_LIBRARY)
    for name in ("python3.7", "python3", "perl5.36"):
        other = fake.python.rename(fake.python.with_name(name))
        with pytest.raises(aiopip.NotPieError, match="create_subprocess_exec"):
            await root.spawn(other)
        other.rename(fake.python)
