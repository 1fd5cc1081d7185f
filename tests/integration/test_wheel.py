"""The wheel that tools/make-wheel makes: what is in it, and that this is all that one needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from integration.conftest import Programs

CHECKOUT = Path(__file__).parents[2]
TOOLS = ("abi3audit", "auditwheel", "patchelf")
TIMEOUT_S = 240

BUILT = {
    "_calls.abi3.so",
    "_native.abi3.so",
    "lib/aiopip-probe",
    "lib/aiopip-python",
    "lib/libaiopip-task.so",
    "lib/libaiopip.so",
}
"""The files of the package that are compiled; all are executable, and nothing else is."""

HEADERS = {"include/aiopip/lock.h", "include/pip/pip.h"}
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)


def call(*line: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command, which has to succeed: its stdout."""
    done = subprocess.run(
        line, cwd=cwd, env=env, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, f"{' '.join(map(str, line))}:\n{done.stdout}{done.stderr}"
    return done.stdout


def python_files() -> set[str]:
    """The files of the package in the checkout, which are all of Python, and the commands'."""
    files = [path for path in (CHECKOUT / "aiopip").rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix != ".pyc"] + [CHECKOUT / "aiopip_cli.py"]
    return {str(path.relative_to(CHECKOUT)) for path in files}


def contents(wheel: Path) -> dict[str, bool]:
    """The files in a wheel and whether they are executable; installers keep no more of the mode."""
    with zipfile.ZipFile(wheel) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        return {info.filename: bool(info.external_attr >> 16 & 0o111) for info in infos}


def tree(folder: Path) -> set[str]:
    """All that lies below a folder but what Python compiles when it runs."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in names if "__pycache__" not in name}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    scripts = Path(sysconfig.get_path("scripts"))
    if lacking := [name for name in TOOLS if not (scripts / name).exists()]:
        pytest.skip(f"no {', '.join(lacking)} in {scripts}: pip install --group wheel")
    folder = tmp_path_factory.mktemp("dist")
    call(CHECKOUT / "tools" / "make-wheel", scripts, folder, cwd=CHECKOUT)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


class Environment(NamedTuple):
    """A virtual environment with what the wheel requires and not the wheel."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        """Where its packages lie."""
        (found,) = self.folder.glob("lib/python3*/site-packages")
        return found

    def pip(self, *args: str | Path) -> None:
        """Run pip for it."""
        quiet = ("--disable-pip-version-check", "--no-input", "-q")
        line = (sys.executable, "-m", "pip", *quiet, "--python", self.python, *args)
        call(*line, cwd=self.folder)


def make_environment(folder: Path, wheel: Path) -> Environment:
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    made = Environment(folder)
    made.pip("install", wheel)
    made.pip("uninstall", "-y", "aiopip")
    return made


def compiled(tmp_path: Path, *pipcc: str | Path) -> Path:
    """A program that a certain pipcc has made."""
    program = tmp_path / "export_and_exit"
    call(*pipcc, PROGRAMS / "export_and_exit.c", "-o", program, cwd=tmp_path)
    return program


def run_installed(python: Path, program: Path, tmp_path: Path) -> str:
    """Run installed.py in an empty folder, far from the checkout: which package it has found."""
    script = tmp_path / "installed.py"
    script.write_text((PROGRAMS / "installed.py").read_text())
    folder = tmp_path / "empty"
    folder.mkdir()
    usual = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    said = call(python, "-W", "error", script, program, f"{CHECKOUT}/", cwd=folder, env=usual)
    assert not list(folder.iterdir())
    return said.removeprefix("done ").rstrip()


# What is in it


def test_wheel_has_nothing_but_the_package(wheel: Path) -> None:
    (version,) = re.findall(r"aiopip-([^-]*)-", wheel.name)
    expected = dict.fromkeys(python_files(), False)
    expected |= {f"aiopip/{name}": False for name in HEADERS}
    expected |= {f"aiopip/{name}": True for name in BUILT}
    expected |= {f"aiopip-{version}.dist-info/{name}": False for name in METADATA}
    expected |= {"aiopip_cli.py": False}
    assert contents(wheel) == expected
    assert {Path(name).suffix for name in python_files()} == {".py", ".pyi", ".typed"}


def test_wheel_is_for_all_pythons_and_this_libc(wheel: Path, unpacked: Path) -> None:
    found = re.fullmatch(r"aiopip-.*-cp310-abi3-manylinux_2_(\d+)_x86_64\.whl", wheel.name)
    assert found, wheel.name
    needed = {name: versions(unpacked / "aiopip" / name) for name in BUILT}
    assert max(max(minors, default=0) for minors in needed.values()) == int(found[1]), needed


def versions(path: Path) -> set[int]:
    """The x of all GLIBC_2.x that a file needs."""
    listed = call("readelf", "--version-info", "--wide", path, cwd=path.parent)
    return set(map(int, re.findall(r"Name: GLIBC_2\.(\d+)", listed)))


@pytest.mark.parametrize("name", sorted(BUILT))
def test_file_needs_no_glibc_newer_than_said(unpacked: Path, name: str) -> None:
    path = unpacked / "aiopip" / name
    symbols = call("readelf", "--dyn-syms", "--wide", path, cwd=unpacked)
    newer = {
        symbol
        for symbol, minor in re.findall(r"UND (\S+)@GLIBC_2\.(\d+)", symbols)
        # The headers of 2.38 and newer put these in the place of strtol and scanf.
        if int(minor) > 34 and not symbol.startswith("__isoc23_")
    }
    assert not newer


def test_preload_is_as_it_was_linked(unpacked: Path) -> None:
    path = unpacked / "aiopip" / "lib" / "libaiopip-task.so"
    listed = call("readelf", "--segments", "--dynamic", "--wide", path, cwd=unpacked)
    assert len(re.findall(r"^ +LOAD ", listed, re.MULTILINE)) == 2
    assert "INITFIRST" in listed
    assert "(NEEDED)" not in listed
    assert "RPATH" not in listed
    assert "RUNPATH" not in listed


def test_nothing_in_it_knows_where_it_was_built(unpacked: Path) -> None:
    files = [path for path in unpacked.rglob("*") if path.is_file()]
    assert not [path for path in files if os.fsencode(CHECKOUT) in path.read_bytes()]


def test_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    # meson's sdist is what was committed.
    git = ["git", "-C", str(CHECKOUT), "status", "--porcelain", "--", "aiopip", "native"]
    status = subprocess.run(git, check=False, capture_output=True, text=True)
    if status.returncode or status.stdout:
        pytest.skip(
            f"{CHECKOUT} is no git repository, or has changes: {status.stdout}{status.stderr}"
        )
    call(sys.executable, "-m", "build", "--outdir", tmp_path, CHECKOUT, cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    assert contents(built).keys() == contents(wheel).keys()


# What it does


def test_wheel_is_all_that_one_needs(wheel: Path, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", wheel)
    before = tree(environment.folder)
    environment.pip("install", "--no-deps", wheel)
    package = environment.site / "aiopip"
    files = [path for path in package.rglob("*") if path.is_file()]
    executable = {str(path.relative_to(package)) for path in files if os.access(path, os.X_OK)}
    assert executable == BUILT
    program = compiled(tmp_path, environment.folder / "bin" / "pipcc")
    found = run_installed(environment.python, program, tmp_path)
    assert found == str(package / "__init__.py")
    environment.pip("uninstall", "-y", "aiopip")
    assert not package.exists()
    assert tree(environment.folder) == before


def test_wheel_in_a_folder_with_a_space(wheel: Path, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "My Project", wheel)
    environment.pip("install", "--no-deps", wheel)
    program = compiled(tmp_path, environment.folder / "bin" / "pipcc")
    found = run_installed(environment.python, program, tmp_path)
    assert found.startswith(f"{tmp_path}/My Project/")


def test_wheel_in_a_folder_with_a_space_and_a_colon(
    wheel: Path, tmp_path: Path, pip_program: Programs
) -> None:
    # A virtual environment refuses such a name, and so does ld.so in what pipcc would link here.
    environment = make_environment(tmp_path / "venv", wheel)
    packages = tmp_path / "a: b"
    environment.pip("install", "--no-deps", "--target", packages, wheel)
    (environment.site / "aiopip.pth").write_text(f"{packages}\n")
    found = run_installed(environment.python, pip_program("export_and_exit"), tmp_path)
    assert found == f"{packages}/aiopip/__init__.py"
