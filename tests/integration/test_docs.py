"""The docs are true: their programs run and print what they say, and the site has every name.

A program of a page is a block behind a line that names its file and ends in a colon.  Commands
stand behind a `$` in blocks of their own, with what they print; `...` stands for anything.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import aiopip
from aiopip import _errors

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parents[2]
DOCS = SOURCES / "docs"
TUTORIAL = sorted((DOCS / "tutorial").glob("*.md"))
PAGES = [SOURCES / "README.md", *sorted(DOCS.glob("**/*.md"))]

MEMBERS = {
    "ExitStatus": "core_dumped exit_code exited rusage signal signaled",
    "Export": "name withdraw withdrawn",
    "Lock": "SIZE_BYTES acquire acquire_nowait acquire_sync locked memory recover release",
    "Pool": "__aenter__ broadcast map run run_on statistics workers",
    "PoolMap": "aclose",
    "PoolExecutor": "kill_workers shutdown submit terminate_workers",
    "ReceivePipe": "aclose closed fileno receive",
    "Region": "address cast close closed dtype nbytes readonly shape source strides view",
    "PythonTask": "result",
    "RemotePythonTask": "result",
    "RemoteRoot": "pid pool spawn spawn_module spawn_python",
    "RemoteTask": "aclose kill name named_import pid pipid program resume returncode send_signal "
    "status stderr stdin stdout stop terminate wait wait_nowait",
    "Root": "__aenter__ abort create_subprocess_exec create_subprocess_shell events export "
    "kill_all max_tasks named_import named_import_nowait pool run signal_group spawn "
    "spawn_module spawn_python statistics task_group tasks trim wait_any wait_any_nowait",
    "SendPipe": "aclose closed fileno send",
    "Share": "FILES FS",
    "SignalStream": "close",
    "Task": "aclose kill loaded memory name named_import named_import_nowait pid pipid program "
    "resume returncode send_signal shared statistics status stderr stdin stdout stop terminate "
    "wait wait_nowait",
    "TaskGroup": "__aenter__ cancel run spawn tasks",
    "ThisTask": "export named_import named_import_nowait named_import_sync pid pipid root signals",
}
"""What users may use of each class; what ends in "; internal." is for the package alone."""

NOT_RUN = ("pip install", "cd ", "make ", "aiopip doctor", "python3 -m venv", "source ")
"""What a reader does once, or what has tests of its own."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: what stands behind the fence.
        text: what is in it.
        before: the last line above it that is not empty.
    """

    language: str
    text: str
    before: str

    @property
    def file(self) -> str | None:
        """The file whose content it is."""
        names = re.findall(r"`([\w-]+\.(?:py|c))`", self.before)
        return names[0] if len(names) == 1 and self.before.endswith(":") else None


def skip_without_syntax(page: Path) -> None:
    if "except*" in page.read_text() and sys.version_info < (3, 11):
        pytest.skip("except* is Python 3.11's")


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for fence in re.finditer(r"^```(\S+)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        above = text[: fence.start()].rstrip().rpartition("\n")[2]
        yield Block(fence[1], fence[2], above)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        yield line, printed


def is_like(printed: str, expected: str) -> bool:
    pattern = ".*".join(map(re.escape, expected.split("...")))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


def run(line: str, folder: Path) -> str:
    # The pages show a terminal, where what a program prints is not kept back.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_all(block: Block, folder: Path) -> int:
    """Run the commands of a block; returns how many."""
    ran = 0
    for line, expected in commands(block.text):
        if not line.startswith(NOT_RUN):
            printed = run(line, folder)
            assert is_like(printed, expected), f"$ {line}\n{printed}"
            ran += 1
    return ran


@pytest.mark.parametrize("page", TUTORIAL, ids=lambda page: page.stem)
def test_programs_of_the_tutorial_print_what_it_says(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    skip_without_syntax(page)
    files, used = set(), ""
    for block in blocks(page):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
            files.add(block.file)
        used += block.text
        if block.language == "console":
            run_all(block, tmp_path)
    assert files
    assert not {name for name in files if name not in used}


def test_programs_of_the_tutorial_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="no mypy: pip install --group lint")
    pytest.importorskip("numpy")
    for page in TUTORIAL:
        for block in blocks(page):
            if block.file is not None and block.language == "python":
                # Pages have files of the same name.
                name = f"{page.stem}_{block.file}".replace("-", "_")
                (tmp_path / name).write_text(block.text)
    run(f"{sys.executable} -m mypy --strict --python-version 3.11 *.py", tmp_path)


@pytest.mark.parametrize(("program", "count"), [("roots.py", 1), ("squares.py", 2)])
def test_the_shortest_programs(program: str, count: int, tmp_path: Path) -> None:
    """Those of the README, which says how they are compiled and run."""
    pytest.importorskip("numpy")
    for block in blocks(SOURCES / "README.md"):
        if block.file is not None:
            (tmp_path / block.file).write_text(block.text)
        if block.language == "console" and program in block.text:
            assert run_all(block, tmp_path) == count
            break
    else:
        pytest.fail("nothing runs it")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_in_pages_is_python_of_ours(page: Path) -> None:
    """Fragments compile, and what they name of aiopip is there."""
    skip_without_syntax(page)
    for block in blocks(page):
        if block.language != "python":
            continue
        compile(block.text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "aiopip":
                assert node.attr in aiopip.__all__, block.text


def test_every_name_is_in_the_reference_or_the_tree() -> None:
    reference = "".join((DOCS / name).read_text() for name in ("reference.md", "errors.md"))
    names = re.findall(r"^\.\. auto\w+:: aiopip\.(\w+)$", reference, re.MULTILINE)
    errors = re.findall(r"^[|` ]*-- (\w+)", _errors.__doc__ or "", re.MULTILINE)
    names += ["AiopipError", *errors]
    assert sorted(names) == sorted(aiopip.__all__)


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module, reason=f"no {module}: pip install --group docs")
    folder = tmp_path_factory.mktemp("site")
    # By -c, since -m would have the package's sources hide what is installed.
    code = "import sys; from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
    options = ["-W", "--keep-going", "-n", "-q", "-d", str(folder / "trees")]
    done = subprocess.run(
        [sys.executable, "-c", code, *options, DOCS, folder / "html"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def documented(site: Path) -> list[str]:
    """The names that the site documents, with their kinds."""
    inventory = (site / "objects.inv").read_bytes()
    head = b"zlib.\n"
    entries = zlib.decompress(inventory[inventory.index(head) + len(head) :]).decode()
    return [" ".join(line.split()[:2]) for line in entries.splitlines()]


@pytest.mark.timeout(300)
def test_site_has_every_name_once(site: Path) -> None:
    """Twice would be a warning."""
    names = [entry.split()[0] for entry in documented(site) if "py:" in entry]
    missing = [name for name in aiopip.__all__ if f"aiopip.{name}" not in names]
    assert not missing, "put them into docs/reference.md, errors into the tree in _errors.py"


@pytest.mark.timeout(300)
def test_members_are_those_for_users(site: Path) -> None:
    found: dict[str, set[str]] = {}
    for entry in documented(site):
        match = re.match(r"aiopip\.([A-Z]\w*)\.(\w+) py:", entry)
        if match:
            found.setdefault(match[1], set()).add(match[2])
    assert found == {name: set(members.split()) for name, members in MEMBERS.items()}


@pytest.mark.timeout(300)
def test_every_error_has_its_text(site: Path) -> None:
    page = (site / "errors.html").read_text()
    for name, value in vars(aiopip).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            assert f'id="aiopip.{name}"' in page
    assert page.count("For example: ") >= 25


@pytest.mark.timeout(300)
def test_docstrings_are_sections(site: Path) -> None:
    page = (site / "reference.html").read_text()
    for section in ("Cancellation", "Thread safety", "Source", "Raises", "Returns", "Parameters"):
        assert re.search(rf">{section}(<span class=\"colon\">:</span>)?</", page), section
    assert not re.search(r">(Thread safety|Source): ", page)
    assert "<p>The name: the last part" in page, "what stands before a colon became a type"
    assert "<p>The status: 0, 3, or -15" in page
    assert re.search(r"<p>sigaction\(2\)", page), "calls are written as they are"


def test_every_page_is_in_the_menu() -> None:
    index = (DOCS / "index.md").read_text()
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.glob("**/*.md")}
    listed = set(re.findall(r"^[\w/-]+$", index, re.MULTILINE))
    assert pages - {"index"} <= listed
