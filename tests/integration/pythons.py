"""Python programs run as tasks, and the same command lines run as ordinary processes."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from support import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import aiopip

Line = tuple["str | Path", ...]


class Ran(NamedTuple):
    """How a program ended and what it wrote; addresses are left out, which differ each time."""

    status: int
    out: bytes
    err: bytes


@contextlib.contextmanager
def _files(stdin: bytes) -> Iterator[tuple[IO[bytes], IO[bytes], IO[bytes]]]:
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        yield given, out, err


def _text(file: IO[bytes]) -> bytes:
    file.seek(0)
    return re.sub(rb"0x[0-9a-f]+", b"0x...", file.read())


def _options(
    stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes], options: dict[str, Any]
) -> dict[str, Any]:
    usual = {"stdin": stdin, "stdout": stdout, "stderr": stderr, "env": environment()}
    return usual | options


def as_process(*line: str | Path, stdin: bytes = b"", **options: Any) -> Ran:
    """Run a command line as a child process."""
    with _files(stdin) as (given, out, err):
        used = _options(given, out, err, options)
        done = subprocess.run(line, check=False, timeout=DEADLINE_S, **used)
        return Ran(done.returncode, _text(out), _text(err))


async def as_task(root: aiopip.Root, *line: str | Path, stdin: bytes = b"", **options: Any) -> Ran:
    """Run a command line as a task."""
    with _files(stdin) as (given, out, err):
        task = await root.spawn(*line, **_options(given, out, err, options))
        status = await task.wait()
        return Ran(int(status), _text(out), _text(err))


async def alike(root: aiopip.Root, *line: str | Path, stdin: bytes = b"", **options: Any) -> Ran:
    """Run a command line both ways at once, which must not differ."""
    with _files(stdin) as (given, out, err):
        used = _options(given, out, err, options)
        with subprocess.Popen(line, **used) as process:  # noqa: ASYNC220  its output is in files
            try:
                ran = await as_task(root, *line, stdin=stdin, **options)
                expected = process.wait(DEADLINE_S)
            finally:
                process.kill()
        assert ran == Ran(expected, _text(out), _text(err))
    return ran


def python(source: str, *args: str | Path) -> Line:
    """The command line of a Python program, given as its text."""
    return (sys.executable, "-c", textwrap.dedent(source), *args)


def script(path: Path, source: str, *args: str | Path) -> Line:
    """The command line of a Python program, which is written to a file first."""
    path.write_text(textwrap.dedent(source))
    return (sys.executable, path, *args)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with some variables more, and no other that Python reads."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return usual | variables
