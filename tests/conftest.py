"""Fixtures for all tests: their event loops, what a test may leave behind, C programs to run."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import shutil
import subprocess
import sysconfig
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread
import loops
import pytest
from support import kept_thread_count, thread_count
from watchdog import BOUND_S, Watchdog

import aiopip

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAK_DEADLINE_S = 5.0
"""How long the memory of ended tasks may take to go back: it goes after they are reported."""

ANONYMOUS_SLACK = 24
"""Anonymous mappings that a test may leave: the arenas of malloc and of Python, grown by the test's
own objects (those of 5,000 tasks took 17), and the stacks that glibc keeps of ended threads."""

THREAD = 4
"""Anonymous mappings that a thread may have: its stack, an arena of malloc, a guard each."""


class CompileC(Protocol):
    """Compile the text of a C program, once a session."""

    def __call__(self, source: str, *flags: str, name: str = "program") -> Path:
        """Return the program's path."""


# Event loops


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --loops."""
    text = f"event loops for async tests, of {','.join(loops.KINDS)}, or all, also where a test is "
    parser.addoption("--loops", help=text + "not about loops (by default debug and eager are not)")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which loops the tests run on, and what others lack."""
    chosen = loops.parse(config.getoption("--loops"))
    missing = [f"{kind.name} ({kind.missing})" for kind in loops.KINDS.values() if kind.missing]
    lines = ["loops: " + ", ".join(kind.name for kind in chosen)]
    return lines + [f"no loops here: {', '.join(missing)}"] * bool(missing)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each async test on each loop."""
    if "anyio_backend" in metafunc.fixturenames:
        names = metafunc.config.getoption("--loops")
        loops.parametrize(metafunc, loops.of_test(metafunc.definition.path, names))


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The loop that a test runs on, for anyio's pytest plugin."""
    return request.param


# Leaks


@dataclass(frozen=True)
class Resources:
    """What this process holds."""

    descriptors: dict[int, str]
    children: frozenset[int]
    threads: int
    files: Counter[str]
    anonymous: int
    libraries: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        """Look."""
        names = [line.split(maxsplit=5)[5:] for line in _lines("/proc/self/maps")]
        files = Counter(name[0] for name in names if name and name[0].startswith("/"))
        return cls(
            descriptors=_descriptors(),
            children=frozenset(_children()),
            threads=thread_count(),
            files=files,
            anonymous=len(names) - files.total(),
            libraries=frozenset(_libraries()),
        )

    def beyond(self, before: Resources) -> list[str]:
        """What there is more of than there was, as sentences."""
        found = [
            f"descriptor {number}: {target}"
            for number, target in self.descriptors.items()
            if number not in before.descriptors
        ]
        found += [f"child process {pid}" for pid in self.children - before.children]
        if self.threads > before.threads:
            found.append(f"{self.threads} threads, before {before.threads}")
        # A library that the test made this process load for itself, by an import, stays.
        loaded = self.libraries - before.libraries
        found += [
            f"{count} mappings of {name} more"
            for name, count in (self.files - before.files).items()
            if name not in loaded
        ]
        if self.anonymous > before.anonymous + ANONYMOUS_SLACK + THREAD * kept_thread_count():
            found.append(f"{self.anonymous} anonymous mappings, before {before.anonymous}")
        return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _names(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def _descriptors() -> dict[int, str]:
    targets = {int(number): _target(number) for number in _names("/proc/self/fd")}
    return {number: target for number, target in targets.items() if target is not None}


def _target(number: str) -> str | None:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except FileNotFoundError:
        return None  # the one that listed the folder


def _children() -> list[int]:
    return [int(pid) for task in _names("/proc/self/task") for pid in _children_of(task)]


def _children_of(thread: str) -> list[str]:
    try:
        return Path(f"/proc/self/task/{thread}/children").read_text().split()
    except FileNotFoundError:
        return []  # it has ended


class _Info(ctypes.Structure):
    """The beginning of struct dl_phdr_info."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


def _libraries() -> list[str]:
    """The files that this process's own dynamic linker has loaded: dl_iterate_phdr(3)."""
    names = []

    def visit(info: Any, _size: int, _data: int | None) -> int:
        names.append(os.path.realpath(os.fsdecode(info.contents.name or b"")))
        return 0

    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(_Info), ctypes.c_size_t, ctypes.c_void_p
    )
    ctypes.CDLL(None).dl_iterate_phdr(prototype(visit), None)
    return names


@pytest.fixture(scope="session")
def warm(watchdog: Watchdog) -> None:
    """Have done once what stays: imports, the first arenas, the stacks that glibc keeps."""

    async def run() -> None:
        async with aiopip.Root() as root:
            await (await root.spawn("true")).wait()
            await anyio.to_thread.run_sync(gc.collect)

    pytest.importorskip("numpy")
    # trio has hypothesis know its random numbers, and hypothesis asks the garbage collector then.
    pytest.importorskip("hypothesis")
    for kind in loops.INSTALLED:
        kind.run(run)
    _libraries()
    # What there is now stays, and each test has the garbage collector look several times: it need
    # not look at these objects, which makes it ten times as quick.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test with real tasks that leaves descriptors, processes, threads or mappings."""
    if "unit" in request.path.parts:
        yield
        return
    request.getfixturevalue("warm")
    gc.collect()
    before = Resources.now()
    yield
    deadline = time.monotonic() + LEAK_DEADLINE_S
    while leaked := Resources.now().beyond(before):
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n  " + "\n  ".join(leaked))
        gc.collect()
        time.sleep(0.01)


# Code that blocks the loop


@pytest.fixture(scope="session")
def watchdog() -> Iterator[Watchdog]:
    """The thread that looks at the thread of the loop; it lives as long as the session."""
    dog = Watchdog()
    yield dog
    dog.end()


@pytest.fixture(autouse=True)
def no_blocking(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail an async test with real tasks in which code of the library blocks the loop."""
    if "unit" in request.path.parts or "anyio_backend" not in request.fixturenames:
        yield
        return
    dog: Watchdog = request.getfixturevalue("watchdog")
    with dog.watch() as blocked:
        yield
    if blocked:
        pytest.fail(f"the loop was blocked for {BOUND_S} s and longer\n" + "\n".join(blocked))


# C programs


def _compile(folder: Path, compiler: list[str], source: str, flags: tuple[str, ...]) -> Path:
    key = hashlib.sha256("\0".join([*compiler, source, *flags]).encode()).hexdigest()[:16]
    place = folder / key
    if not place.exists():
        place.mkdir()
        (place / "program.c").write_text(source)
        # The file is made under another name, so that a failed compilation is not taken for done.
        line = [*compiler, "-Wall", "-O1", "-o", "new", "program.c", *flags]
        done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(place)
            pytest.fail(f"{' '.join(line)}:\n{done.stderr}")
        (place / "new").rename(place / "program")
    return place / "program"


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> CompileC:
    """Compile plain C programs, which know nothing of PiP, as position-independent executables."""
    return _compiler(tmp_path_factory.mktemp("c"), ["gcc", "-fPIE", "-pie"])


@pytest.fixture(scope="session")
def pipcc(tmp_path_factory: pytest.TempPathFactory) -> CompileC:
    """Compile C programs against <pip/pip.h>, with the installed `pipcc`."""
    command = Path(sysconfig.get_path("scripts")) / "pipcc"
    return _compiler(tmp_path_factory.mktemp("pipcc"), [str(command)])


def _compiler(folder: Path, compiler: list[str]) -> CompileC:
    def compile_c(source: str, *flags: str, name: str = "program") -> Path:
        program = _compile(folder, compiler, source, flags)
        named = program.with_name(name)
        if not named.exists():
            os.link(program, named)
        return named

    return compile_c
