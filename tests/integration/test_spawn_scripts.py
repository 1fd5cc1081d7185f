"""Programs that are no ELF file: #! scripts, and Python behind a symbolic link."""

# What execve does is asked of subprocess, while the loop has nothing else to do.
# ruff: noqa: ASYNC221, ASYNC240

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import output, still_works

import aiopip

if TYPE_CHECKING:
    from integration.conftest import Programs


def write_script(path: Path, text: str | bytes) -> Path:
    path.write_bytes(os.fsencode(text))
    path.chmod(0o755)
    return path


def fields(written: bytes) -> list[bytes]:
    return written.split(b"\0")[:-1]


async def test_shell_script_runs(root: aiopip.Root, tmp_path: Path) -> None:
    script = write_script(tmp_path / "script", '#!/bin/sh\necho "$0|$1|$2"\n')
    assert await output(root, script, "a b", "") == os.fsencode(f"{script}|a b|\n")


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        ("#!{0}\n", []),
        ("#! \t {0} \t \n", []),
        ("#!{0} one\n", [b"one"]),
        ("#!{0}  one  two \t\n", [b"one  two"]),
        ("#!{0}", []),
        ("#!{0} -x", [b"-x"]),
        ("#!{0}\r\n", None),
    ],
)
async def test_first_line_is_read_as_the_kernel_does(
    root: aiopip.Root, program: Programs, tmp_path: Path, line: str, argument: list[bytes] | None
) -> None:
    script = write_script(tmp_path / "script", line.format(program("arguments")))
    if argument is None:
        with pytest.raises(FileNotFoundError):
            subprocess.run([script], check=False)
        with pytest.raises(aiopip.InterpreterNotFoundError, match="interpreter"):
            await root.spawn(script)
        return
    expected = subprocess.run([script, "x", ""], check=True, capture_output=True).stdout
    interpreter = os.fsencode(program("arguments"))
    assert fields(expected) == [interpreter, *argument, os.fsencode(script), b"x", b""]
    assert await output(root, script, "x", "") == expected


async def test_argv0_of_a_script_is_the_interpreter(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    script = write_script(tmp_path / "script", f"#!{program('arguments')}\n")
    written = await output(root, script, argv0="other")
    assert (
        written
        == subprocess.run(["other"], executable=script, check=True, capture_output=True).stdout
    )


async def test_scripts_may_be_interpreters(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    scripts = [write_script(tmp_path / "0", f"#!{program('arguments')} last\n")]
    for number in range(1, 5):
        scripts.append(write_script(tmp_path / str(number), f"#!{scripts[-1]} {number}\n"))
        expected = subprocess.run([scripts[-1], "x"], check=True, capture_output=True).stdout
        assert await output(root, scripts[-1], "x") == expected


async def test_script_that_is_its_own_interpreter_is_refused(
    root: aiopip.Root, tmp_path: Path
) -> None:
    script = write_script(tmp_path / "script", f"#!{tmp_path / 'script'}\n")
    with pytest.raises(aiopip.SpawnError) as caught:
        await root.spawn(script)
    with pytest.raises(OSError, match=caught.value.strerror or "") as expected:
        subprocess.run([script], check=False)
    assert caught.value.errno == expected.value.errno
    await still_works(root)


async def test_interpreter_is_relative_to_cwd(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    (tmp_path / "tool").symlink_to(program("arguments"))
    write_script(tmp_path / "script", "#!./tool\n")
    assert fields(await output(root, "./script", cwd=tmp_path)) == [b"./tool", b"./script"]


async def test_script_is_found_in_path(root: aiopip.Root, tmp_path: Path) -> None:
    script = write_script(tmp_path / "tool", '#!/bin/sh\necho "$0"\n')
    assert await output(root, "tool", env={"PATH": str(tmp_path)}) == os.fsencode(script) + b"\n"


# #!/usr/bin/env


@pytest.mark.parametrize(
    "line",
    [
        "#!/usr/bin/env tool\n",
        "#! /usr/bin/env  tool \n",
        "#!/usr/bin/env -S tool -x  y\n",
        "#!/usr/bin/env -S VARIABLE=1 tool\n",
    ],
)
async def test_env_finds_the_interpreter_and_it_is_the_task(
    root: aiopip.Root, program: Programs, tmp_path: Path, line: str
) -> None:
    (tmp_path / "tool").symlink_to(program("arguments"))
    script = write_script(tmp_path / "script", line)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    expected = subprocess.run([script, "a"], check=True, capture_output=True, env=env).stdout
    assert await output(root, script, "a", env=env) == expected


async def test_program_behind_env_stays_in_the_space(
    root: aiopip.Root, program: Programs, tmp_path: Path
) -> None:
    (tmp_path / "tool").symlink_to(program("pause"))
    script = write_script(tmp_path / "script", "#!/usr/bin/env tool\n")
    task = await root.spawn(script, env={"PATH": f"{tmp_path}:/usr/bin"})
    # /proc/PID/exe is of the memory, and so the root's as long as the task shares it.
    assert Path(f"/proc/{task.pid}/exe").resolve() == Path("/proc/self/exe").resolve()
    task.kill()
    assert await task.wait() == -9


async def test_env_without_its_program_is_refused(root: aiopip.Root, tmp_path: Path) -> None:
    script = write_script(tmp_path / "script", "#!/usr/bin/env absent-program\n")
    with pytest.raises(aiopip.InterpreterNotFoundError, match="absent-program"):
        await root.spawn(script)
    await still_works(root)


# Python


async def test_python_script_runs(root: aiopip.Root, tmp_path: Path) -> None:
    text = f"#!{sys.executable}\nimport sys\nprint(sys.argv, __name__)\n"
    script = write_script(tmp_path / "script.py", text)
    written = await output(root, script, "a", "ü")
    assert written.decode() == f"{[str(script), 'a', 'ü']} __main__\n"


async def test_python_finds_its_virtual_environment(root: aiopip.Root, tmp_path: Path) -> None:
    folder = tmp_path / "My Project: ü" / "venv"
    # A colon is not allowed in a venv's path; make it beside and use it through a link.
    real = tmp_path / "My Project" / "venv"
    venv.create(real, symlinks=True)
    folder.parent.mkdir()
    folder.symlink_to(real)
    show = "import sys; print(sys.prefix, sys.executable, sys.argv[0], sep='|')"
    for python in (real / "bin" / "python", folder / "bin" / "python3"):
        expected = subprocess.run([python, "-c", show], check=True, capture_output=True).stdout
        assert await output(root, python, "-c", show) == expected
        assert os.fsencode(python.parent.parent) in expected
    env = {**os.environ, "PATH": f"{real / 'bin'}:/usr/bin"}
    written = await output(root, "python", "-c", show, env=env)
    assert written.split(b"|")[0] == os.fsencode(real)
    script = write_script(tmp_path / "script", f"#!/usr/bin/env python\n{show}\n")
    assert (await output(root, script, env=env)).split(b"|")[0] == os.fsencode(real)


async def test_python_is_as_under_exec(root: aiopip.Root) -> None:
    """What a Python program can see of how it was started."""
    show = """if True:
        import os, sys, sysconfig
        print(sys.executable, sys.prefix, sys.path, sys.argv, sys.flags, os.getcwd())
        print(sysconfig.get_paths(), sorted(os.environ.items()), open("/proc/self/comm").read())
    """
    line = [sys.executable, "-c", show, "one", "zwei ü"]
    expected = subprocess.run(
        line, check=True, capture_output=True, stdin=subprocess.DEVNULL
    ).stdout
    assert await output(root, *line, stdin=subprocess.DEVNULL) == expected


async def test_python_task_does_what_python_does(root: aiopip.Root) -> None:
    """NumPy, threads, os.fork, subprocess, multiprocessing, all inside one task."""
    pytest.importorskip("numpy")
    source = """if True:
        import os, signal, subprocess, sys, threading, concurrent.futures
        import numpy as np
        array = np.arange(1 << 20, dtype="f8")
        totals = []
        threads = [threading.Thread(target=lambda: totals.append(array.sum())) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert totals == [array.sum()] * 8
        child = os.fork()
        if child == 0:
            array[:] = 1
            os._exit(int(array.sum() == 1 << 20) + 6)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert array[-1] == (1 << 20) - 1
        line = [sys.executable, "-c", "import numpy; print(numpy.ones(3).sum())"]
        assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "3.0\\n"
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            ranks = pool.map(lambda n: int(np.linalg.matrix_rank(np.eye(n))), range(1, 30))
            assert sum(ranks) == 435
        for _ in range(5):
            big = bytearray(20_000_000)
            del big
        hits = []
        signal.signal(signal.SIGUSR1, lambda *_: hits.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert hits == [1]
        try:
            raise RuntimeError("unwinds")
        except RuntimeError:
            print("done")
    """
    tasks = [output(root, sys.executable, "-c", source) for _ in range(3)]
    for task in tasks:
        assert await task == b"done\n"
