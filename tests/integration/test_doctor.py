"""`aiopip doctor` on this machine, in sandboxes, and where `import aiopip` fails."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from integration.test_debian_python import DEBIANS, is_fixed, library_of
from integration.test_sandbox import CLONE3, DENY, KCMP, MEMFD_CREATE, PIDFD_GETFD
from support import run_python

import aiopip

COMMAND = str(Path(sysconfig.get_path("scripts")) / "aiopip")
FUTEX_WAITV = 449

NAMED = {
    "system", "processor", "kernel", "C library", "clone3", "pidfd_open", "pidfd_getfd",
    "close_range", "kcmp", "futex_waitv", "memfd_create", "PIDFD_GET_INFO", "PROCMAP_QUERY",
    "seccomp", "PR_SET_MDWE", "vm.max_map_count", "vm.overcommit_memory", "open files",
    "processes", "pids.max", "stack", "address space", "/dev/shm", "package", "interpreter",
    "native part", "Root", "task: true", "task: this Python", "memory of ended tasks",
    "task that crashes",
}  # fmt: skip


def run(*line: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run(line, check=False, **options)


def verdicts(written: str) -> dict[str, str]:
    """By what was looked at: the verdict."""
    return {line["what"]: line["verdict"] for line in json.loads(written)["findings"]}


def test_it_names_everything() -> None:
    done = run(COMMAND, "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(verdicts(done.stdout)) == NAMED
    tasks = (
        "Root",
        "task: true",
        "task: this Python",
        "memory of ended tasks",
        "task that crashes",
    )
    assert {verdicts(done.stdout)[what] for what in tasks} == {"ok"}


def test_text_in_a_pipe() -> None:
    done = run(sys.executable, "-m", "aiopip", "doctor", cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert re.search(r"^ok +native part +loads, ABI version \d+$", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].startswith("Tasks run here, with")


def test_report_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(COMMAND, "doctor", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")


def test_report_that_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        done = run(COMMAND, "doctor", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == "aiopip: cannot write the report: No space left on device\n"


def test_table_on_a_terminal() -> None:
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([COMMAND, "doctor"], stdout=theirs, env=env) as process:
        os.close(theirs)
        written = b""
        # EIO: the other end is closed.
        while chunk := _read(ours):
            written += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[32m" in written


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def test_version() -> None:
    done = run(COMMAND, "--version")
    assert done.stdout == f"aiopip {metadata.version('aiopip')}\n"


# Sandboxes

DOCTOR = """
    from aiopip._cli import aiopip
    raise SystemExit(aiopip(["doctor", "--json"]))
"""


def test_denied_system_calls() -> None:
    refused = f"{KCMP}: EPERM, {PIDFD_GETFD}: EPERM, {FUTEX_WAITV}: EPERM"
    done = run_python(f"{DENY}    deny({{{CLONE3}: ENOSYS, {refused}}})\n{DOCTOR}")
    assert (done.returncode, done.stderr) == (0, "")
    found = verdicts(done.stdout)
    limited = {"clone3", "kcmp", "pidfd_getfd", "futex_waitv", "seccomp"}
    assert {what for what, verdict in found.items() if verdict == "limited"} >= limited
    assert "refuses clone3, pidfd_getfd, kcmp, futex_waitv" in done.stdout
    assert (found["Root"], found["task: this Python"]) == ("ok", "ok")


def test_without_pidfds_no_root_opens() -> None:
    done = run_python(f"{DENY}    deny({{434: EPERM}})\n{DOCTOR}")
    assert (done.returncode, done.stderr) == (1, "")
    found = verdicts(done.stdout)
    assert (found["pidfd_open"], found["Root"]) == ("missing", "missing")
    assert "task: true" not in found


MDWE = """
    import ctypes
    if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
        raise SystemExit(77)
"""


def run_without_writable_text(code: str) -> str:
    """The output of a program under PR_SET_MDWE, which its tasks inherit."""
    done = run_python(MDWE + code)
    if done.returncode == 77:
        pytest.skip("PR_SET_MDWE needs Linux 6.3")
    assert done.stderr == ""
    return done.stdout


def test_libc_that_may_not_be_written_to() -> None:
    """There is a copy of it in which nothing need be written."""
    found = verdicts(run_without_writable_text(DOCTOR))
    assert (found["PR_SET_MDWE"], found["memory of ended tasks"]) == ("limited", "ok")


def test_libc_that_may_not_be_patched() -> None:
    """There can be no such copy."""
    output = run_without_writable_text(f"{DENY}    deny({{{MEMFD_CREATE}: EPERM}})\n{DOCTOR}")
    found = verdicts(output)
    assert (found["PR_SET_MDWE"], found["memory of ended tasks"]) == ("limited", "limited")
    assert re.search(r"\d+ MiB stay mapped", output)


# Interpreters


def test_python_at_a_fixed_address() -> None:
    if not DEBIANS.exists() or not is_fixed(DEBIANS):
        pytest.skip(f"{DEBIANS} is absent or position-independent")
    folder = Path(str(aiopip.__file__)).parents[1]
    code = "import sys; sys.path.append(sys.argv[1]); import aiopip_cli; sys.argv[1:] = ['doctor',"
    code += " '--json']; sys.exit(aiopip_cli.main())"
    done = run(DEBIANS, "-c", code, folder, cwd="/")
    assert done.stderr == ""
    findings = {line["what"]: line for line in json.loads(done.stdout)["findings"]}
    library = library_of(DEBIANS)
    if library is None:
        assert "apt-get install libpython" in findings["interpreter"]["advice"]
    else:
        assert findings["interpreter"]["found"].endswith(f"runs from {library}")


# Where the package cannot be imported


def test_sources_that_are_not_built(tmp_path: Path) -> None:
    sources = Path(__file__).parents[2]
    shutil.copytree(sources / "aiopip", tmp_path / "aiopip")
    shutil.copy(sources / "aiopip_cli.py", tmp_path)
    done = run(sys.executable, "-m", "aiopip_cli", "doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^missing +native part +does not load: these are", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +clone3 ", done.stdout, re.MULTILINE)
    assert done.stdout.splitlines()[-1].startswith("Tasks do not run here: these are aiopip's")


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("os.confstr = lambda _: None", r"missing +C library +no glibc"),
        ("os.confstr = lambda _: 'glibc 2.31'", r"missing +C library +glibc 2.31"),
        ("sys.platform = 'darwin'", r"missing +system +darwin"),
        (
            "u = os.uname_result([*os.uname()[:4], 'aarch64']); os.uname = lambda: u",
            r"missing +processor +aarch64",
        ),
    ],
)
def test_machine_that_is_refused(machine: str, said: str) -> None:
    source = f"""
        import os, sys
        {machine}
        import aiopip_cli
        sys.argv[1:] = ["doctor"]
        raise SystemExit(aiopip_cli.main())
    """
    done = run_python(source)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(f"^{said}", done.stdout, re.MULTILINE)
    assert "Tasks do not run here: aiopip needs Linux on x86-64" in done.stdout


def test_refused_machine_still_cannot_import() -> None:
    done = run_python("import sys; sys.platform = 'darwin'; import aiopip_cli, aiopip")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: aiopip needs Linux")
