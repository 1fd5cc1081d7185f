/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_signals.c: whom a signal reaches.
 */
#include <signal.h>

#include "../src/shared.h"
#include "kill_points.h"
#include "tasks.h"

/* ---- Ended tasks ------------------------------------------------------------------------------ */

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

    /* In the reaper, which reaps nobody until it may go on. */
    kill_point_pause(KILL_AT_RECLAIM_UNMAPPING);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    CHECK_SOON(kill_point_is_paused());
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, 0), 0);
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK_SOON(is_zombie(pid));
    CHECK_EQUAL(kill(pid, SIGTERM), 0);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGTERM), -ESRCH);
    CHECK_EQUAL(aiopip_cancel(client, task.pipid, task.generation), -ESRCH);
    kill_point_resume();
    CHECK_EQUAL(finish(client, task), SIGKILL);
    close_client(client);
}

/* ---- Process groups --------------------------------------------------------------------------- */

static struct spawned spawn_into(aiopip_client *client, int32_t group)
{
    const char *const argv[] = {"actions", "pause", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;

    request.flags = AIOPIP_SPAWN_PROCESS_GROUP;
    request.process_group = group;
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    return task;
}

static void test_group_is_signalled_while_a_task_of_the_client_is_in_it(void)
{
    aiopip_client *client = open_client(4), *other = open_client(4);
    struct spawned leader = spawn_into(client, 0);
    pid_t group = await(client, leader.generation, AIOPIP_EVENT_STARTED).pid;
    struct spawned member = spawn_into(client, group);

    await(client, member.generation, AIOPIP_EVENT_STARTED);
    CHECK_EQUAL(aiopip_group(client, member.pipid, member.generation), group);
    CHECK_EQUAL(aiopip_group(client, member.pipid, member.generation + 1), -ESRCH);
    CHECK_EQUAL(aiopip_kill_group(other, group, SIGKILL), -ESRCH);
    CHECK_EQUAL(aiopip_kill_group(client, group, 1000), -EINVAL);
    CHECK_EQUAL(aiopip_kill_group(client, group, SIGTERM), 0);
    CHECK_EQUAL(finish(client, leader), SIGTERM);
    CHECK_EQUAL(finish(client, member), SIGTERM);
    CHECK_EQUAL(aiopip_kill_group(client, group, SIGKILL), -ESRCH);
    CHECK_EQUAL(aiopip_group(client, member.pipid, member.generation), -ESRCH);
    close_client(client);
    close_client(other);
}

static void test_what_is_nobody_s_group_is_refused(void)
{
    aiopip_client *client = open_client(1);

    for (int group = -1; group <= 1; group++)
        CHECK_EQUAL(aiopip_kill_group(client, group, 0), -EINVAL);
    CHECK_EQUAL(aiopip_kill_group(client, getpgrp(), 0), -EINVAL);
    CHECK_EQUAL(aiopip_kill_group(client, INT32_MAX, SIGKILL), -ESRCH);
    close_client(client);
}

int main(void)
{
    RUN(test_zombie_takes_no_signal);
    RUN(test_group_is_signalled_while_a_task_of_the_client_is_in_it);
    RUN(test_what_is_nobody_s_group_is_refused);
    return 0;
}
