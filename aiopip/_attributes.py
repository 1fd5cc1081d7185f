"""What a process hands on to what it starts, and a Root cannot hand on for a task that asks.

A task starts with the nice value, the processors and the signal mask of the thread that called
`spawn`.  Where a task has called it, the Root puts those of that task's thread into the request,
where they are others than its own, and were not asked for.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from aiopip._options import NOTHING, Given, pack_cpus, pack_signals

if TYPE_CHECKING:
    from aiopip._request import SpawnRequest


class Attributes(NamedTuple):
    """Those of a thread.

    Attributes:
        nice: its nice value.
        cpus: the processors that it may run on.
        sigmask: the signals that are blocked in it.
    """

    nice: int
    cpus: frozenset[int]
    sigmask: frozenset[int]


def attributes() -> Attributes:
    """Those of this thread."""
    return Attributes(
        os.getpriority(os.PRIO_PROCESS, 0),
        frozenset(os.sched_getaffinity(0)),
        frozenset(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
    )


def with_attributes(request: SpawnRequest, wanted: Attributes) -> SpawnRequest:
    """A request as if it came from a thread with these.

    What is as in this thread is left out: a spawn without options is a quicker one.
    """
    own, options = attributes(), request.options or NOTHING
    changed: dict[str, Any] = {}
    given = options.given
    if wanted.nice != own.nice and not given & Given.NICE:
        given |= Given.NICE
        changed["nice"] = wanted.nice
    if wanted.sigmask != own.sigmask and not given & Given.SIGMASK:
        given |= Given.SIGMASK
        changed["sigmask"] = pack_signals(wanted.sigmask)
    if wanted.cpus != own.cpus and not options.cpus:
        changed["cpus"] = pack_cpus(wanted.cpus)
    if not changed:
        return request
    return dataclasses.replace(
        request, options=dataclasses.replace(options, given=given, **changed)
    )
