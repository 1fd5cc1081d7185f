"""The table of all checks.

A check takes the facts of a machine, asks nothing else, and gives a Finding, or None where there is
nothing to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopip._doctor import limits, machine, sandbox, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopip._doctor.facts import Facts, Finding

BEFORE_CALLS: tuple[Callable[[Facts], Finding | None], ...] = machine.PLATFORM
BEHIND_CALLS: tuple[Callable[[Facts], Finding | None], ...] = (
    *sandbox.CHECKS,
    *limits.CHECKS,
    *machine.PACKAGE,
    *tasks.CHECKS,
)


def examine(facts: Facts) -> list[Finding]:
    """All findings, in the order of the report."""
    before = [check(facts) for check in BEFORE_CALLS]
    behind = [check(facts) for check in BEHIND_CALLS]
    findings = (*before, *sandbox.check_calls(facts), *behind)
    return [finding for finding in findings if finding is not None]
