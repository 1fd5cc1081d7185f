/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_stopped.c: tasks that are stopped before the first instruction of their program.
 */
#include <signal.h>

#include "tasks.h"

#define ROUNDS 200

static struct spawned spawn_stopped(aiopip_client *client, const char *action)
{
    const char *const argv[] = {"actions", action, "3", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;
    int result;

    request.flags = AIOPIP_SPAWN_STOPPED;
    while ((result = spawn_request(client, request, argv, NULL, &task)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return task;
}

static int resume(aiopip_client *client, struct spawned task)
{
    return aiopip_kill(client, task.pipid, task.generation, SIGCONT);
}

/* A line of /proc/PID/NAME; static storage. */
static const char *line_of(pid_t pid, const char *name)
{
    static char line[1024];
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    CHECK(fgets(line, sizeof line, file) != NULL);
    fclose(file);
    return line;
}

static bool is_stopped(pid_t pid)
{
    return strrchr(line_of(pid, "stat"), ')')[2] == 'T';
}

/* Where a stopped process would go on: behind "-1" or the system call's number and its arguments come
 * the stack pointer and this. */
static uintptr_t instruction_of(pid_t pid)
{
    return strtoul(strrchr(line_of(pid, "syscall"), ' '), NULL, 16);
}

static void test_task_stops_before_its_program(void)
{
    aiopip_client *client = open_client(4);

    for (int i = 0; i < ROUNDS; i++) {
        struct spawned task = spawn_stopped(client, "exit");
        pid_t pid = await(client, task.generation, AIOPIP_EVENT_STARTED).pid;
        CHECK_SOON(is_stopped(pid));
        /* ld.so lies in the window. */
        uintptr_t at = instruction_of(pid);
        CHECK(at && (at < ARCH_AREA_START || at >= ARCH_AREA_END));
        CHECK_EQUAL(resume(client, task), 0);
        CHECK_EQUAL(finish(client, task), 3 << 8);
    }
    check_clean(client);
    close_client(client);
}

static void test_no_resume_is_lost(void)
{
    aiopip_client *client = open_client(4);

    for (int i = 0; i < 5 * ROUNDS; i++) {
        struct spawned task = spawn_stopped(client, "exit");
        await(client, task.generation, AIOPIP_EVENT_STARTED);
        CHECK_EQUAL(resume(client, task), 0);
        CHECK_EQUAL(finish(client, task), 3 << 8);
    }
    check_clean(client);
    close_client(client);
}

static void test_stopped_tasks_hold_nobody_up(void)
{
    aiopip_client *client = open_client(80);
    struct spawned tasks[70]; /* more than may be loading at once */

    for (int i = 0; i < 70; i++) {
        tasks[i] = spawn_stopped(client, "exit");
        await(client, tasks[i].generation, AIOPIP_EVENT_STARTED);
    }
    CHECK_EQUAL(statistics_of(client).loading, 0);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    for (int i = 0; i < 70; i++)
        CHECK_EQUAL(resume(client, tasks[i]), 0);
    for (int i = 0; i < 70; i++)
        CHECK_EQUAL(finish(client, tasks[i]), 3 << 8);
    check_clean(client);
    close_client(client);
}

static void test_stopped_task_can_be_killed(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn_stopped(client, "exit");
    struct aiopip_event event = await(client, task.generation, AIOPIP_EVENT_STARTED);

    CHECK_SOON(is_stopped(event.pid));
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGKILL), 0);
    event = await(client, task.generation, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(event.wait_status, SIGKILL);
    CHECK_EQUAL(event.flags, 0); /* the preload has not come to load */
    task = spawn_stopped(client, "exit");
    await(client, task.generation, AIOPIP_EVENT_STARTED);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGTERM), 0);
    CHECK_EQUAL(resume(client, task), 0);
    CHECK_EQUAL(finish(client, task), SIGTERM);
    spawn_stopped(client, "exit");
    CHECK_EQUAL(aiopip_abort(client, 10000), 0);
    check_clean(client);
    close_client(client);
}

/* Before the clone, on the way to the gate, at the gate, stopped. */
static void test_cancelled_at_any_moment(void)
{
    aiopip_client *client = open_client(4);
    uint64_t random = 7;

    for (int i = 0; i < 2 * ROUNDS; i++) {
        struct spawned task = spawn_stopped(client, "exit");
        usleep((useconds_t)(check_random(&random) % 400));
        CHECK_EQUAL(aiopip_cancel(client, task.pipid, task.generation), 0);
        struct aiopip_event event = await(client, task.generation, TASKS_THE_END);
        CHECK(event.kind == AIOPIP_EVENT_FAILED || event.wait_status == SIGKILL);
    }
    check_clean(client);
    close_client(client);
}

int main(void)
{
    RUN(test_task_stops_before_its_program);
    RUN(test_no_resume_is_lost);
    RUN(test_stopped_tasks_hold_nobody_up);
    RUN(test_stopped_task_can_be_killed);
    RUN(test_cancelled_at_any_moment);
    return 0;
}
