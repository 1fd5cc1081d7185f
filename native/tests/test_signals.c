/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_signals.c: whom a signal reaches.
 */
#include <signal.h>

#include "../src/shared.h"
#include "kill_points.h"
#include "tasks.h"

static _Atomic uint32_t paused, resumed;

/* ---- Ended tasks ------------------------------------------------------------------------------ */

/* In the reaper, which reaps nobody until it may go on. */
static void pause_reaper(enum kill_point point)
{
    if (point != KILL_AT_RECLAIM_UNMAPPING)
        return;
    atomic_store(&paused, 1);
    while (!atomic_load(&resumed))
        shared_futex_wait(&resumed, 0, NULL);
}

static bool is_zombie(pid_t pid)
{
    siginfo_t end = {0};

    CHECK(waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0);
    return end.si_pid == pid;
}

static void test_zombie_takes_no_signal(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn(client, "pause", NULL);
    pid_t pid = await(client, task.generation, AIOPIP_EVENT_STARTED).pid;

    kill_point_hook = pause_reaper;
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    CHECK_SOON(atomic_load(&paused));
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, 0), 0);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_SOON(is_zombie(pid));
    CHECK_EQUAL(kill(pid, SIGTERM), 0);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGTERM), -ESRCH);
    CHECK_EQUAL(aiopip_cancel(client, task.pipid, task.generation), -ESRCH);
    kill_point_hook = NULL;
    atomic_store(&resumed, 1);
    shared_futex_wake(&resumed, 1);
    CHECK_EQUAL(finish(client, task), SIGKILL);
    close_client(client);
}

int main(void)
{
    RUN(test_zombie_takes_no_signal);
    return 0;
}
