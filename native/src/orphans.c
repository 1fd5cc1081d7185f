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

/* The parent of a process; 0 when it is gone. */
static pid_t parent_of(pid_t pid)
{
    char text[STAT_BYTES];
    int parent = 0;

    if (read_file(pid, "stat", text, sizeof text) <= 0)
        return 0;
    const char *behind_comm = strrchr(text, ')');
    if (behind_comm)
        sscanf(behind_comm + 1, " %*c %d", &parent);
    return parent;
}

/* Pages of address space, as anybody may read. */
static long size_of(pid_t pid)
{
    char text[STAT_BYTES];

    return read_file(pid, "statm", text, sizeof text) > 0 ? strtol(text, NULL, 10) : -1;
}

/* Where kcmp is refused: a process on our memory has just our size, and ours may change while it is
 * read.  One that only happens to be alike makes us wait, which does no harm. */
static bool alike(const struct core *core, pid_t pid)
{
    long before = size_of(core->pid), size = size_of(pid), after = size_of(core->pid);

    return size > 0 && (before != after || size == before);
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

int orphans_exist(struct core *core)
{
    size_t count = 0;
    DIR *processes = opendir("/proc");
    int found = 0, adopts = 0;

    prctl(PR_GET_CHILD_SUBREAPER, &adopts);
    adopts |= core->pid == 1;
    if (!processes)
        return -errno;
    pid_t *pids = members(core, &count);
    for (struct dirent *entry; pids && !found && (entry = readdir(processes)) != NULL;) {
        pid_t pid = atoi(entry->d_name);
        if (pid <= 0 || is_member(pids, count, pid) || !on_our_memory(core, pid))
            continue;
        /* A child of one that lives has its parent's memory to run on.  The root's children are its
         * own, and the task that the spawner is just starting; where orphans come to the root they
         * cannot be told apart, and all are waited for: none takes long. */
        pid_t parent = parent_of(pid);
        found = parent == core->pid ? adopts : parent != 0 && !is_member(pids, count, parent);
    }
    closedir(processes);
    free(pids);
    return pids ? found : -ENOMEM;
}
