/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_core.c: the whole core through aiopip.h: tasks start, end, are killed at any moment, and
 * nothing of them is left.
 */
#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "tasks.h"

#define KILLS 500
#define REOPENINGS 50

/* ---- Ends ------------------------------------------------------------------------------------- */

static void test_exit_statuses_arrive(void)
{
    aiopip_client *client = open_client(16);
    struct spawned tasks[256];
    char text[8];

    for (int status = 0; status < 256 + 16; status++) {
        if (status >= 16)
            CHECK_EQUAL(finish(client, tasks[status - 16]), (status - 16) << 8);
        if (status >= 256)
            continue;
        snprintf(text, sizeof text, "%d", status);
        tasks[status] = spawn(client, status % 2 ? "exit" : "_exit", text);
    }
    check_clean(client);
    close_client(client);
}

static void test_signals_arrive(void)
{
    const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,   SIGABRT, SIGBUS,  SIGFPE,
                           SIGKILL, SIGUSR1, SIGSEGV, SIGUSR2,  SIGPIPE, SIGALRM, SIGTERM,
                           SIGXCPU, SIGXFSZ, SIGSYS,  SIGRTMIN, SIGRTMAX};
    aiopip_client *client = open_client(2);
    char text[8];

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        snprintf(text, sizeof text, "%d", signals[i]);
        CHECK_EQUAL(finish(client, spawn(client, "signal", text)), signals[i]);
    }
    check_clean(client);
    close_client(client);
}

static void test_end_is_told_once_with_what_is_known_of_it(void)
{
    aiopip_client *client = open_client(2);
    struct spawned task = spawn(client, "exit", "3");

    struct aiopip_event started = await(client, task.generation, AIOPIP_EVENT_STARTED);
    struct aiopip_event ended = await(client, task.generation, AIOPIP_EVENT_EXITED);
    CHECK(started.pid > 0 && started.pid != getpid() && started.pid == ended.pid);
    CHECK_EQUAL(ended.flags, AIOPIP_EVENT_LOADED);
    CHECK(ended.started_ns > 0 && ended.started_ns <= ended.ended_ns);
    check_clean(client);
    CHECK_EQUAL(tasks_backlog()->count, 0);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGTERM), -ESRCH);
    CHECK_EQUAL(aiopip_cancel(client, task.pipid, task.generation), -ESRCH);
    close_client(client);
}

static void test_other_waits_do_not_see_tasks(void)
{
    aiopip_client *client = open_client(2);
    struct spawned task = spawn(client, "pause", NULL);

    await(client, task.generation, AIOPIP_EVENT_STARTED);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, 0), 0);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, 1000), -EINVAL);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation + 1, SIGKILL), -ESRCH);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGTERM), 0);
    CHECK_EQUAL(finish(client, task), SIGTERM);
    close_client(client);
}

static void test_task_that_execs_delivers_its_status(void)
{
    aiopip_client *client = open_client(2);

    CHECK_EQUAL(finish(client, spawn(client, "exec", "/bin/true")), 0);
    CHECK_EQUAL(finish(client, spawn(client, "exec", "/bin/false")), 1 << 8);
    check_clean(client);
    close_client(client);
}

static void test_child_of_a_task_does_not_end_it(void)
{
    aiopip_client *client = open_client(2);

    CHECK_EQUAL(finish(client, spawn(client, "fork", "5")), 5 << 8);
    check_clean(client);
    close_client(client);
}

static void test_failure_is_told(void)
{
    aiopip_client *client = open_client(2);
    const char *const argv[] = {"x", NULL};
    struct spawned task;

    CHECK_EQUAL(spawn_request(client, plain_request("/missing/program"), argv, NULL, &task), 0);
    struct aiopip_event event = await(client, task.generation, TASKS_THE_END);
    CHECK_EQUAL(event.kind, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(event.failure, AIOPIP_FAILED_PROGRAM);
    CHECK_EQUAL(event.error, ENOENT);
    CHECK(strcmp(event.detail, "/missing/program") == 0);
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    request.cwd = "/missing/folder";
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    event = await(client, task.generation, TASKS_THE_END);
    CHECK_EQUAL(event.failure, AIOPIP_FAILED_CWD);
    CHECK_EQUAL(event.error, ENOENT);
    check_clean(client);
    close_client(client);
}

/* A Python at a fixed address, with a library beside it: all but the launcher. */
static const char *make_python(const char *folder)
{
    static char path[PATH_MAX];
    static uint8_t bytes[1 << 20];
    FILE *file = fopen(getenv("AIOPIP_PROBE"), "re");

    CHECK(file != NULL);
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ((Elf64_Ehdr *)bytes)->e_type = ET_EXEC;
    snprintf(path, sizeof path, "%s/lib", folder);
    CHECK(mkdir(path, 0755) == 0);
    snprintf(path, sizeof path, "%s/lib/libpython3.11.so.1.0", folder);
    CHECK(symlink(getenv("AIOPIP_PROBE"), path) == 0);
    snprintf(path, sizeof path, "%s/bin", folder);
    CHECK(mkdir(path, 0755) == 0);
    snprintf(path, sizeof path, "%s/bin/python3.11", folder);
    file = fopen(path, "we");
    CHECK(file != NULL && fwrite(bytes, 1, count, file) == count && fclose(file) == 0);
    CHECK(chmod(path, 0755) == 0);
    return path;
}

static void test_python_at_a_fixed_address_needs_a_launcher(void)
{
    aiopip_client *client = open_client(2);
    const char *const argv[] = {"python3", NULL}, *folder = check_folder();
    struct spawned task;

    CHECK_EQUAL(spawn_request(client, plain_request(make_python(folder)), argv, NULL, &task), 0);
    struct aiopip_event event = await(client, task.generation, TASKS_THE_END);
    CHECK_EQUAL(event.failure, AIOPIP_FAILED_NOT_PIE);
    CHECK(strstr(event.detail, "/bin/python3.11") != NULL);
    check_clean(client);
    close_client(client);
    check_remove(folder);
}

/* ---- Slots ------------------------------------------------------------------------------------ */

static int spawn_at(aiopip_client *client, int32_t pipid, struct spawned *task)
{
    const char *const argv[] = {"actions", "pause", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));

    request.pipid = pipid;
    return spawn_request(client, request, argv, NULL, task);
}

static void end(aiopip_client *client, struct spawned task)
{
    await(client, task.generation, AIOPIP_EVENT_STARTED);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(client, task), SIGKILL);
}

static void test_lowest_free_slot_is_taken(void)
{
    aiopip_client *client = open_client(4);
    struct spawned tasks[4], other;

    for (int32_t i = 0; i < 4; i++) {
        CHECK_EQUAL(spawn_at(client, AIOPIP_PIPID_ANY, &tasks[i]), 0);
        CHECK_EQUAL(tasks[i].pipid, i);
    }
    CHECK_EQUAL(spawn_at(client, AIOPIP_PIPID_ANY, &other), -EBUSY);
    end(client, tasks[2]);
    end(client, tasks[1]);
    CHECK_SOON(statistics_of(client).reclaiming == 0);
    for (int32_t i = 1; i < 3; i++) {
        CHECK_EQUAL(spawn_at(client, AIOPIP_PIPID_ANY, &other), 0);
        CHECK_EQUAL(other.pipid, i);
        CHECK(other.generation > tasks[3].generation);
    }
    CHECK_EQUAL(aiopip_abort(client, 10000), 0);
    close_client(client);
}

static void test_slot_may_be_asked_for(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task, other = {-5, 5};

    CHECK_EQUAL(spawn_at(client, 3, &task), 0);
    CHECK_EQUAL(task.pipid, 3);
    CHECK_EQUAL(spawn_at(client, 3, &other), -EBUSY);
    CHECK_EQUAL(spawn_at(client, 4, &other), -EINVAL);
    CHECK_EQUAL(spawn_at(client, -2, &other), -EINVAL);
    CHECK(other.pipid == -5 && other.generation == 5);
    end(client, task);
    close_client(client);
}

static void test_slot_that_is_being_reclaimed_is_announced(void)
{
    aiopip_client *client = open_client(1);
    struct spawned task = spawn(client, "exit", "0"), other;

    CHECK_SOON(statistics_of(client).alive == 0 && statistics_of(client).ended == 1);
    /* The slot is free when its end was drained, too. */
    CHECK_EQUAL(try_spawn(client, "exit", "0", &other), -EAGAIN);
    CHECK_EQUAL(finish(client, task), 0);
    await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "1")), 1 << 8);
    close_client(client);
}

/* ---- Giving up -------------------------------------------------------------------------------- */

static void test_cancelled_spawn_fails_or_is_killed(void)
{
    aiopip_client *client = open_client(64);
    struct spawned tasks[64];
    int failed = 0;

    for (int i = 0; i < 64; i++)
        tasks[i] = spawn(client, "pause", NULL);
    for (int i = 63; i >= 0; i--)
        CHECK_EQUAL(aiopip_cancel(client, tasks[i].pipid, tasks[i].generation), 0);
    for (int i = 0; i < 64; i++) {
        struct aiopip_event event = await(client, tasks[i].generation, TASKS_THE_END);
        if (event.kind == AIOPIP_EVENT_FAILED) {
            CHECK_EQUAL(event.failure, AIOPIP_FAILED_CANCELLED);
            CHECK_EQUAL(event.error, ECANCELED);
            failed++;
        } else {
            CHECK_EQUAL(event.wait_status, SIGKILL);
            await(client, tasks[i].generation, AIOPIP_EVENT_STARTED);
        }
    }
    CHECK(failed > 0);
    CHECK_EQUAL(statistics_of(client).failed, failed);
    check_clean(client);
    close_client(client);
}

static void test_abort_ends_what_runs_and_what_waits(void)
{
    aiopip_client *client = open_client(64);

    for (int i = 0; i < 64; i++)
        spawn(client, "pause", NULL);
    CHECK_EQUAL(aiopip_close(client), -EBUSY);
    CHECK_EQUAL(aiopip_abort(client, 10000), 0);
    CHECK_EQUAL(aiopip_abort(client, 0), 0);
    check_clean(client);
    close_client(client);
}

/* Whether the signal was the end of it: it may have failed, or ended, before. */
static bool was_killed(const struct aiopip_event *event)
{
    if (event->kind == AIOPIP_EVENT_FAILED)
        CHECK_EQUAL(event->error, ECANCELED);
    else
        CHECK(event->wait_status == 0 || event->wait_status == SIGKILL);
    return event->wait_status == SIGKILL;
}

static void test_kill_at_any_moment_leaves_nothing(void)
{
    aiopip_client *client = open_client(8);
    struct spawned tasks[8] = {0};
    uint64_t state = 4711;
    int killed = 0;

    for (int i = 0; i < KILLS + 8; i++) {
        struct spawned *task = &tasks[i % 8];
        if (task->generation) {
            struct aiopip_event event = await(client, task->generation, TASKS_THE_END);
            killed += was_killed(&event);
        }
        if (i >= KILLS)
            continue;
        /* The moments lie all over a short life, and over the beginning of a long one. */
        *task = i % 2 ? spawn(client, "malloc", "1") : spawn(client, "pause", NULL);
        usleep((unsigned)(check_random(&state) % 400));
        int result = aiopip_cancel(client, task->pipid, task->generation);
        CHECK(result == 0 || result == -ESRCH);
    }
    CHECK(killed > KILLS / 8);
    check_clean(client);
    close_client(client);
}

/* ---- Standard descriptors --------------------------------------------------------------------- */

static void check_content(int descriptor, const char *expected)
{
    char text[256] = "";

    CHECK(pread(descriptor, text, sizeof text - 1, 0) >= 0);
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "got %s\n", text);
    CHECK(strcmp(text, expected) == 0);
}

static int file_with(const char *text)
{
    FILE *file = tmpfile();

    CHECK(file != NULL);
    int descriptor = fcntl(fileno(file), F_DUPFD_CLOEXEC, 3);
    fclose(file);
    CHECK(descriptor >= 0 && pwrite(descriptor, text, strlen(text), 0) == (ssize_t)strlen(text));
    return descriptor;
}

static struct aiopip_event echo(aiopip_client *client, int in, int out, int error)
{
    const char *const argv[] = {"actions", "echo", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;

    request.stdio[0] = in;
    request.stdio[1] = out;
    request.stdio[2] = error;
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    return await(client, task.generation, TASKS_THE_END);
}

static void test_standard_descriptors_go_where_they_are_sent(void)
{
    aiopip_client *client = open_client(8);
    int in = file_with("input"), out = file_with(""), error = file_with("");

    CHECK_EQUAL(echo(client, in, out, error).wait_status, 0);
    check_content(out, "input");
    check_content(error, "error");
    CHECK(lseek(in, 0, SEEK_SET) == 0);
    CHECK_EQUAL(echo(client, in, error, AIOPIP_STDIO_STDOUT).wait_status, 0);
    check_content(error, "errorinputerror");
    CHECK_EQUAL(echo(client, AIOPIP_STDIO_NULL, AIOPIP_STDIO_NULL, AIOPIP_STDIO_NULL).wait_status,
                0);
    struct aiopip_event event = echo(client, AIOPIP_STDIO_NULL, 1000, AIOPIP_STDIO_NULL);
    CHECK_EQUAL(event.kind, AIOPIP_EVENT_FAILED);
    CHECK_EQUAL(event.failure, AIOPIP_FAILED_STDOUT);
    CHECK_EQUAL(event.error, EBADF);
    close(in);
    close(out);
    close(error);
    close_client(client);
}

static void test_redirected_and_closed_descriptors_are_inherited_so(void)
{
    aiopip_client *client = open_client(4);
    int in = file_with("redirected"), out = file_with(""), saved[2] = {dup(0), dup(1)};

    fflush(stdout);
    CHECK(dup2(in, 0) == 0 && dup2(out, 1) == 1);
    struct aiopip_event event =
        echo(client, AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_NULL);
    close(0);
    struct aiopip_event without =
        echo(client, AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_NULL);
    CHECK(dup2(saved[0], 0) == 0 && dup2(saved[1], 1) == 1);
    CHECK_EQUAL(event.wait_status, 0);
    check_content(out, "redirected");
    CHECK_EQUAL(without.wait_status, 1 << 8); /* it could not read */
    close(saved[0]);
    close(saved[1]);
    close(in);
    close(out);
    close_client(client);
}

/* ---- Clients ---------------------------------------------------------------------------------- */

static int entries_in(const char *path)
{
    DIR *folder = opendir(path);
    int count = 0;

    CHECK(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void test_reopening_leaves_no_descriptor_thread_or_mapping(void)
{
    int descriptors = entries_in("/proc/self/fd"), mappings = 0;

    for (int i = 0; i < REOPENINGS; i++) {
        aiopip_client *client = open_client(8);
        CHECK_EQUAL(finish(client, spawn(client, "exit", "4")), 4 << 8);
        close_client(client);
        CHECK_EQUAL(entries_in("/proc/self/fd"), descriptors);
        CHECK_SOON(entries_in("/proc/self/task") == 3); /* ".", "..", and this one */
        CHECK_EQUAL(mappings_of_tasks(), 0);
        if (i == 9) /* by now the allocator has what it needs */
            mappings = check_mappings_in(0, UINTPTR_MAX);
    }
    CHECK(check_mappings_in(0, UINTPTR_MAX) <= mappings + 4);
}

#define KEPT 40 /* more than there is address space for */

/* A peer is kept until nobody waits for a lock, which garbage collection may be late to say. */
static void test_reopening_does_not_wait_for_peers_that_are_kept(void)
{
    aiopip_peer *kept[KEPT];

    for (int i = 0; i < KEPT; i++) {
        aiopip_client *client = open_client(4);
        kept[i] = aiopip_peer_of_client(client);
        aiopip_peer_keep(kept[i]);
        CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
        close_client(client);
    }
    for (int i = 0; i < KEPT; i++)
        aiopip_peer_release(kept[i]);
}

static void test_bad_options_are_refused(void)
{
    const struct aiopip_options bad[] = {{.preload = "/x"},
                                         {.max_tasks = AIOPIP_MAX_TASKS + 1, .preload = "/x"},
                                         {.max_tasks = 1, .preload = "relative"},
                                         {.max_tasks = 1, .preload = "/x", .launcher = "x"}};
    aiopip_client *client = NULL;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQUAL(aiopip_open(&bad[i], &client), -EINVAL);
    CHECK(client == NULL);
}

static void test_clients_share_slots_and_not_events(void)
{
    aiopip_client *first = open_client(4), *second = open_client(100);
    struct aiopip_event event;

    CHECK_EQUAL(statistics_of(second).max_tasks, 4);
    CHECK(aiopip_fd(first) != aiopip_fd(second));
    struct spawned one = spawn(first, "pause", NULL), two = spawn(second, "exit", "2");
    CHECK_EQUAL(two.pipid, 1);
    await(second, two.generation, AIOPIP_EVENT_STARTED);
    CHECK_EQUAL(finish(second, two), 2 << 8);
    drain(first);
    CHECK(!take_event(two.generation, AIOPIP_EVENT_STARTED, &event));
    CHECK(!take_event(two.generation, TASKS_THE_END, &event));
    CHECK_EQUAL(aiopip_drain(second, &event, 1), 0);
    CHECK_EQUAL(aiopip_close(second), 0);
    CHECK_EQUAL(statistics_of(first).alive, 1);
    CHECK_EQUAL(aiopip_kill(first, one.pipid, one.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(first, one), SIGKILL);
    close_client(first);
}

static void test_statistics_count(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn(client, "pause", NULL);

    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    CHECK_SOON(statistics_of(client).loading == 0 && statistics_of(client).reclaiming == 0);
    struct aiopip_statistics statistics = statistics_of(client);
    CHECK_EQUAL(statistics.max_tasks, 4);
    CHECK_EQUAL(statistics.queued, 0);
    CHECK_EQUAL(statistics.alive, 1);
    CHECK_EQUAL(statistics.held, 0);
    CHECK_EQUAL(statistics.spawned, 2);
    CHECK_EQUAL(statistics.ended, 1);
    CHECK_EQUAL(statistics.failed, 0);
    CHECK_EQUAL(statistics.unloaded, 0);
    CHECK_EQUAL(statistics.loader_tracked, 1);
    CHECK(statistics.mappings > 0 && statistics.mappings < statistics.mappings_limit);
    CHECK(statistics.window_bytes >= 1UL << 30);
    end(client, task);
    close_client(client);
}

/* ---- Holds ------------------------------------------------------------------------------------ */

/* Start the exporter; its end of the pipe is *control. */
static struct spawned spawn_exporter(aiopip_client *client, int *control)
{
    const char *const argv[] = {"exporter", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("exporter"));
    struct spawned task;
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    request.stdio[0] = ends[0];
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    await(client, task.generation, AIOPIP_EVENT_STARTED);
    close(ends[0]);
    *control = ends[1];
    return task;
}

static void *address_of(const aiopip_hold *hold)
{
    struct aiopip_array array;

    aiopip_hold_array(hold, &array);
    return (void *)array.address;
}

static aiopip_hold *import_page(aiopip_client *client, struct spawned task, int control)
{
    aiopip_hold *hold = NULL;

    CHECK_EQUAL(aiopip_named_import(client, task.pipid, task.generation, "page", 4, &hold),
                -EAGAIN);
    CHECK(write(control, "x", 1) == 1);
    await(client, task.generation, AIOPIP_EVENT_EXPORTED);
    CHECK_EQUAL(aiopip_named_import(client, task.pipid, task.generation, "page", 4, &hold), 0);
    CHECK(strcmp(address_of(hold), "of the exporter") == 0);
    return hold;
}

/* Whether the page may be read, is told with where it ends. */
static void check_hold(const aiopip_hold *hold)
{
    uintptr_t at = (uintptr_t)address_of(hold);
    int local;

    CHECK(strcmp((char *)at, "of the exporter") == 0);
    CHECK_EQUAL(aiopip_hold_check(hold, at, 4096), 1);
    CHECK_EQUAL(aiopip_hold_check(hold, at, 1UL << 32), -EFAULT);
    CHECK_EQUAL(aiopip_hold_check(hold, at, SIZE_MAX), -EFAULT);
    CHECK_EQUAL(aiopip_hold_check(hold, (uintptr_t)&local, sizeof local), -EFAULT);
    CHECK_EQUAL(aiopip_hold_check(hold, 0, 1), -EFAULT);
}

static void test_hold_keeps_memory_beyond_the_end_and_the_close(void)
{
    aiopip_client *client = open_client(4);
    int control;
    struct spawned task = spawn_exporter(client, &control);
    aiopip_hold *hold = import_page(client, task, control), *second = NULL;

    CHECK_EQUAL(aiopip_named_import(client, task.pipid, task.generation, "page", 4, &second), 0);
    close(control);
    struct aiopip_event event = await(client, task.generation, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(event.wait_status, 7 << 8);
    CHECK(event.flags & AIOPIP_EVENT_ACKNOWLEDGE);
    CHECK_EQUAL(aiopip_acknowledge(client, task.pipid, task.generation), 0);
    CHECK_SOON(statistics_of(client).held == 1);
    check_hold(hold);
    aiopip_hold_release(second);
    close_client(client);
    check_hold(hold);
    /* Another core meanwhile. */
    client = open_client(4);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    check_hold(hold);
    aiopip_hold_release(hold);
    close_client(client);
    CHECK_EQUAL(mappings_of_tasks(), 0);
}

static void test_released_hold_lets_memory_go(void)
{
    aiopip_client *client = open_client(1);
    int control;
    struct spawned task = spawn_exporter(client, &control), other;
    aiopip_hold *hold = import_page(client, task, control);

    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, SIGKILL), 0);
    CHECK_EQUAL(finish(client, task), SIGKILL);
    CHECK_EQUAL(aiopip_acknowledge(client, task.pipid, task.generation), 0);
    CHECK_SOON(statistics_of(client).held == 1);
    CHECK_EQUAL(try_spawn(client, "exit", "0", &other), -EBUSY);
    aiopip_hold_release(hold);
    check_clean(client);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    close(control);
    close_client(client);
}

static void test_import_of_what_never_comes_is_cancelled(void)
{
    aiopip_client *client = open_client(2);
    aiopip_hold *hold = NULL;
    struct spawned task = spawn(client, "exit", "0");

    CHECK_EQUAL(finish(client, task), 0);
    CHECK_EQUAL(aiopip_named_import(client, task.pipid, task.generation, "page", 4, &hold),
                -ECANCELED);
    CHECK_EQUAL(aiopip_named_import(client, 77, 1, "page", 4, &hold), -ECANCELED);
    CHECK_EQUAL(aiopip_named_import(client, 0, 1, "page", 256, &hold), -EINVAL);
    CHECK(hold == NULL);
    close_client(client);
}

/* ---- fork ------------------------------------------------------------------------------------- */

struct forked {
    aiopip_client *client;
    struct spawned task;
    aiopip_hold *hold;
};

static void use_after_fork(const void *argument)
{
    const struct forked *forked = argument;
    int32_t pipid = forked->task.pipid;
    uint64_t generation = forked->task.generation;
    struct aiopip_event event;
    struct spawned task;
    aiopip_hold *hold;

    CHECK_EQUAL(try_spawn(forked->client, "exit", "0", &task), -ESRCH);
    CHECK_EQUAL(aiopip_kill(forked->client, pipid, generation, SIGKILL), -ESRCH);
    CHECK_EQUAL(aiopip_cancel(forked->client, pipid, generation), -ESRCH);
    CHECK_EQUAL(aiopip_acknowledge(forked->client, pipid, generation), -ESRCH);
    CHECK_EQUAL(aiopip_drain(forked->client, &event, 1), -ESRCH);
    CHECK_EQUAL(aiopip_abort(forked->client, 1000), -ESRCH);
    CHECK_EQUAL(aiopip_named_import(forked->client, pipid, generation, "page", 4, &hold), -ESRCH);
    CHECK_EQUAL(aiopip_hold_check(forked->hold, 0, 1), -ESRCH);
    CHECK_EQUAL(aiopip_close(forked->client), -ESRCH);
    statistics_of(forked->client);
    aiopip_hold_release(forked->hold);
    /* A core of its own. */
    aiopip_client *client = open_client(2);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "6")), 6 << 8);
    close_client(client);
}

static void test_forked_child_has_no_part_in_the_core(void)
{
    aiopip_client *client = open_client(4);
    int control;
    struct spawned task = spawn_exporter(client, &control);
    struct forked forked = {client, task, import_page(client, task, control)};

    check_in_child(use_after_fork, &forked);
    check_hold(forked.hold);
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, 0), 0);
    CHECK_EQUAL(finish(client, spawn(client, "exit", "0")), 0);
    aiopip_hold_release(forked.hold);
    close(control);
    CHECK_EQUAL(finish(client, task), 7 << 8);
    aiopip_acknowledge(client, task.pipid, task.generation);
    check_clean(client);
    close_client(client);
}

int main(void)
{
    const struct rlimit no_core = {0, 0};

    CHECK(setrlimit(RLIMIT_CORE, &no_core) == 0);
    RUN(test_exit_statuses_arrive);
    RUN(test_signals_arrive);
    RUN(test_end_is_told_once_with_what_is_known_of_it);
    RUN(test_other_waits_do_not_see_tasks);
    RUN(test_task_that_execs_delivers_its_status);
    RUN(test_child_of_a_task_does_not_end_it);
    RUN(test_failure_is_told);
    RUN(test_python_at_a_fixed_address_needs_a_launcher);
    RUN(test_lowest_free_slot_is_taken);
    RUN(test_slot_may_be_asked_for);
    RUN(test_slot_that_is_being_reclaimed_is_announced);
    RUN(test_cancelled_spawn_fails_or_is_killed);
    RUN(test_abort_ends_what_runs_and_what_waits);
    RUN(test_kill_at_any_moment_leaves_nothing);
    RUN(test_standard_descriptors_go_where_they_are_sent);
    RUN(test_redirected_and_closed_descriptors_are_inherited_so);
    RUN(test_reopening_leaves_no_descriptor_thread_or_mapping);
    RUN(test_reopening_does_not_wait_for_peers_that_are_kept);
    RUN(test_bad_options_are_refused);
    RUN(test_clients_share_slots_and_not_events);
    RUN(test_statistics_count);
    RUN(test_hold_keeps_memory_beyond_the_end_and_the_close);
    RUN(test_released_hold_lets_memory_go);
    RUN(test_import_of_what_never_comes_is_cancelled);
    RUN(test_forked_child_has_no_part_in_the_core);
    return 0;
}
