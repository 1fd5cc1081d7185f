"""What `aiopip doctor` says of machines that are made up here."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aiopip import _cli
from aiopip._doctor import gather, report
from aiopip._doctor.calls import probe_calls
from aiopip._doctor.checks import examine
from aiopip._doctor.facts import Facts, Finding, Interpreter, Trial, Verdict
from aiopip._doctor.sandbox import CALLS
from aiopip._doctor.trial import how_ended, read_trial

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import CompileC

FILES = {
    "/proc/self/status": "Name:\tpython\nSeccomp:\t0\nSeccomp_filters:\t0\n",
    "/proc/self/maps": "a line for each mapping\n" * 300,
    "/proc/self/cgroup": "0::/\n",
    "/proc/sys/vm/max_map_count": "65530\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/proc/meminfo": "MemTotal: 8000000 kB\nCommitLimit:  4194304 kB\nCommitted_AS: 3145728 kB\n",
}
STATISTICS = {
    "mappings_limit": 65530,
    "has_clone3": True,
    "has_kcmp": True,
    "loader_tracked": True,
}
HEALTHY = Facts(
    system="linux",
    machine="x86_64",
    bits=64,
    kernel="6.18.44-generic",
    glibc=(2, 36),
    calls={call.name: 0 for call in CALLS},
    mdwe=0,
    limits={
        "RLIMIT_NOFILE": (1024, 1048576),
        "RLIMIT_NPROC": (-1, -1),
        "RLIMIT_STACK": (8 << 20, -1),
        "RLIMIT_AS": (-1, -1),
    },
    read=FILES.get,
    shm=True,
    folder="/lib/aiopip",
    noexec=False,
    interpreter=Interpreter("/usr/bin/python3.12"),
    trial=Trial(root="", program="", python="", crash="", abi_version=2, statistics=STATISTICS),
)
ABSENT = Trial(native="aiopip needs Linux on x86-64 with glibc 2.34 or newer")


def change(**facts: Any) -> Facts:
    """A healthy machine but for something."""
    return dataclasses.replace(HEALTHY, **facts)


def with_file(path: str, text: str) -> Facts:
    """Likewise, of a file in /proc."""
    return change(read={**FILES, path: text}.get)


def refusing(facts: Facts = HEALTHY, /, **calls: int) -> Facts:
    """The machine with calls refused by an errno."""
    return dataclasses.replace(facts, calls={**facts.calls, **calls})


def with_trial(**steps: Any) -> Facts:
    return change(trial=dataclasses.replace(HEALTHY.trial, **steps))


def about(what: str, facts: Facts) -> Finding:
    (finding,) = [finding for finding in examine(facts) if finding.what == what]
    return finding


def test_healthy_machine_has_no_advice() -> None:
    findings = examine(HEALTHY)
    assert [finding for finding in findings if finding.verdict is not Verdict.OK] == []
    assert not any(finding.advice for finding in findings)
    assert len({finding.what for finding in findings}) == len(findings)


MISSING = [
    ("system", change(system="darwin", calls={}, trial=ABSENT), "darwin", "a Linux machine"),
    ("processor", change(machine="aarch64", calls={}, trial=ABSENT), "aarch64", "x86-64 alone"),
    ("processor", change(bits=32, trial=ABSENT), "x86_64, 32 bits", "such a machine and Python"),
    ("kernel", change(kernel="4.19.0"), "4.19.0", "use Linux 6.1"),
    ("C library", change(glibc=None, trial=ABSENT), "no glibc", "musl"),
    ("C library", change(glibc=(2, 31), trial=ABSENT), "glibc 2.31", "threads since 2.34"),
    ("pidfd_open", refusing(pidfd_open=errno.EPERM), "refused (EPERM)", "No Root can be opened"),
    ("package", change(noexec=True), "/lib/aiopip", "noexec"),
    ("native part", change(trial=ABSENT), "does not load: aiopip needs Linux", "install it"),
    ("Root", with_trial(root="no pidfd", program=None), "does not open: no pidfd", "above"),
    ("task: true", with_trial(program="`true` ended with 127"), "127", "above"),
]
LOW = with_trial(statistics={**STATISTICS, "mappings_limit": 32000})
STRICT = with_file("/proc/sys/vm/overcommit_memory", "2\n")
LIMITED = [
    ("kernel", change(kernel="5.10.0-28-amd64"), "5.10.0-28-amd64", "take its root along"),
    ("kernel", change(kernel="5.4.0"), "5.4.0", "5.9 is the oldest"),
    ("clone3", refusing(clone3=errno.ENOSYS), "not there (ENOSYS)", "at no loss"),
    ("kcmp", refusing(kcmp=errno.EPERM), "refused (EPERM)", "built without it"),
    ("futex_waitv", refusing(futex_waitv=errno.ENOSYS), "(ENOSYS)", "every 10 ms"),
    ("PIDFD_GET_INFO", refusing(PIDFD_GET_INFO=errno.ENODATA), "without the exit", "status.lost"),
    ("PROCMAP_QUERY", refusing(PROCMAP_QUERY=errno.ENOTTY), "not there", "/proc/self/maps"),
    ("PR_SET_MDWE", change(mdwe=1), "set", "MemoryDenyWriteExecute"),
    ("vm.max_map_count", LOW, "32,000: about 1,800 small C tasks, or 100 of", "sysctl"),
    ("vm.overcommit_memory", STRICT, "leaves 1,024 MiB", "ENOMEM"),
    ("open files", change(limits={"RLIMIT_NOFILE": (256, 512)}), "up to 512", "about 448"),
    ("processes", change(limits={"RLIMIT_NPROC": (200, 200)}), "200", "ulimit -u"),
    ("address space", change(limits={"RLIMIT_AS": (1 << 33, -1)}), "8,192 MiB", "ulimit -v"),
    ("interpreter", change(interpreter=Interpreter("")), "unknown", "by its path"),
    ("task: this Python", with_trial(python="no PIE"), "no PIE", "other programs can"),
    ("memory of ended tasks", with_trial(lost_mib=64), "64 MiB stay", "SELinux"),
    ("task that crashes", with_trial(crash="the root was ended by SIGSEGV"), "SIGSEGV", "6.1"),
]


@pytest.mark.parametrize(("what", "facts", "found", "advice"), MISSING)
def test_what_is_missing(what: str, facts: Facts, found: str, advice: str) -> None:
    finding = about(what, facts)
    assert finding.verdict is Verdict.MISSING
    assert found in finding.found
    assert advice in finding.advice


@pytest.mark.parametrize(("what", "facts", "found", "advice"), LIMITED)
def test_what_is_limited(what: str, facts: Facts, found: str, advice: str) -> None:
    finding = about(what, facts)
    assert finding.verdict is Verdict.LIMITED
    assert found in finding.found
    assert advice in finding.advice
    assert re.fullmatch(r".*\.", finding.advice)


# System calls


def test_the_way_out_is_a_kernel_that_has_the_call() -> None:
    old = refusing(change(kernel="5.15.0"), futex_waitv=errno.ENOSYS)
    assert about("futex_waitv", old).advice.endswith("use Linux 5.16 or newer.")


def test_the_way_out_is_the_sandbox() -> None:
    filtered = with_file("/proc/self/status", "Name:\tpython\nSeccomp:\t2\n")
    docker = refusing(
        filtered,
        clone3=errno.ENOSYS,
        kcmp=errno.EPERM,
        PIDFD_GET_INFO=errno.ENOTTY,
    )
    assert about("seccomp", docker).found == "a filter, which refuses clone3, kcmp"
    assert "allow it in the sandbox's seccomp profile" in about("clone3", docker).advice
    harmless = about("seccomp", filtered)
    assert (harmless.verdict, harmless.advice) == (Verdict.OK, "")


def test_the_core_has_the_last_word() -> None:
    """A call that the probe may make and the core has given up."""
    facts = with_trial(statistics={**STATISTICS, "has_kcmp": False, "loader_tracked": False})
    assert about("kcmp", facts).found == "works, and is not used"
    assert "does not know" in about("memfd_create", facts).advice


def test_every_call_is_probed() -> None:
    answers = probe_calls()
    assert list(answers) == [call.name for call in CALLS]
    assert answers["pidfd_open"] == 0


# Limits


def test_numbers_of_tasks() -> None:
    found = about("vm.max_map_count", HEALTHY).found
    assert found == "65,530: about 3,700 small C tasks, or 210 of Python with NumPy"
    low = dataclasses.replace(with_file("/proc/sys/vm/max_map_count", "32000\n"), trial=ABSENT)
    assert about("vm.max_map_count", low).found == about("vm.max_map_count", LOW).found
    plenty = with_trial(statistics={**STATISTICS, "mappings_limit": 10**7})
    assert "about 4,000 small C tasks, or 4,000 of" in about("vm.max_map_count", plenty).found
    none = with_trial(statistics={**STATISTICS, "mappings_limit": 1000})
    assert "about 0 small C tasks, or 0 of" in about("vm.max_map_count", none).found


@pytest.mark.parametrize(
    ("cgroup", "files", "found"),
    [
        ("0::/a/b\n", {"/sys/fs/cgroup/a/b/pids": ("max", "9")}, "no limit"),
        ("0::/a/b\n", {"/sys/fs/cgroup/a/b/pids": ("5000", "7")}, "5,000, of which 7 are used"),
        (
            "0::/a/b\n",
            {"/sys/fs/cgroup/a/b/pids": ("5000", "7"), "/sys/fs/cgroup/a/pids": ("600", "500")},
            "600, of which 500 are used",
        ),
        (
            "9:memory:/m\n8:cpu,pids:/\n0::/\n",
            {"/sys/fs/cgroup/pids/pids": ("300", "20"), "/sys/fs/cgroup/m/pids": ("1", "1")},
            "300, of which 20 are used",
        ),
        ("0::/\n", {"/sys/fs/cgroup/unified/pids": ("64", "1")}, "64, of which 1 are used"),
        ("", {}, "no limit"),
    ],
)
def test_pids_of_all_cgroups(cgroup: str, files: dict[str, tuple[str, str]], found: str) -> None:
    texts = FILES | {"/proc/self/cgroup": cgroup}
    for path, (most, used) in files.items():
        texts |= {f"{path}.max": f"{most}\n", f"{path}.current": f"{used}\n"}
    finding = about("pids.max", change(read=texts.get))
    assert finding.found == found
    assert (finding.verdict is Verdict.LIMITED) == found.startswith(("600", "300", "64"))


def test_stack_is_the_limit_within_reason() -> None:
    def found(soft: int) -> str:
        return about("stack", change(limits={"RLIMIT_STACK": (soft, -1)})).found

    assert found(16 << 20) == "16,384 KiB for each task"
    assert found(-1) == "no limit: 8 MiB for each task"
    assert found(1 << 30) == "1,073,741,824: 8 MiB for each task"


def test_machine_of_which_nothing_can_be_read() -> None:
    facts = change(read=lambda _path: None, limits={}, calls={}, trial=ABSENT, glibc=None)
    assert {finding.what for finding in examine(facts)} >= {"kernel", "native part", "pids.max"}


# The interpreter


def test_interpreter_at_a_fixed_address(c_program: CompileC, tmp_path: Path) -> None:
    fixed = c_program("int main(void) { return 0; }", "-no-pie", "-fno-pie")
    python, library = tmp_path / "bin/python3.12", tmp_path / "lib/libpython3.12.so.1.0"
    python.parent.mkdir()
    library.parent.mkdir()
    shutil.copy(fixed, python)

    def look() -> Finding:
        return about("interpreter", change(interpreter=gather.interpreter(str(python))))

    assert look().verdict is Verdict.LIMITED
    assert "apt-get install libpython3.12)" in look().advice
    library.touch()
    assert look().verdict is Verdict.OK
    assert look().found == f"{python}, at a fixed address, runs from {library}"
    other = python.rename(tmp_path / "bin/python")
    facts = change(interpreter=gather.interpreter(str(other)))
    assert "task (NotPieError); use a Python built" in about("interpreter", facts).advice


def test_library_that_ld_so_cannot_be_told_of() -> None:
    python = Interpreter("/My Py/bin/python3.12", fixed=True, library="/My Py/lib/libpython.so")
    finding = about("interpreter", change(interpreter=python))
    assert finding.verdict is Verdict.LIMITED
    assert "has a blank or a colon" in finding.advice


def test_interpreter_that_is_not_there(tmp_path: Path) -> None:
    assert gather.interpreter("") == Interpreter("")
    assert gather.interpreter(str(tmp_path / "python")) == Interpreter("")


# The trial


def test_trial_that_says_nothing() -> None:
    trial = read_trial("", how_ended(-11, ""))
    assert trial == Trial(root="the process that tried was ended by SIGSEGV")
    trial = read_trial("", how_ended(1, "Traceback:\n  ...\nImportError: no\n"))
    assert trial.obstacle() == "the process that tried exited with 1: ImportError: no"


def test_trial_that_ends_with_its_task() -> None:
    before = dataclasses.replace(HEALTHY.trial, crash=None)
    line = json.dumps(dataclasses.asdict(before)) + "\n"
    assert read_trial(line, how_ended(-11, "")).crash == "the root was ended by SIGSEGV"
    assert read_trial(line + line.replace('"crash": null', '"crash": ""'), "") == HEALTHY.trial


# The report


def test_text() -> None:
    text = report.as_text(examine(refusing(kcmp=errno.EPERM)), HEALTHY.trial, columns=100)
    lines = text.splitlines()
    assert lines[-1] == "Tasks run here, with 1 limitation."
    assert all(len(line) <= 100 for line in lines)
    at = next(number for number, line in enumerate(lines) if " kcmp " in line)
    assert lines[at].split() == ["limited", "kcmp", "refused", "(EPERM)"]
    assert lines[at + 1].startswith(" " * 32 + "The memory of killed tasks")


def test_text_says_why_tasks_do_not_run() -> None:
    facts = change(trial=ABSENT)
    text = report.as_text(examine(facts), facts.trial)
    assert text.endswith(f"\n\nTasks do not run here: {ABSENT.native}")


def test_json_has_all() -> None:
    findings = examine(refusing(kcmp=errno.EPERM))
    read = json.loads(report.as_json(findings, HEALTHY.trial, "1.2"))
    assert (read["version"], read["tasks_run"]) == ("1.2", True)
    shown = [{**line, "verdict": Verdict(line["verdict"])} for line in read["findings"]]
    assert [Finding(**line) for line in shown] == findings


def test_table_on_a_terminal() -> None:
    console = pytest.importorskip("rich.console")
    file = io.StringIO()
    findings = examine(refusing(kcmp=errno.EPERM))
    report.show(findings, HEALTHY.trial, console.Console(file=file, force_terminal=True, width=100))
    shown = file.getvalue()
    assert "\x1b[33mlimited" in shown
    assert all(finding.what in shown for finding in findings)


def test_no_table_in_a_pipe_or_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report.terminal() is None
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert report.terminal() is None


# The command


def test_exit_status_says_whether_tasks_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = iter([HEALTHY, change(trial=ABSENT)])
    monkeypatch.setattr(gather, "gather", lambda _refusal: next(machines))
    assert _cli.aiopip(["doctor"]) == 0
    assert _cli.aiopip(["doctor", "--json"]) == 1
    assert '"tasks_run": false' in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["nurse"], ["doctor", "--xml"]])
def test_wrong_use(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _cli.aiopip(args)
    assert caught.value.code == 2
    assert "usage: aiopip" in capsys.readouterr().err
