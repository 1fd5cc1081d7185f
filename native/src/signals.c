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
