/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_fallbacks.c: the core where system calls are refused, as in a container: one at a time, and
 * all together.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "deny.h"
#include "tasks.h"

/* What is refused, and what statistics shall then say. */
struct scenario {
    const char *name;
    struct denied denied[DENY_MAX];
    uint32_t private_descriptors, has_clone3, has_kcmp, loader_tracked;
    uint32_t resumes; /* 0: it cannot */
};

static const struct scenario scenarios[] = {
    {"nothing", {{0, 0}}, 1, 1, 1, 1, 1},
    {"clone3", {{SYS_clone3, ENOSYS}}, 1, 0, 1, 1, 1},
    {"pidfd_getfd", {{SYS_pidfd_getfd, EPERM}}, 0, 1, 1, 1, 1},
    {"close_range", {{SYS_close_range, ENOSYS}}, 0, 1, 1, 1, 1},
    {"kcmp", {{SYS_kcmp, EPERM}}, 1, 1, 0, 1, 1},
    {"memfd_create", {{SYS_memfd_create, EPERM}}, 1, 1, 1, 0, 0},
    {"getrandom", {{SYS_getrandom, ENOSYS}}, 1, 1, 1, 1, 1},
    {"PROCMAP_QUERY and PAGEMAP_SCAN", {{SYS_ioctl, ENOTTY}}, 1, 1, 1, 1, 0},
    {"Docker's old profile",
     {{SYS_clone3, ENOSYS}, {SYS_kcmp, EPERM}, {SYS_pidfd_getfd, EPERM}},
     0,
     0,
     0,
     1,
     1},
    {"all",
     {{SYS_clone3, ENOSYS},
      {SYS_kcmp, EPERM},
      {SYS_pidfd_getfd, EPERM},
      {SYS_close_range, ENOSYS},
      {SYS_memfd_create, EPERM},
      {SYS_getrandom, ENOSYS}},
     0,
     0,
     0,
     0,
     0},
};

static void ignore_signal(int signal)
{
    (void)signal;
}

static void check_statistics(aiopip_client *client, const struct scenario *scenario)
{
    struct aiopip_statistics statistics = statistics_of(client);

    CHECK_EQUAL(statistics.private_descriptors, scenario->private_descriptors);
    CHECK_EQUAL(statistics.has_clone3, scenario->has_clone3);
    CHECK_EQUAL(statistics.has_kcmp, scenario->has_kcmp);
    CHECK_EQUAL(statistics.loader_tracked, scenario->loader_tracked);
    CHECK(!statistics.resumes || scenario->resumes);
}

static void check_statuses(aiopip_client *client)
{
    CHECK_EQUAL(finish(client, spawn(client, "exit", "3")), 3 << 8);
    CHECK_EQUAL(finish(client, spawn(client, "fork", "4")), 4 << 8);
    CHECK_EQUAL(finish(client, spawn(client, "exec", "/bin/false")), 1 << 8);
    CHECK_EQUAL(finish(client, spawn(client, "malloc", "3")), 0);
}

/* The root's handlers are functions of the root: no task may run them. */
static void check_signals(aiopip_client *client)
{
    const int signals[] = {SIGUSR1, SIGTERM, SIGSEGV, SIGRTMAX};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        char text[8];
        CHECK(signal(signals[i], ignore_signal) != SIG_ERR);
        snprintf(text, sizeof text, "%d", signals[i]);
        CHECK_EQUAL(finish(client, spawn(client, "signal", text)), signals[i]);
    }
    /* What the root ignores stays ignored, as across execve; but for what Python ignores for itself. */
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK_EQUAL(finish(client, spawn(client, "signal", "1")), 100 << 8);
    CHECK_EQUAL(finish(client, spawn(client, "signal", "13")), SIGPIPE);
}

static void check_kill(aiopip_client *client)
{
    struct spawned tasks[8];

    for (int i = 0; i < 8; i++)
        tasks[i] = spawn(client, "pause", NULL);
    for (int i = 0; i < 8; i++)
        await(client, tasks[i].generation, AIOPIP_EVENT_STARTED);
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(aiopip_kill(client, tasks[i].pipid, tasks[i].generation, SIGKILL), 0);
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(finish(client, tasks[i]), SIGKILL);
}

/* From the first instruction on; the watcher has the process's table, whatever the others have. */
static void check_stops(aiopip_client *client)
{
    const char *const argv[] = {"actions", "pause", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;

    request.flags = AIOPIP_SPAWN_STOPPED | AIOPIP_SPAWN_NEW_SESSION;
    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    for (int i = 0; i < 8; i++) {
        await(client, task.generation, AIOPIP_EVENT_STOPPED);
        CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGCONT), 0);
        await(client, task.generation, AIOPIP_EVENT_CONTINUED);
        CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGSTOP), 0);
    }
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(client, task), SIGKILL);
}

static void read_all(int descriptor, const char *expected)
{
    char text[64] = "";
    size_t used = 0;
    ssize_t bytes;

    while ((bytes = read(descriptor, text + used, sizeof text - used - 1)) > 0)
        used += (size_t)bytes;
    close(descriptor);
    CHECK(strcmp(text, expected) == 0);
}

/* Through pipes, of which the root keeps other ends open that no task may have: or else one would
 * never see the end of its input. */
static void check_descriptors(aiopip_client *client)
{
    const char *const argv[] = {"actions", "echo", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned tasks[4];
    int in[4][2], out[4][2];

    for (int i = 0; i < 4; i++) {
        CHECK(pipe(in[i]) == 0 && pipe2(out[i], O_CLOEXEC) == 0);
        request.stdio[0] = in[i][0];
        request.stdio[1] = out[i][1];
        request.stdio[2] = i % 2 ? AIOPIP_STDIO_STDOUT : AIOPIP_STDIO_NULL;
        CHECK_EQUAL(spawn_request(client, request, argv, NULL, &tasks[i]), 0);
        await(client, tasks[i].generation, AIOPIP_EVENT_STARTED);
        close(in[i][0]);
        close(out[i][1]);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(write(in[i][1], "input", 5) == 5);
        close(in[i][1]);
        read_all(out[i][0], i % 2 ? "inputerror" : "input");
        CHECK_EQUAL(finish(client, tasks[i]), 0);
    }
}

/* The root's 0 to 2, as they are at the spawn. */
static void check_inherited(aiopip_client *client)
{
    const char *const argv[] = {"actions", "echo", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;
    int in[2], out[2], saved[3];

    CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    CHECK(write(in[1], "inherited", 9) == 9);
    close(in[1]);
    fflush(NULL);
    for (int i = 0; i < 3; i++)
        CHECK((saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 3)) >= 0);
    CHECK(dup2(out[1], 2) == 2 && dup2(out[1], 1) == 1 && dup2(in[0], 0) == 0);
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    int status = finish(client, task);
    for (int i = 0; i < 3; i++) {
        dup2(saved[i], i);
        close(saved[i]);
    }
    close(in[0]);
    close(out[1]);
    CHECK_EQUAL(status, 0);
    read_all(out[0], "inheritederror");
}

/* Two that change places, and 200. */
static void check_listed(aiopip_client *client)
{
    struct aiopip_descriptor list[3] = {{0, 0, 0}, {0, 0, 0}, {200, 0, 0}};
    const struct aiopip_spawn_options options = {.descriptors = list, .descriptor_count = 3};
    struct aiopip_spawn_request request = plain_request(task_program("options"));
    char words[3][32];
    const char *const argv[] = {"options", "descriptors", words[0], words[1], words[2], NULL};
    struct spawned task;
    struct stat status;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    for (int i = 0; i < 3; i++) {
        list[i].number = i < 2 ? ends[i] : 200;
        list[i].source = ends[i < 2 ? 1 - i : 0];
        CHECK(fstat(list[i].source, &status) == 0);
        snprintf(words[i], sizeof words[i], "%d=%lu", list[i].number, status.st_ino);
    }
    request.options = &options;
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    CHECK_EQUAL(finish(client, task), 0);
    close(ends[0]);
    close(ends[1]);
}

/* Whichever thread has the process's table. */
static void check_inherited_all(aiopip_client *client)
{
    const uint32_t given[] = {AIOPIP_OPTION_INHERIT, AIOPIP_OPTION_SHARE_FILES};
    int open = dup(0);
    char word[16];
    const char *const argv[] = {"options", "open", word, "1", NULL};

    CHECK(open >= 0);
    snprintf(word, sizeof word, "%d", open);
    for (int i = 0; i < 2; i++) {
        const struct aiopip_spawn_options options = {.given = given[i]};
        struct aiopip_spawn_request request = plain_request(task_program("options"));
        struct spawned task;
        request.options = &options;
        CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
        CHECK_EQUAL(finish(client, task), 0);
    }
    close(open);
}

static void play(const void *argument)
{
    const struct scenario *scenario = argument;

    deny(scenario->denied);
    for (int i = 0; i < 2; i++) {
        int next = dup(0);
        close(next);
        aiopip_client *client = open_client(32);
        check_statuses(client);
        check_statistics(client, scenario);
        check_signals(client);
        check_kill(client);
        check_stops(client);
        check_descriptors(client);
        check_inherited(client);
        check_listed(client);
        check_inherited_all(client);
        CHECK_SOON(is_at_rest(client));
        /* Where ld.so is not tracked, a task that is killed while it loads leaves something. */
        if (scenario->loader_tracked)
            CHECK_EQUAL(mappings_of_tasks(), 0);
        close_client(client);
        int after = dup(0);
        close(after);
        CHECK_EQUAL(after, next);
    }
}

int main(void)
{
    const struct rlimit no_core = {0, 0};

    CHECK(setrlimit(RLIMIT_CORE, &no_core) == 0);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        printf("without %s\n", scenarios[i].name);
        check_in_child(play, &scenarios[i]);
    }
    return 0;
}
