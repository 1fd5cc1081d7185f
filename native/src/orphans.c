/* SPDX-License-Identifier: BSD-2-Clause
 *
 * orphans.c: who runs on our memory without being one of ours.
 *
 * posix_spawn and vfork make a child that runs on its parent's memory until it execs.  Is the parent
 * killed in between, the child goes on, writing to a stack that would by then be unmapped, or be
 * somebody else's.  It is found by asking of each process whether its memory is ours.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core.h"

#define STAT_BYTES 1024
#define ALIKE_TRIES 8

static ssize_t read_file(pid_t pid, const char *name, char *buffer, size_t bytes)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -errno;
    ssize_t got = read(descriptor, buffer, bytes - 1);
    close(descriptor);
    if (got >= 0)
        buffer[got] = 0;
    return got < 0 ? -errno : got;
}

/* The parent of a process; 0 when that is gone, -errno when it cannot be told. */
static pid_t parent_of(pid_t pid)
{
    char text[STAT_BYTES];
    int parent = 0;
    ssize_t bytes = read_file(pid, "stat", text, sizeof text);

    if (bytes == -ENOENT || bytes == -ESRCH)
        return 0;
    if (bytes < 0)
        return (pid_t)bytes;
    const char *behind_comm = strrchr(text, ')');
    return behind_comm && sscanf(behind_comm + 1, " %*c %d", &parent) == 1 ? parent : -EINVAL;
}

/* What /proc/PID/stat tells of a process's memory. */
struct memory {
    unsigned long bytes, start_code, end_code, start_stack;
};

static bool memory_of(pid_t pid, struct memory *memory)
{
    char text[STAT_BYTES];

    if (read_file(pid, "stat", text, sizeof text) <= 0)
        return false;
    const char *behind_comm = strrchr(text, ')');
    return behind_comm &&
           sscanf(behind_comm + 1,
                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d"
                  " %*u %lu %*d %*u %lu %lu %lu",
                  &memory->bytes, &memory->start_code, &memory->end_code,
                  &memory->start_stack) == 4;
}

/* Where kcmp is refused: a process on our memory has our program's addresses (as our children by
 * fork have too) and just our size, which may change while it is read.  One that only happens to be
 * alike makes us wait, which does no harm. */
static bool alike(const struct core *core, pid_t pid)
{
    struct memory before, theirs, after;

    for (int i = 0; i < ALIKE_TRIES; i++) {
        if (!memory_of(core->pid, &before))
            return true;
        if (!memory_of(pid, &theirs) || theirs.bytes == 0)
            return false;
        /* Whose memory we may not look into has no addresses here: then its size alone counts. */
        if (theirs.start_stack &&
            (theirs.start_code != before.start_code || theirs.end_code != before.end_code ||
             theirs.start_stack != before.start_stack))
            return false;
        if (memory_of(core->pid, &after) && before.bytes == after.bytes)
            return theirs.bytes == before.bytes;
    }
    return true;
}

bool on_our_memory(const struct core *core, pid_t pid)
{
    if (!core->has_kcmp)
        return alike(core, pid);
    long result = sys5(SYS_kcmp, core->pid, pid, KERNEL_KCMP_VM, 0, 0);
    return result == 0 || (result == -EPERM && alike(core, pid));
}

static int compare_pids(const void *a, const void *b)
{
    const pid_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* The processes that are allowed on our memory, sorted: the root and the tasks that live. */
static pid_t *members(struct core *core, size_t *count)
{
    pid_t *pids = malloc((core->control->max_tasks + 1) * sizeof *pids);

    if (!pids)
        return NULL;
    pids[0] = core->pid;
    *count = 1;
    core_lock(core);
    for (uint32_t i = 0; i < core->control->max_tasks; i++)
        if (atomic_load(&core->control->slots[i].state) == SLOT_RUNNING)
            pids[(*count)++] = core->tasks[i].pid;
    core_unlock(core, SIDE_REAPER);
    qsort(pids, *count, sizeof *pids, compare_pids);
    return pids;
}

static bool is_member(const pid_t *pids, size_t count, pid_t pid)
{
    return bsearch(&pid, pids, count, sizeof *pids, compare_pids) != NULL;
}

/* A child of one that lives has its parent's memory to run on.  The root's children are its own, and
 * the task that the spawner is just starting; where orphans come to the root they cannot be told
 * apart, and all are waited for: none takes long. */
static bool is_orphan(const struct core *core, const pid_t *pids, size_t count, pid_t parent,
                      bool adopts)
{
    if (parent == core->pid)
        return adopts;
    return parent != 0 && !is_member(pids, count, parent);
}

int orphans_find(struct core *core, pid_t *orphans, int most)
{
    size_t count = 0;
    int found = 0, adopts = 0;
    pid_t parent = 0;
    DIR *processes = opendir("/proc");

    prctl(PR_GET_CHILD_SUBREAPER, &adopts);
    adopts |= core->pid == 1;
    if (!processes)
        return -errno;
    pid_t *pids = members(core, &count);
    for (struct dirent *entry; pids && parent >= 0 && (entry = readdir(processes)) != NULL;) {
        pid_t pid = atoi(entry->d_name);
        if (pid <= 0 || is_member(pids, count, pid) || !on_our_memory(core, pid))
            continue;
        parent = parent_of(pid);
        if (!is_orphan(core, pids, count, parent, adopts))
            continue;
        if (found < most)
            orphans[found] = pid;
        found++;
    }
    closedir(processes);
    free(pids);
    return !pids ? -ENOMEM : parent < 0 ? parent : found;
}
