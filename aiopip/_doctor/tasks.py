"""What follows from the trial: how far tasks get."""

from __future__ import annotations

from aiopip._doctor.facts import Facts, Finding, Verdict

LOST_MIB = 32
"""Half of what the Python task of the trial maps; the root itself may grow a little."""

LIMITED, MISSING = Verdict.LIMITED, Verdict.MISSING


def check_native(facts: Facts) -> Finding:
    """Whether the compiled part loads, and which ABI it has."""
    if facts.trial.native:
        advice = "aiopip cannot be imported; install it for this Python and this machine."
        return Finding("native part", f"does not load: {facts.trial.native}", MISSING, advice)
    version = facts.trial.abi_version
    found = "loads" if version is None else f"loads, ABI version {version}"
    return Finding("native part", found)


def check_root(facts: Facts) -> Finding | None:
    """Whether a Root opens."""
    why = facts.trial.root
    advice = "No task can be started here; what is missing above may say why."
    return _tried("Root", "opens", why and f"does not open: {why}", MISSING, advice)


def check_program(facts: Facts) -> Finding | None:
    """Whether a program of the system runs as a task."""
    advice = "Programs cannot be tasks here; what is missing above may say why."
    return _tried("task: true", "runs", facts.trial.program, MISSING, advice)


def check_python(facts: Facts) -> Finding | None:
    """Whether this Python runs as a task and gives its memory away."""
    advice = "Python programs cannot be tasks with this interpreter, other programs can; see above."
    return _tried("task: this Python", "runs and exports", facts.trial.python, LIMITED, advice)


def check_memory(facts: Facts) -> Finding | None:
    """Whether the 64 MiB that a Python task had mapped came back."""
    if facts.trial.python != "":
        return None
    lost = facts.trial.lost_mib
    if lost < LOST_MIB:
        return Finding("memory of ended tasks", "comes back")
    advice = (
        "What tasks map stays mapped until the root ends: their libc could not be patched, which "
        "PR_SET_MDWE or a security module (SELinux: execmod) may forbid."
    )
    return Finding("memory of ended tasks", f"{lost} MiB stay mapped", LIMITED, advice)


def check_crash(facts: Facts) -> Finding | None:
    """Whether the root survives a task that crashes."""
    advice = "A task that dies by a signal takes its root along; use Linux 6.1 or newer."
    return _tried("task that crashes", "ends alone", facts.trial.crash, LIMITED, advice)


def _tried(what: str, works: str, why: str | None, verdict: Verdict, advice: str) -> Finding | None:
    """What a step of the trial says: None when it was not come to, why it failed, or empty."""
    if why is None:
        return None
    return Finding(what, why, verdict, advice) if why else Finding(what, works)


CHECKS = (check_native, check_root, check_program, check_python, check_memory, check_crash)
