/* SPDX-License-Identifier: BSD-2-Clause
 *
 * waiting.c: how a task has ended.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "reaper.h"

#define STOLEN_WAIT_NS 1000000000UL
#define STATUS_LOST 0xff00 /* exited with 255, as asyncio has it */

static int status_of(const siginfo_t *information)
{
    if (information->si_code == CLD_EXITED)
        return (information->si_status & 0xff) << 8;
    return (information->si_status & 0x7f) | (information->si_code == CLD_DUMPED ? 0x80 : 0);
}

/* Another waitid has taken the status: the kernel still tells it through the pidfd, since 6.15, as
 * soon as that call has done with the zombie; before, it is lost.  False: ask again. */
static bool ask_pidfd(struct core *core, int32_t pipid, int *status, bool *lost)
{
    struct kernel_pidfd_info info = {.mask = KERNEL_PIDFD_INFO_EXIT};
    struct task *task = &core->tasks[pipid];
    uint64_t now = core_now_ns();

    int result =
        core->pidfds[pipid] < 0 ? -EBADF : ioctl(core->pidfds[pipid], KERNEL_PIDFD_GET_INFO, &info);
    /* ESRCH: it looked for the status, then for the process, and that went in between. */
    bool asked = result == 0 || (result == -1 && errno == ESRCH);

    if (result == 0 && info.mask & KERNEL_PIDFD_INFO_EXIT) {
        *status = info.exit_code;
        return true;
    }
    task->stolen_ns = task->stolen_ns ? task->stolen_ns : now;
    if (asked && now - task->stolen_ns < STOLEN_WAIT_NS)
        return false;
    *status = STATUS_LOST;
    *lost = true;
    return true;
}

/* waitid of a task.  With KERNEL_WCLONE it knows children whose exit signal is not SIGCHLD, without
 * those of which it is: a task after an execve. */
static long wait_as(struct core *core, int32_t pipid, int pidfd, int kind, siginfo_t *information,
                    struct rusage *usage)
{
    long result;

    do
        result = sys5(SYS_waitid, pidfd >= 0 ? KERNEL_P_PIDFD : P_PID,
                      pidfd >= 0 ? pidfd : core->tasks[pipid].pid, (long)(uintptr_t)information,
                      WEXITED | WNOHANG | kind, (long)(uintptr_t)usage);
    while (result == -EINTR);
    return result;
}

/* By a pidfd of the caller's table, or by -1: until it is reaped, here or by somebody's wait for a child
 * that has exec'ed, the PID is its. */
static long wait_either(struct core *core, int32_t pipid, int pidfd)
{
    struct task *task = &core->tasks[pipid];
    siginfo_t information = {0};

    long result = wait_as(core, pipid, pidfd, (int)KERNEL_WCLONE, &information, &task->usage);
    task->left = result == -ECHILD;
    if (task->left)
        result = wait_as(core, pipid, pidfd, 0, &information, &task->usage);
    if (result == 0 && information.si_pid == 0)
        return -EAGAIN;
    if (result == 0)
        task->wait_status = status_of(&information);
    return result;
}

bool wait_for_plain(struct core *core, int32_t pipid)
{
    return wait_either(core, pipid, -1) == 0;
}

/* Of one that has exec'ed another waitpid(-1) may have taken the status. */
bool wait_for(struct core *core, int32_t pipid)
{
    struct task *task = &core->tasks[pipid];

    long result = wait_either(core, pipid, core->pidfds[pipid]);
    if (result != -ECHILD)
        return result == 0;
    task->left = true;
    return ask_pidfd(core, pipid, &task->wait_status, &task->status_lost);
}
