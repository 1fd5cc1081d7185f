/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_stops.c: what is told to a client that listens: of tasks that stop and go on, by a thread, and
 * of exports.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "../src/core.h"
#include "deny.h"
#include "kill_points.h"
#include "tasks.h"

#define TASKS 8
#define ROUNDS 50

static struct spawned spawn_running(aiopip_client *client)
{
    struct spawned task = spawn(client, "pause", NULL);

    await(client, task.generation, AIOPIP_EVENT_STARTED);
    return task;
}

static void send(aiopip_client *client, struct spawned task, int signal)
{
    CHECK_EQUAL(aiopip_kill(client, task.pipid, task.generation, signal), 0);
}

static void end(aiopip_client *client, struct spawned task)
{
    send(client, task, SIGKILL);
    CHECK_EQUAL(finish(client, task), SIGKILL);
}

/* One that was joined is seen for a moment still: its join returns when it leaves memory. */
static bool has_thread(const char *name)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    bool found = false;

    CHECK(folder != NULL);
    while ((entry = readdir(folder)) != NULL) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(comm, sizeof comm, file))
            comm[strcspn(comm, "\n")] = '\0';
        fclose(file);
        found |= !strcmp(comm, name);
    }
    closedir(folder);
    return found;
}

/* ---- Events ----------------------------------------------------------------------------------- */

/* In a group of its own, which is no orphan, for this process is in its session: or else the terminal's
 * signals would not stop it. */
static struct spawned spawn_in_group(aiopip_client *client)
{
    const char *const argv[] = {"actions", "pause", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;

    request.flags = AIOPIP_SPAWN_PROCESS_GROUP;
    CHECK_EQUAL(spawn_request(client, request, argv, NULL, &task), 0);
    await(client, task.generation, AIOPIP_EVENT_STARTED);
    return task;
}

static void test_stops_and_continues_are_told(void)
{
    aiopip_client *client = open_client(4);
    const int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    struct spawned task = spawn_in_group(client);

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    for (int i = 0; i < 4 * ROUNDS; i++) {
        send(client, task, signals[i % 4]);
        struct aiopip_event event = await(client, task.generation, AIOPIP_EVENT_STOPPED);
        CHECK_EQUAL(event.wait_status, signals[i % 4] << 8 | 0x7f);
        send(client, task, SIGCONT);
        event = await(client, task.generation, AIOPIP_EVENT_CONTINUED);
        CHECK(WIFCONTINUED(event.wait_status));
    }
    end(client, task);
    CHECK_EQUAL(tasks_backlog()->count, 0);
    close_client(client);
}

static void test_nothing_is_told_to_who_does_not_listen(void)
{
    aiopip_client *client = open_client(4), *other = open_client(4);
    struct spawned task = spawn_running(client);

    CHECK(!has_thread("aiopip-stops"));
    CHECK_EQUAL(aiopip_listen(other, 1), 0);
    CHECK_SOON(has_thread("aiopip-stops"));
    send(client, task, SIGSTOP);
    CHECK_EQUAL(aiopip_listen(other, 0), 0);
    send(client, task, SIGCONT);
    end(client, task);
    CHECK_EQUAL(tasks_backlog()->count, 0);
    drain(other);
    CHECK_EQUAL(tasks_backlog()->count, 0);
    close_client(other);
    CHECK(has_thread("aiopip-stops"));
    close_client(client);
    CHECK_SOON(!has_thread("aiopip-stops"));
}

static bool reports_stop(pid_t pid)
{
    siginfo_t report = {0};

    CHECK_EQUAL(waitid(P_PID, (id_t)pid, &report, WSTOPPED | WNOHANG | WNOWAIT | __WALL), 0);
    return report.si_pid == pid;
}

static void test_listening_begins_with_what_comes(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn(client, "pause", NULL);
    pid_t pid = await(client, task.generation, AIOPIP_EVENT_STARTED).pid;

    for (int i = 0; i < ROUNDS; i++) {
        /* While nobody listens the watcher may be in its last waitid, and takes what comes. */
        if (i == 0) {
            send(client, task, SIGSTOP);
            CHECK_SOON(reports_stop(pid));
        }
        CHECK_EQUAL(aiopip_listen(client, 1), 0);
        send(client, task, SIGCONT);
        await(client, task.generation, AIOPIP_EVENT_CONTINUED);
        CHECK_EQUAL(tasks_backlog()->count, 0);
        send(client, task, SIGSTOP);
        await(client, task.generation, AIOPIP_EVENT_STOPPED);
        CHECK_EQUAL(aiopip_listen(client, 0), 0);
    }
    end(client, task);
    close_client(client);
}

static bool is_stopped(pid_t pid)
{
    char path[64], line[512] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    fclose(file);
    return strrchr(line, ')')[2] == 'T';
}

/* The task has come to what it was told last, and the watcher has no report of it before it.  In this
 * order: behind the second look there may be a report of what the first one has found. */
static bool is_told(pid_t pid, bool stopped)
{
    siginfo_t report = {0};

    if (is_stopped(pid) != stopped)
        return false;
    CHECK_EQUAL(
        waitid(P_PID, (id_t)pid, &report, WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT | __WALL), 0);
    return report.si_pid == 0;
}

/* What was told last of a task; `last` when there is nothing new. */
static int latest_of(aiopip_client *client, struct spawned task, int last)
{
    struct aiopip_event event;

    drain(client);
    for (size_t i = 0; i < tasks_backlog()->count;)
        if (tasks_backlog()->events[i].generation == task.generation) {
            last = tasks_backlog()->events[i].kind;
            take_event(task.generation, last, &event);
        } else {
            i++;
        }
    return last;
}

/* Unread events of a task become one, which tells the latest. */
static void test_latest_state_is_told_last(void)
{
    aiopip_client *client = open_client(TASKS);
    struct spawned tasks[TASKS];
    pid_t pids[TASKS];
    bool stopped[TASKS] = {false};
    uint64_t random = 11;

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = spawn(client, "pause", NULL);
        pids[i] = await(client, tasks[i].generation, AIOPIP_EVENT_STARTED).pid;
    }
    for (int i = 0; i < 40 * ROUNDS; i++) {
        uint64_t dice = check_random(&random);
        int which = (int)(dice % TASKS);
        stopped[which] = dice >> 8 & 1;
        send(client, tasks[which], stopped[which] ? SIGSTOP : SIGCONT);
        if (dice % 5 == 0)
            drain(client);
    }
    for (int i = 0; i < TASKS; i++) {
        CHECK_SOON(is_told(pids[i], stopped[i]));
        CHECK_EQUAL(latest_of(client, tasks[i], AIOPIP_EVENT_CONTINUED),
                    stopped[i] ? AIOPIP_EVENT_STOPPED : AIOPIP_EVENT_CONTINUED);
    }
    for (int i = 0; i < TASKS; i++)
        end(client, tasks[i]);
    CHECK_EQUAL(tasks_backlog()->count, 0);
    close_client(client);
}

/* A ring that nobody reads has room for all. */
static void test_events_that_nobody_reads_do_not_overflow(void)
{
    aiopip_client *client = open_client(1);
    struct aiopip_event events[64];
    struct spawned task;

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    CHECK_EQUAL(try_spawn(client, "pause", NULL, &task), 0);
    while (aiopip_kill(client, task.pipid, task.generation, 0) == -ESRCH)
        usleep(100);
    for (int i = 0; i < 20 * ROUNDS; i++)
        send(client, task, i % 2 ? SIGCONT : SIGSTOP);
    send(client, task, SIGKILL);
    CHECK_SOON(statistics_of(client).alive == 0);
    int count = aiopip_drain(client, events, 64);
    CHECK(count >= 2 && count <= 3);
    CHECK_EQUAL(events[0].kind, AIOPIP_EVENT_STARTED);
    CHECK_EQUAL(events[count - 1].kind, AIOPIP_EVENT_EXITED);
    close_client(client);
}

static void test_stopped_start_is_told_behind_it(void)
{
    aiopip_client *client = open_client(4);
    const char *const argv[] = {"actions", "pause", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("actions"));
    struct spawned task;

    request.flags = AIOPIP_SPAWN_STOPPED;
    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    for (int i = 0; i < ROUNDS; i++) {
        int result;
        while ((result = spawn_request(client, request, argv, NULL, &task)) == -EAGAIN)
            await(client, 0, AIOPIP_EVENT_RECLAIMED);
        CHECK_EQUAL(result, 0);
        await(client, task.generation, AIOPIP_EVENT_STOPPED);
        struct aiopip_event event;
        CHECK(take_event(task.generation, AIOPIP_EVENT_STARTED, &event));
        send(client, task, SIGCONT);
        await(client, task.generation, AIOPIP_EVENT_CONTINUED);
        end(client, task);
    }
    close_client(client);
}

static void test_stop_before_the_task_is_known_is_told_behind_its_start(void)
{
    aiopip_client *client = open_client(4);
    struct spawned first = spawn_running(client), task; /* the watcher waits for it */

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    /* In the spawner, which has cloned a task that it has told nobody of. */
    kill_point_pause(KILL_AT_SPAWN_CLONED);
    CHECK_EQUAL(try_spawn(client, "pause", NULL, &task), 0);
    CHECK_SOON(kill_point_is_paused());
    _Atomic int32_t *pid = &core_slot(client->core, task.pipid)->block->pid;
    CHECK_SOON(atomic_load(pid));
    CHECK_EQUAL(kill(atomic_load(pid), SIGSTOP), 0);
    CHECK_SOON(is_told(atomic_load(pid), true));
    kill_point_resume();
    await(client, task.generation, AIOPIP_EVENT_STOPPED);
    end(client, task);
    end(client, first);
    close_client(client);
}

/* ---- Exports ---------------------------------------------------------------------------------- */

/* Also of a task that ends right behind its export, and in a slot that was used before. */
static void test_export_is_told_before_the_end(void)
{
    aiopip_client *client = open_client(1);
    const char *const argv[] = {"exporter", NULL};
    struct aiopip_spawn_request request = plain_request(task_program("exporter"));
    struct spawned task;
    struct aiopip_event event;

    for (int i = 0; i < 2 * ROUNDS; i++) {
        int ends[2], result;
        bool listens = i % 3 != 0;
        CHECK_EQUAL(aiopip_listen(client, listens), 0);
        CHECK(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "x", 1) == 1);
        close(ends[1]);
        request.stdio[0] = ends[0];
        while ((result = spawn_request(client, request, argv, NULL, &task)) == -EAGAIN)
            await(client, 0, AIOPIP_EVENT_RECLAIMED);
        CHECK_EQUAL(result, 0);
        CHECK_EQUAL(finish(client, task), 7 << 8);
        close(ends[0]);
        CHECK_EQUAL(take_event(task.generation, AIOPIP_EVENT_EXPORTED, &event), listens);
        CHECK(take_event(task.generation, AIOPIP_EVENT_STARTED, &event));
        CHECK_EQUAL(aiopip_acknowledge(client, task.pipid, task.generation), 0);
        while (take_event(0, AIOPIP_EVENT_RECLAIMED, &event))
            ;
        CHECK_EQUAL(tasks_backlog()->count, 0);
    }
    close_client(client);
}

/* ---- The thread ------------------------------------------------------------------------------- */

/* A child of another library: not SIGCHLD is its exit signal, and it lives on. */
static pid_t clone_foreign(int signal)
{
    long pid = syscall(SYS_clone, (long)signal, 0L, 0L, 0L, 0L);

    if (pid == 0)
        for (;;)
            pause();
    CHECK(pid > 0);
    return (pid_t)pid;
}

static void test_core_closes_whoever_else_has_children(void)
{
    const int signals[] = {SIGCHLD, 0, SIGUSR1};
    siginfo_t report = {0};

    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < 3 * ROUNDS; i++) {
        aiopip_client *client = open_client(4);
        struct spawned task = spawn_running(client);
        CHECK_EQUAL(aiopip_listen(client, 1), 0);
        pid_t foreign = clone_foreign(signals[i % 3]);
        end(client, task);
        close_client(client);
        CHECK_SOON(!has_thread("aiopip-stops"));
        CHECK(kill(foreign, SIGSTOP) == 0);
        CHECK(waitid(P_PID, (id_t)foreign, &report, WSTOPPED | __WALL) == 0);
        CHECK(report.si_pid == foreign && report.si_code == CLD_STOPPED);
        CHECK(kill(foreign, SIGKILL) == 0);
        CHECK(waitpid(foreign, NULL, __WALL) == foreign);
    }
    CHECK(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD);
}

static _Atomic bool taken_enough;

/* A library that waits for the stops of all children there are. */
static void *take_stops(void *unused)
{
    (void)unused;
    while (!atomic_load(&taken_enough)) {
        siginfo_t report = {0};
        CHECK_EQUAL(waitid(P_ALL, 0, &report, WSTOPPED | __WALL), 0);
    }
    return NULL;
}

static void test_core_closes_whoever_else_takes_stops(void)
{
    pid_t foreign = clone_foreign(0);
    pthread_t taker;

    atomic_store(&taken_enough, false);
    CHECK_EQUAL(pthread_create(&taker, NULL, take_stops, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        aiopip_client *client = open_client(1);
        CHECK_EQUAL(aiopip_listen(client, 1), 0);
        if (i % 2)
            usleep(500);
        close_client(client);
        CHECK_SOON(!has_thread("aiopip-stops"));
    }
    atomic_store(&taken_enough, true);
    CHECK(kill(foreign, SIGSTOP) == 0);
    CHECK_EQUAL(pthread_join(taker, NULL), 0);
    CHECK(kill(foreign, SIGKILL) == 0);
    CHECK(waitpid(foreign, NULL, __WALL) == foreign);
}

/* Then the watcher is left behind, until somebody has a stop to report: which it does not take. */
static void close_without_a_child(const void *unused)
{
    static const struct denied no_clone[] = {{SYS_clone, EAGAIN}, {0, 0}}; /* but clone3 */
    pid_t foreign = clone_foreign(0);
    siginfo_t report = {0};

    (void)unused;
    deny(no_clone);
    aiopip_client *client = open_client(1);
    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    struct spawned task = spawn_running(client);
    send(client, task, SIGSTOP);
    await(client, task.generation, AIOPIP_EVENT_STOPPED);
    end(client, task);
    close_client(client);
    CHECK_EQUAL(kill(foreign, SIGSTOP), 0);
    CHECK_SOON(!has_thread("aiopip-stops"));
    CHECK_EQUAL(waitid(P_PID, (id_t)foreign, &report, WSTOPPED | WNOHANG | __WALL), 0);
    CHECK_EQUAL(report.si_pid, foreign);
    CHECK_EQUAL(kill(foreign, SIGKILL), 0);
    CHECK_EQUAL(waitpid(foreign, NULL, __WALL), foreign);
}

static void test_core_closes_where_no_child_can_be_made(void)
{
    check_in_child(close_without_a_child, NULL);
}

static void test_closed_while_it_starts_or_sleeps(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        aiopip_client *client = open_client(1);
        CHECK_EQUAL(aiopip_listen(client, 1), 0);
        if (i % 2)
            usleep((useconds_t)i);
        close_client(client);
        CHECK_SOON(!has_thread("aiopip-stops"));
    }
}

static void test_other_children_keep_their_stops(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn_running(client);
    pid_t child = clone_foreign(SIGCHLD);
    int status;

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(kill(child, SIGSTOP) == 0);
        send(client, task, SIGSTOP);
        await(client, task.generation, AIOPIP_EVENT_STOPPED);
        CHECK(waitpid(-1, &status, WUNTRACED) == child);
        CHECK_EQUAL(status, SIGSTOP << 8 | 0x7f);
        CHECK(kill(child, SIGCONT) == 0);
        send(client, task, SIGCONT);
        await(client, task.generation, AIOPIP_EVENT_CONTINUED);
        CHECK(waitpid(-1, &status, WCONTINUED) == child);
    }
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(-1, &status, 0) == child);
    end(client, task);
    close_client(client);
}

static void use_after_fork(const void *client)
{
    CHECK_EQUAL(aiopip_listen((aiopip_client *)(uintptr_t)client, 0), -ESRCH);
    CHECK_EQUAL(aiopip_listen((aiopip_client *)(uintptr_t)client, 1), -ESRCH);
    test_stops_and_continues_are_told();
}

static void test_forked_child_listens_to_its_own(void)
{
    aiopip_client *client = open_client(4);
    struct spawned task = spawn_running(client);

    CHECK_EQUAL(aiopip_listen(client, 1), 0);
    send(client, task, SIGSTOP);
    await(client, task.generation, AIOPIP_EVENT_STOPPED);
    check_in_child(use_after_fork, client);
    send(client, task, SIGCONT);
    await(client, task.generation, AIOPIP_EVENT_CONTINUED);
    end(client, task);
    close_client(client);
}

int main(void)
{
    RUN(test_stops_and_continues_are_told);
    RUN(test_nothing_is_told_to_who_does_not_listen);
    RUN(test_listening_begins_with_what_comes);
    RUN(test_latest_state_is_told_last);
    RUN(test_events_that_nobody_reads_do_not_overflow);
    RUN(test_stopped_start_is_told_behind_it);
    RUN(test_stop_before_the_task_is_known_is_told_behind_its_start);
    RUN(test_export_is_told_before_the_end);
    RUN(test_core_closes_whoever_else_has_children);
    RUN(test_core_closes_whoever_else_takes_stops);
    RUN(test_core_closes_where_no_child_can_be_made);
    RUN(test_closed_while_it_starts_or_sleeps);
    RUN(test_other_children_keep_their_stops);
    RUN(test_forked_child_listens_to_its_own);
    return 0;
}
