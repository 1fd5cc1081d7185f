"""What follows from the machine's limits: how many tasks there can be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopip._doctor.facts import Facts, Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USUAL_MAPPINGS = 65530
MAPPINGS_LEFT = 1000  # a spawn is refused that would leave fewer
MAPPINGS_A_C_TASK = 17
MAPPINGS_A_NUMPY_TASK = 300
MAX_TASKS = 4096
USUAL_TASKS = 1024  # of a Root
RESERVED_DESCRIPTORS = 64  # as CORE_FILE_RESERVE in native/src/core.h
LARGEST_STACK = 64 << 20  # as STACK_BYTES_MAX in native/src/start.c

LIMITED = Verdict.LIMITED


def rounded(count: int) -> int:
    """Rounded down to two digits."""
    unit = int("1" + "0" * (len(str(count)) - 2))
    return count // unit * unit


def check_mappings(facts: Facts) -> Finding | None:
    """vm.max_map_count, of which all tasks take their share."""
    limit = (facts.trial.statistics or {}).get("mappings_limit")
    limit = limit or facts.number("/proc/sys/vm/max_map_count")
    if limit is None:
        return None
    used = (facts.read("/proc/self/maps") or "").count("\n")
    room = max(limit - MAPPINGS_LEFT - used, 0)
    small, numpy = room // MAPPINGS_A_C_TASK, room // MAPPINGS_A_NUMPY_TASK
    found = (
        f"{limit:,}: about {rounded(min(small, MAX_TASKS)):,} small C tasks, or "
        f"{rounded(min(numpy, MAX_TASKS)):,} of Python with NumPy"
    )
    if limit >= USUAL_MAPPINGS:
        return Finding("vm.max_map_count", found)
    advice = (
        "A spawn beyond that raises OutOfMappingsError; raise it "
        f"(sysctl -w vm.max_map_count={USUAL_MAPPINGS} or more)."
    )
    return Finding("vm.max_map_count", found, LIMITED, advice)


def check_overcommit(facts: Facts) -> Finding | None:
    """vm.overcommit_memory: 2 counts all that could be written."""
    mode = facts.number("/proc/sys/vm/overcommit_memory")
    if mode is None:
        return None
    if mode != 2:
        return Finding("vm.overcommit_memory", str(mode))
    memory = dict(_memory(facts.read("/proc/meminfo") or ""))
    left = memory.get("CommitLimit", 0) - memory.get("Committed_AS", 0)
    found = f"2, which leaves {max(left, 0) >> 10:,} MiB"
    advice = (
        "Each task's stack and heap count whether they are used or not, and a spawn raises "
        "SpawnError (ENOMEM) at the end; use smaller stacks (ulimit -s), or "
        "sysctl -w vm.overcommit_memory=0."
    )
    return Finding("vm.overcommit_memory", found, LIMITED, advice)


def _memory(text: str) -> Iterator[tuple[str, int]]:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        kib = value.split()
        if kib and kib[0].isdigit():
            yield name, int(kib[0])


def check_files(facts: Facts) -> Finding | None:
    """RLIMIT_NOFILE: the reaper has a descriptor of each task."""
    if "RLIMIT_NOFILE" not in facts.limits:
        return None
    soft, hard = facts.limits["RLIMIT_NOFILE"]
    found = f"{_amount(soft)}, raised up to {_amount(hard)}"
    room = hard - RESERVED_DESCRIPTORS
    if hard < 0 or room >= USUAL_TASKS:
        return Finding("open files", found)
    advice = (
        f"A Root watches each task by a descriptor, so about {max(room, 0):,} can be alive; raise "
        "the hard limit (ulimit -Hn, systemd: LimitNOFILE=)."
    )
    return Finding("open files", found, LIMITED, advice)


def check_processes(facts: Facts) -> Finding | None:
    """RLIMIT_NPROC, which counts all processes and threads of the user."""
    if "RLIMIT_NPROC" not in facts.limits:
        return None
    soft, _ = facts.limits["RLIMIT_NPROC"]
    if soft < 0 or soft >= USUAL_TASKS:
        return Finding("processes", _amount(soft))
    advice = (
        "Each task is a process, and so are all others of this user; beyond that a spawn raises "
        "SpawnError (EAGAIN); raise it (ulimit -u)."
    )
    return Finding("processes", _amount(soft), LIMITED, advice)


def check_pids(facts: Facts) -> Finding | None:
    """pids.max of the cgroups that this process is in."""
    rooms = list(_pids(facts.read))
    if facts.system != "linux":
        return None
    if not rooms:
        return Finding("pids.max", "no limit")
    most, used = min(rooms, key=lambda room: room[0] - room[1])
    found = f"{most:,}, of which {used:,} are used"
    if most - used >= USUAL_TASKS:
        return Finding("pids.max", found)
    advice = (
        f"The cgroup has room for {max(most - used, 0):,} tasks or threads more, then a spawn "
        "raises SpawnError (EAGAIN); raise it (Docker: --pids-limit, systemd: TasksMax=)."
    )
    return Finding("pids.max", found, LIMITED, advice)


def _pids(read: Callable[[str], str | None]) -> Iterator[tuple[int, int]]:
    """Limit and use of each cgroup from this process's own up to the root that have a limit."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        elif "pids" in controllers.split(","):
            mounts = ["/sys/fs/cgroup/pids"]
        else:
            continue
        parts = path.strip("/").split("/") if path.strip("/") else []
        for mount in mounts:
            for depth in range(len(parts), -1, -1):
                folder = "/".join([mount, *parts[:depth]])
                most, used = read(f"{folder}/pids.max"), read(f"{folder}/pids.current")
                if most and used and most.strip().isdigit():
                    yield int(most), int(used)


def check_stack(facts: Facts) -> Finding | None:
    """RLIMIT_STACK, which is a task's stack within reason."""
    if "RLIMIT_STACK" not in facts.limits:
        return None
    soft, _ = facts.limits["RLIMIT_STACK"]
    if 0 <= soft <= LARGEST_STACK:
        return Finding("stack", f"{soft >> 10:,} KiB for each task")
    return Finding("stack", f"{_amount(soft)}: 8 MiB for each task")


def check_address_space(facts: Facts) -> Finding | None:
    """RLIMIT_AS, which bounds the sum of all tasks."""
    if "RLIMIT_AS" not in facts.limits:
        return None
    soft, _ = facts.limits["RLIMIT_AS"]
    if soft < 0:
        return Finding("address space", "no limit")
    advice = (
        "Root and tasks have it together, so that a few Python tasks may fill it, and then mmap "
        "fails in all of them; take the limit away (ulimit -v unlimited)."
    )
    return Finding("address space", f"{soft >> 20:,} MiB", LIMITED, advice)


def check_shm(facts: Facts) -> Finding | None:
    """/dev/shm, which people expect to matter."""
    found = "there" if facts.shm else "absent"
    return Finding("/dev/shm", f"{found}, and not needed") if facts.system == "linux" else None


def _amount(limit: int) -> str:
    return "no limit" if limit < 0 else f"{limit:,}"


CHECKS = (
    check_mappings,
    check_overcommit,
    check_files,
    check_processes,
    check_pids,
    check_stack,
    check_address_space,
    check_shm,
)
