/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_exec.c: programs that cannot be tasks, executed in a process of their own.
 */
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tasks.h"

#define ROUNDS 100
#define NOBODY 65534

static struct spawned spawn_as(aiopip_client *client, struct aiopip_spawn_request request,
                               uint32_t flags)
{
    const char *const argv[] = {"argv0", NULL};
    struct spawned spawned;
    int result;

    request.flags = flags;
    while ((result = spawn_request(client, request, argv, NULL, &spawned)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return spawned;
}

static void check_failure(aiopip_client *client, struct aiopip_spawn_request request,
                          uint32_t flags, int failure, int error)
{
    struct spawned spawned = spawn_as(client, request, flags);
    struct aiopip_event event = await(client, spawned.generation, TASKS_THE_END);

    CHECK_EQUAL(event.kind, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(event.failure, failure);
    CHECK_EQUAL(event.error, error);
}

static void test_static_program_runs_when_asked_for(void)
{
    aiopip_client *client = open_client(4);
    struct aiopip_spawn_request request = plain_request(task_program("static"));

    for (int i = 0; i < ROUNDS; i++) {
        struct spawned spawned = spawn_as(client, request, AIOPIP_SPAWN_EXEC);
        struct aiopip_event started = await(client, spawned.generation, AIOPIP_EVENT_STARTED);
        CHECK(started.pid > 0);
        struct aiopip_event end = await(client, spawned.generation, TASKS_THE_END);
        CHECK_EQUAL(end.kind, AIOPIP_EVENT_EXITED);
        CHECK_EQUAL(end.wait_status, 7 << 8);
        CHECK_EQUAL(end.flags & (AIOPIP_EVENT_LOADED | AIOPIP_EVENT_LEFT), AIOPIP_EVENT_LEFT);
    }
    CHECK_EQUAL(statistics_of(client).unloaded, 0);
    check_clean(client);
    check_failure(client, request, 0, AIOPIP_FAILED_NOT_PIE, ENOEXEC);
    check_clean(client);
    close_client(client);
}

/* It would wait at its gate for the spawner, which waits for its execve. */
static void test_stopped_start_is_for_tasks(void)
{
    aiopip_client *client = open_client(4);

    check_failure(client, plain_request(task_program("static")),
                  AIOPIP_SPAWN_EXEC | AIOPIP_SPAWN_STOPPED, AIOPIP_FAILED_NOT_PIE, ENOEXEC);
    check_clean(client);
    close_client(client);
}

static void test_what_can_be_a_task_is_one(void)
{
    aiopip_client *client = open_client(4);
    struct spawned spawned =
        spawn_as(client, plain_request(task_program("actions")), AIOPIP_SPAWN_EXEC);
    struct aiopip_event end = await(client, spawned.generation, TASKS_THE_END);

    CHECK_EQUAL(end.kind, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(end.flags & (AIOPIP_EVENT_LOADED | AIOPIP_EVENT_LEFT), AIOPIP_EVENT_LOADED);
    check_clean(client);
    close_client(client);
}

static void test_name_is_searched_as_execvp_does(void)
{
    aiopip_client *client = open_client(4);
    struct aiopip_spawn_request request = plain_request("task_static");
    char path_list[2 * PATH_MAX];

    snprintf(path_list, sizeof path_list, "/nowhere::/bin:%s", getenv("AIOPIP_TASK_PROGRAMS"));
    request.path_list = path_list;
    CHECK_EQUAL(finish(client, spawn_as(client, request, AIOPIP_SPAWN_EXEC)), 7 << 8);
    request.cwd = getenv("AIOPIP_TASK_PROGRAMS"); /* where an empty element looks */
    request.path_list = ":/nowhere";
    CHECK_EQUAL(finish(client, spawn_as(client, request, AIOPIP_SPAWN_EXEC)), 7 << 8);
    check_clean(client);
    close_client(client);
}

static void test_execve_that_fails_fails_the_spawn(void)
{
    aiopip_client *client = open_client(4);
    char path[] = "/tmp/aiopip-exec-XXXXXX";
    int descriptor = mkstemp(path);

    CHECK(descriptor >= 0);
    CHECK_EQUAL(write(descriptor, "echo\n", 5), 5);
    CHECK_EQUAL(fchmod(descriptor, 0755), 0);
    close(descriptor); /* else ETXTBSY */
    check_failure(client, plain_request(path), AIOPIP_SPAWN_EXEC, AIOPIP_FAILED_PROGRAM, ENOEXEC);
    CHECK_EQUAL(chmod(path, 0644), 0);
    check_failure(client, plain_request(path), AIOPIP_SPAWN_EXEC, AIOPIP_FAILED_PROGRAM, EACCES);
    unlink(path);
    check_failure(client, plain_request(path), AIOPIP_SPAWN_EXEC, AIOPIP_FAILED_PROGRAM, ENOENT);
    check_clean(client);
    close_client(client);
}

static void test_option_that_fails_fails_the_spawn(void)
{
    aiopip_client *client = open_client(4);
    struct aiopip_spawn_request request = plain_request(task_program("static"));

    request.process_group = 1; /* of another session */
    check_failure(client, request, AIOPIP_SPAWN_EXEC | AIOPIP_SPAWN_PROCESS_GROUP,
                  AIOPIP_FAILED_OPTIONS, EPERM);
    request.stdio[0] = 4000;
    check_failure(client, request, AIOPIP_SPAWN_EXEC, AIOPIP_FAILED_STDIN, EBADF);
    check_clean(client);
    close_client(client);
}

/* A copy of the program that others may execute, and not read; in a file of its own. */
static void copy_unreadable(char path[])
{
    int from = open(task_program("static"), O_RDONLY | O_CLOEXEC), to = mkstemp(path);
    struct stat status;

    CHECK(from >= 0 && to >= 0);
    CHECK_EQUAL(fstat(from, &status), 0);
    CHECK_EQUAL(sendfile(to, from, NULL, (size_t)status.st_size), status.st_size);
    CHECK_EQUAL(fchmod(to, 0711), 0);
    close(from);
    close(to);
}

/* Its files and rights are the kernel's to judge: behind the change of user. */
static void test_program_of_another_user_is_executed(const char *path)
{
    aiopip_client *client = open_client(4);
    struct aiopip_spawn_request request = plain_request(path);
    struct aiopip_spawn_options options = {
        .given = AIOPIP_OPTION_USER | AIOPIP_OPTION_GROUP, .user = NOBODY, .group = NOBODY};

    request.options = &options;
    CHECK_EQUAL(finish(client, spawn_as(client, request, AIOPIP_SPAWN_EXEC)), 7 << 8);
    request.program = task_program("actions"); /* it could be a task, and is none */
    struct spawned spawned = spawn_as(client, request, AIOPIP_SPAWN_EXEC);
    struct aiopip_event end = await(client, spawned.generation, TASKS_THE_END);
    if (end.kind == AIOPIP_EVENT_EXITED)
        CHECK_EQUAL(end.flags & (AIOPIP_EVENT_LOADED | AIOPIP_EVENT_LEFT), AIOPIP_EVENT_LEFT);
    else
        CHECK_EQUAL(end.error, EACCES); /* it lies where nobody but root comes */
    check_clean(client);
    close_client(client);
}

/* As that user: what may be executed and not read is found, and is no task. */
static void test_unreadable_program_is_executed(const char *path)
{
    aiopip_client *client = open_client(4);

    check_failure(client, plain_request(path), 0, AIOPIP_FAILED_PERMISSION, EACCES);
    CHECK_EQUAL(finish(client, spawn_as(client, plain_request(path), AIOPIP_SPAWN_EXEC)), 7 << 8);
    struct aiopip_spawn_request request = plain_request(strrchr(path, '/') + 1);
    request.path_list = "/tmp:/bin";
    CHECK_EQUAL(finish(client, spawn_as(client, request, AIOPIP_SPAWN_EXEC)), 7 << 8);
    check_clean(client);
    close_client(client);
}

static void test_what_takes_two_users(void)
{
    char path[] = "/tmp/aiopip-exec-XXXXXX";

    if (geteuid() != 0)
        return; /* root alone can be another user */
    copy_unreadable(path);
    test_program_of_another_user_is_executed(path);
    /* This thread, and the core's, which are not there yet; for the whole process glibc would ask
     * each of its threads. */
    CHECK_EQUAL(syscall(SYS_setresuid, NOBODY, NOBODY, -1), 0);
    test_unreadable_program_is_executed(path);
    CHECK_EQUAL(syscall(SYS_setresuid, 0, 0, -1), 0);
    unlink(path);
}

int main(void)
{
    test_static_program_runs_when_asked_for();
    test_stopped_start_is_for_tasks();
    test_what_can_be_a_task_is_one();
    test_name_is_searched_as_execvp_does();
    test_execve_that_fails_fails_the_spawn();
    test_option_that_fails_fails_the_spawn();
    test_what_takes_two_users();
    return 0;
}
