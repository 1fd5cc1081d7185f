/* SPDX-License-Identifier: BSD-2-Clause
 *
 * signals.c: signals to tasks, by a client.
 */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core.h"

/* Whether a task has not ended.  Under the lock the reaper cannot reap it, and until then its PID is
 * nobody else's; unless it has exec'ed, which made it a child as any other, and somebody's
 * waitpid(-1) took it: then it is no child of ours any more, and its PID may be anybody's. */
static bool is_alive(struct core *core, int32_t pipid)
{
    siginfo_t end = {0};

    return atomic_load(&core_slot(core, pipid)->state) == SLOT_RUNNING &&
           sys5(SYS_waitid, P_PID, core->tasks[pipid].pid, (long)(uintptr_t)&end,
                WEXITED | WNOHANG | WNOWAIT | KERNEL_WALL, 0) == 0 &&
           end.si_pid == 0;
}

int core_kill(struct core *core, int32_t pipid, int signal)
{
    if (!is_alive(core, pipid))
        return -ESRCH;
    return kill(core->tasks[pipid].pid, signal) < 0 ? -errno : 0;
}

int aiopip_kill(aiopip_client *client, int32_t pipid, uint64_t generation, int signal)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    core_lock(core);
    int result = core_task(core, pipid, generation) ? core_kill(core, pipid, signal) : -ESRCH;
    core_unlock(core, SIDE_PROCESS);
    return result;
}

/* ---- Process groups --------------------------------------------------------------------------- */

int aiopip_group(aiopip_client *client, int32_t pipid, uint64_t generation)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    core_lock(core);
    bool alive = core_task(core, pipid, generation) && is_alive(core, pipid);
    int group = alive ? getpgid(core->tasks[pipid].pid) : -1;
    core_unlock(core, SIDE_PROCESS);
    return group < 0 ? -ESRCH : group;
}

/* Whether a task of the client's that has not ended is in a group. */
static bool has_member(struct aiopip_client *client, pid_t group)
{
    struct core *core = client->core;

    for (int32_t i = 0; i < (int32_t)core->control->max_tasks; i++)
        if (core->tasks[i].client == client &&
            atomic_load(&core_slot(core, i)->state) == SLOT_RUNNING &&
            getpgid(core->tasks[i].pid) == group && is_alive(core, i))
            return true;
    return false;
}

/* A group's number is taken as long as any process is in it, a zombie too; then it is free, and some
 * process may come to have it for its PID, and lead a group of that number which is none of ours.  So
 * a task has to be in it, and the lock, under which nobody reaps that task, is held from the look to
 * the kill: whatever the task does, ending too, the number stays what it was.  Two ways around that
 * are left, and in both the kernel has to hand out all PIDs once in those microseconds: the task goes
 * to another group, as the last one of its own; or it has exec'ed, ends, and a waitpid(-1) of somebody
 * else in this process reaps it. */
int aiopip_kill_group(aiopip_client *client, int32_t group, int signal)
{
    struct core *core = client->core;

    if (core->pid != getpid())
        return -ESRCH;
    if (group <= 1 || group == getpgrp())
        return -EINVAL;
    core_lock(core);
    int result = -ESRCH;
    if (has_member(client, group))
        result = kill(-group, signal) < 0 ? -errno : 0;
    core_unlock(core, SIDE_PROCESS);
    return result;
}
