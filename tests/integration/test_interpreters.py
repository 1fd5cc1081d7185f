"""A root on each Python that the machine has, Debian's among them.

The package is built once: its extension module is of the stable ABI, so that one build serves all.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import PROGRAMS

import aiopip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integration.conftest import Programs

OLDEST_MINOR = 10
SETUP_TIMEOUT_S = 240


def candidates() -> Iterator[Path]:
    """Files that may be Pythons: Debian's, pyenv's, those in PATH."""
    yield Path("/usr/bin/python3")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/*/bin/python3"))
    for folder in os.get_exec_path():
        yield from sorted(Path(folder).glob("python3"))
        yield from sorted(Path(folder).glob("python3.[0-9]*"))


def interpreters() -> list[Path]:
    """One path of each Python but the running one; told by their files, none is started."""
    found: dict[Path, Path] = {}
    for path in candidates():
        real = path.resolve()
        name = re.fullmatch(r"python3\.(\d+)[a-z]*", real.name)
        if name and int(name[1]) >= OLDEST_MINOR and is_program(real):
            found.setdefault(real, path)
    found.pop(Path(sys.executable).resolve(), None)
    return list(found.values())


def is_program(path: Path) -> bool:
    """Whether it is an ELF file that we may execute; pyenv's shims are scripts."""
    if not (path.is_file() and os.access(path, os.R_OK | os.X_OK)):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def call(*line: str | Path) -> None:
    """Run a command of the preparations; what it needs may not be there."""
    try:
        subprocess.run(line, check=True, capture_output=True, text=True, timeout=SETUP_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip()).splitlines()[-1:]
        pytest.skip(f"{' '.join(map(str, line[:4]))} ... failed: {' '.join(last)}")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{line[0]} takes more than {SETUP_TIMEOUT_S} s")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a virtual environment with the installed package: the path of its Python."""

    @functools.cache
    def make(interpreter: Path) -> Path:
        folder = tmp_path_factory.mktemp("venv")
        call(interpreter, "-m", "venv", "--without-pip", folder)
        python = folder / "bin" / "python"
        needed = [text for text in requires("aiopip") or () if "extra ==" not in text]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q"]
        call(*pip, "--python", python, "install", *needed, "numpy")
        # A folder with nothing but the package: what else is installed here is another version's.
        packages = folder / "aiopip"
        packages.mkdir()
        (packages / "aiopip").symlink_to(Path(aiopip.__file__).parent)
        (site,) = folder.glob("lib/python3*/site-packages")
        (site / "aiopip.pth").write_text(f"{packages}\n")
        return python

    return make


@pytest.mark.timeout(2 * SETUP_TIMEOUT_S + 120)
@pytest.mark.parametrize("interpreter", interpreters(), ids=str)
def test_root_works_on_any_python(
    interpreter: Path, environment: Callable[[Path], Path], pip_program: Programs
) -> None:
    python = environment(interpreter)
    done = subprocess.run(
        [python, "-W", "error", PROGRAMS / "scenario.py", pip_program("export_and_exit")],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    minor = re.search(r"python3\.(\d+)", interpreter.resolve().name)
    assert minor
    assert done.stdout == f"done 3.{minor[1]}\n"
