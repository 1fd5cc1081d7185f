"""Python programs as tasks: command lines, PYTHON variables, virtual environments, exec.

Each is run as an ordinary process too, and must not differ.
"""

from __future__ import annotations

import compileall
import os
import signal
import sys
import venv
import zipfile
from typing import TYPE_CHECKING

import pytest
from integration.pythons import Ran, alike, as_process, environment, python, script
from support import output, ready

if TYPE_CHECKING:
    from pathlib import Path

    import aiopip

# Command lines

SHOW = """
import sys
print(__name__, __package__, globals().get("__file__"), sys.argv, sys.path, sys.flags)
print(sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix, sys.orig_argv[1:])
print(sys._xoptions, sys.warnoptions, sys.dont_write_bytecode, sys.pycache_prefix, __debug__)
print(sys.stdout.encoding, sys.stdout.errors, sys.getfilesystemencoding(), hash("words") % 1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a script, a module, a package, an application, and a zip file of it."""
    made = tmp_path / "a folder"
    (made / "package").mkdir(parents=True)
    (made / "application").mkdir()
    for name in ("script.py", "module.py", "package/__main__.py", "application/__main__.py"):
        (made / name).write_text(SHOW)
    (made / "package" / "__init__.py").write_text("print('package')\n")
    (made / "application" / "helper.py").write_text("value = 5\n")
    with zipfile.ZipFile(made / "application.pyz", "w") as file:
        for path in (made / "application").iterdir():
            file.write(path, path.name)
    compileall.compile_file(made / "script.py", quiet=1, legacy=True)
    return made


COMMAND_LINES: dict[str, tuple[tuple[str, ...], int]] = {
    "-c": (("-c", SHOW, "one", "zwei ü"), 0),
    "script": (("script.py", "-c", ""), 0),
    "compiled": (("script.pyc",), 0),
    "-m module": (("-m", "module", "one"), 0),
    "-m package": (("-m", "package", "-x"), 0),
    "-m in the library": (("-m", "json.tool", "--help"), 0),
    "-m missing": (("-m", "no_such_module"), 1),
    "folder": (("application", "one"), 0),
    "zip": (("application.pyz", "one"), 0),
    "-": (("-", "one"), 0),
    "stdin": ((), 0),
    "missing": (("no such script",), 2),
    "no option": (("--no-such-option",), 2),
    "-V": (("-VV",), 0),
    "-I": (("-I", "script.py"), 0),
    "-E -s -B": (("-E", "-s", "-B", "-m", "module"), 0),
    "-S": (("-S", "script.py"), 0),
    "-OO -b -q": (("-OO", "-b", "-q", "script.py"), 0),
    "-W": (("-W", "error", "-W", "ignore::UserWarning", "script.py"), 0),
    "-X dev": (("-X", "dev", "script.py"), 0),
    "-X utf8=0": (("-X", "utf8=0", "script.py"), 0),
    "-X tracemalloc": (("-X", "tracemalloc=5", "script.py"), 0),
    "-X frozen_modules": (("-X", "frozen_modules=off", "script.py"), 0),
    "-X faulthandler": (("-X", "faulthandler", "-X", "mine=1", "script.py"), 0),
    "-i": (("-i", "-q", "-c", "print('before')"), 0),
}


@pytest.mark.parametrize(("line", "status"), COMMAND_LINES.values(), ids=COMMAND_LINES)
async def test_command_line(
    root: aiopip.Root, folder: Path, line: tuple[str, ...], status: int
) -> None:
    ran = await alike(root, sys.executable, *line, stdin=SHOW.encode(), cwd=folder)
    assert ran.status == status
    assert bool(ran.out) == (status == 0)


VARIABLES = {
    "PYTHONPATH": "/some/folder:elsewhere",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error,ignore::UserWarning",
    "PYTHONUTF8": "1",
    "PYTHONIOENCODING": "latin-1:replace",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONTRACEMALLOC": "3",
    "PYTHONPYCACHEPREFIX": "/tmp/elsewhere",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONHOME": "/no/such/home",
}


@pytest.mark.parametrize("name", VARIABLES)
async def test_variable(root: aiopip.Root, folder: Path, name: str) -> None:
    env = environment(**{name: VARIABLES[name]})
    ran = await alike(root, sys.executable, "script.py", cwd=folder, env=env)
    assert ran.status == (1 if name == "PYTHONHOME" else 0)


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc", "debug", "malloc_debug"])
async def test_allocator(root: aiopip.Root, allocator: str) -> None:
    source = "print(sum(len(bytes(n)) for n in range(5000)), len([[] for _ in range(300_000)]))"
    env = environment(PYTHONMALLOC=allocator, PYTHONMALLOCSTATS="")
    ran = await alike(root, *python(source), env=env)
    assert ran == Ran(0, b"12497500 300000\n", b"")


async def test_module_is_found_by_pythonpath(root: aiopip.Root, folder: Path) -> None:
    env = environment(PYTHONPATH=f"{folder / 'application.pyz'}:{folder}")
    source = "import helper, package; print(helper.value, helper.__file__)"
    expected = f"package\n5 {folder / 'application.pyz' / 'helper.py'}\n"
    assert await alike(root, *python(source), env=env) == Ran(0, expected.encode(), b"")


async def test_python_in_an_empty_environment(root: aiopip.Root) -> None:
    ran = await alike(root, *python("import os; print(sorted(os.environ))"), env={})
    assert ran.status == 0


async def test_virtual_environment_has_its_packages(root: aiopip.Root, tmp_path: Path) -> None:
    """And so have the processes that its Python starts by sys.executable."""
    place = tmp_path / "one folder" / "another folder" / ".venv"
    venv.create(place, symlinks=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "only_here").mkdir()
    (packages / "only_here" / "__init__.py").write_text("value = 'found'\n")
    (packages / "more.pth").write_text(f"{tmp_path / 'by a pth file'}\n")
    (tmp_path / "by a pth file").mkdir()
    (tmp_path / "by a pth file" / "pointed_at.py").write_text("value = 'pointed at'\n")
    source = """
        import subprocess, sys, only_here, pointed_at
        print(sys.prefix, sys.executable, only_here.value, pointed_at.value, flush=True)
        if sys.argv[1:]:
            subprocess.run([sys.executable, sys.argv[0]], check=True)
    """
    line = script(tmp_path / "program.py", source, "again")
    ran = await alike(root, place / "bin" / "python", *line[1:])
    expected = f"{place} {place / 'bin' / 'python'} found pointed at\n".encode()
    assert ran == Ran(0, expected * 2, b"")
    ran = await alike(root, *line)
    assert ran.status == 1
    assert b"No module named 'only_here'" in ran.err


async def test_python_knows_itself(root: aiopip.Root, tmp_path: Path) -> None:
    source = "import os; print(os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0), __file__)"
    line = script(tmp_path / "program.py", source)
    with (tmp_path / "out").open("wb") as out:
        task = await root.spawn(*line, stdout=out)
        assert await task.wait() == 0
    expected = f"{task.pid} {os.getpid()} {os.getsid(0)} {os.getpgid(0)} {line[1]}\n"
    assert (tmp_path / "out").read_text() == expected


async def test_name_that_python_is_called_by(root: aiopip.Root, tmp_path: Path) -> None:
    """A virtual environment is found from argv[0] too; a name alone is searched in PATH."""
    other = tmp_path / "other name"
    other.symlink_to(sys.executable)
    show = "import sys; print(sys.executable, sys.orig_argv[0])"
    ran = await alike(root, other, "-c", show)
    assert ran == Ran(0, f"{other} {other}\n".encode(), b"")
    written = await output(root, sys.executable, "-c", show, argv0=str(other))
    assert written == ran.out


# Exec

EXEC = """
    import os, sys, threading
    print("before", flush=True)
    if sys.argv[1] == "threads":
        for _ in range(3):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
    if sys.argv[1] == "missing":
        try:
            os.execv("/no/such/program", ["x"])
        except FileNotFoundError:
            print("missing", flush=True)
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.set_inheritable(reader, True)
    source = f"import os, sys; print(os.read({reader}, 99), os.environ['X']); sys.exit(5)"
    env = {**os.environ, "X": "new"}
    os.execve(sys.executable, [sys.executable, "-c", source], env)
"""


@pytest.mark.parametrize("how", ["plain", "threads", "missing"])
async def test_python_that_execs(root: aiopip.Root, how: str) -> None:
    ran = await alike(root, *python(EXEC, how))
    missing = b"missing\n" if how == "missing" else b""
    assert ran == Ran(5, b"before\n" + missing + b"b'through a pipe' new\n", b"")


async def test_python_that_has_execed_is_the_same_process(root: aiopip.Root) -> None:
    source = """
        import os, sys
        os.execl(sys.executable, "python", "-uc", "print('ready'); import time; time.sleep(1000)")
    """
    task = await ready(root, *python(source))
    assert not task.shared
    assert as_process("cat", f"/proc/{task.pid}/cmdline").out.startswith(b"python\0-uc\0")
    task.terminate()
    assert await task.wait() == -signal.SIGTERM
