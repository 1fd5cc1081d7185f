"""What follows from the system calls that are not there, or are refused."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from aiopip._doctor.facts import Facts, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITED, MISSING = Verdict.LIMITED, Verdict.MISSING


class Call(NamedTuple):
    """A system call, or a request of one, and what its absence means."""

    name: str
    since: tuple[int, int]
    consequence: str
    verdict: Verdict = LIMITED
    statistic: str = ""
    """The field of RootStatistics in which the native core says whether it uses the call."""


CALLS = (
    Call(
        "clone3",
        (5, 5),
        "clone(2) is used instead, and each task resets its signal handlers itself, at no loss",
        statistic="has_clone3",
    ),
    Call("pidfd_open", (5, 4), "no Root can be opened, since tasks are watched by pidfds", MISSING),
    Call(
        "pidfd_getfd",
        (5, 6),
        "each clone copies the root's descriptor table, 0.2 ms with 4,000 open files",
    ),
    Call(
        "close_range",
        (5, 9),
        "each clone copies the root's descriptor table, and closes what is not the task's in turn",
    ),
    Call(
        "kcmp",
        (3, 5),
        "the memory of killed tasks may go back later, since who still runs on it can be guessed "
        "only",
        statistic="has_kcmp",
    ),
    Call(
        "futex_waitv",
        (5, 16),
        "who waits for a Lock, or for several things at once, looks every 10 ms",
    ),
    Call(
        "memfd_create",
        (3, 17),
        "a task that is killed while its libraries load may leave mappings in the root",
        statistic="loader_tracked",
    ),
    Call(
        "PIDFD_GET_INFO",
        (6, 15),
        "when a task has exec'ed, and another wait in the process takes its status, that is lost "
        "(status.lost)",
    ),
    Call(
        "PROCMAP_QUERY",
        (6, 11),
        "Region.cast() reads all of /proc/self/maps, some 10 ms with tens of thousands of mappings",
    ),
)

ANSWERS = {
    errno.ENOSYS: "not there",
    errno.ENOTTY: "not there",
    errno.ENODATA: "there, without the exit status",
}


def check_call(facts: Facts, call: Call) -> Finding:
    """One call: the core's own word where there is one, else what the probe was told."""
    number = facts.calls[call.name]
    used = (facts.trial.statistics or {}).get(call.statistic, True)
    if number == 0 and used:
        return Finding(call.name, "works")
    name = errno.errorcode.get(number, str(number))
    found = f"{ANSWERS.get(number, 'refused')} ({name})" if number else "works, and is not used"
    advice = f"{call.consequence[0].upper()}{call.consequence[1:]}; {_way_out(facts, call)}."
    return Finding(call.name, found, call.verdict, advice)


def _way_out(facts: Facts, call: Call) -> str:
    if facts.kernel_version < call.since:
        return "use Linux {}.{} or newer".format(*call.since)
    if facts.calls[call.name] == 0:
        return "this system's ld.so is one that aiopip does not know, so tell its developers"
    if seccomp_mode(facts) != "0":
        return "allow it in the sandbox's seccomp profile"
    return "the kernel was built without it, or a security module refuses it"


def check_calls(facts: Facts) -> Iterator[Finding]:
    """Each call that was tried."""
    return (check_call(facts, call) for call in CALLS if call.name in facts.calls)


def seccomp_mode(facts: Facts) -> str:
    """The field of /proc/self/status: 0 none, 1 strict, 2 a filter."""
    for line in (facts.read("/proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Seccomp":
            return value.strip()
    return "0"


def check_seccomp(facts: Facts) -> Finding | None:
    """A filter, and which of the calls it refuses."""
    if not facts.calls:
        return None
    if seccomp_mode(facts) == "0":
        return Finding("seccomp", "no filter")
    refused = [
        call.name
        for call in CALLS
        if facts.calls.get(call.name, 0) not in (0, errno.ENOTTY, errno.ENODATA)
        and facts.kernel_version >= call.since
    ]
    if not refused:
        return Finding("seccomp", "a filter, which allows all of these calls")
    advice = (
        "Older ways are used where there are some, see each; allow the calls in the profile "
        "(Docker: --security-opt seccomp=PROFILE.json)."
    )
    return Finding("seccomp", f"a filter, which refuses {', '.join(refused)}", LIMITED, advice)


def check_mdwe(facts: Facts) -> Finding | None:
    """PR_SET_MDWE, which forbids to write to libc's text in tasks."""
    if not facts.calls:
        return None
    if facts.mdwe == 0:
        return Finding("PR_SET_MDWE", "not set")
    advice = (
        "a libc other than the root's cannot be patched in tasks, so what such a task maps stays "
        "mapped until the root ends; start the root without it (systemd: "
        "MemoryDenyWriteExecute=no)."
    )
    return Finding("PR_SET_MDWE", "set", LIMITED, advice)


CHECKS = (check_seccomp, check_mdwe)
