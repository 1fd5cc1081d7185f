"""What the `statistics()` of a Root and of a pool return."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class RootStatistics:
    """The state of the native core at one moment.

    Attributes:
        max_tasks: how many slots there are.
        queued: spawns that wait for their turn to load.
        loading: tasks that have been cloned and whose libraries are not loaded yet.
        alive: tasks that are not reaped yet, the loading ones too.
        reclaiming: ended tasks whose memory is still mapped, and which nobody imports; those of
            `warm`, too.
        held: ended tasks whose memory somebody imports.
        spawned: tasks started since the core was opened.
        ended: tasks that ended since then.
        failed: spawns that failed since then.
        unloaded: ended tasks into which the preloaded library was never loaded.
        orphan_waits: times that memory went back late, since a process still ran on it.
        untracked: mappings of ended tasks that no ledger held; their memory is lost.
        mappings: mappings of the address space, when they were counted last.
        mappings_limit: how many there may be (vm.max_map_count).
        window_bytes: the address space that is set aside for each task.
        private_descriptors: whether the spawner has a descriptor table of its own.
        has_clone3: whether clone3(2) may be used here.
        has_kcmp: whether kcmp(2) may be used here.
        loader_tracked: whether a task's ledger holds what ld.so maps from its first instruction.
        loader_seeded: whether ld.so finds in tasks what it would ask the processor for.
        resumes: whether a program that is started again begins where ld.so ended the last time.
        warm: ended tasks' windows that keep a program loaded for that.
        resumed: tasks that have begun so.
    """

    max_tasks: int
    queued: int
    loading: int
    alive: int
    reclaiming: int
    held: int
    spawned: int
    ended: int
    failed: int
    unloaded: int
    orphan_waits: int
    untracked: int
    mappings: int
    mappings_limit: int
    window_bytes: int
    private_descriptors: bool
    has_clone3: bool
    has_kcmp: bool
    loader_tracked: bool
    loader_seeded: bool
    resumes: bool
    warm: int
    resumed: int


@dataclasses.dataclass(frozen=True)
class WorkerStatistics:
    """One worker of a pool at one moment: of its place, for those that have sat there.

    Attributes:
        pid: the process ID, None while there is none.
        pipid: the PiP ID, likewise.
        ready: whether it has started, and serves calls.
        calls: calls that have ended there.
        busy_ns: how long they ran.
        ended: workers that have ended there: they died, or reached `max_calls_per_worker`.
    """

    pid: int | None
    pipid: int | None
    ready: bool
    calls: int
    busy_ns: int
    ended: int


@dataclasses.dataclass(frozen=True)
class PoolStatistics:
    """The state of a pool at one moment.

    Attributes:
        workers: of each worker.
        pending: calls that are under way, or wait.
        abandoned: those of them whose callers were cancelled, and which run all the same.
        done: calls that have returned.
        failed: calls that have raised, or lost their worker.
        cancelled: calls whose callers were cancelled.
    """

    workers: tuple[WorkerStatistics, ...]
    pending: int
    abandoned: int
    done: int
    failed: int
    cancelled: int
