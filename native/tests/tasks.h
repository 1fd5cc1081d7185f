/* SPDX-License-Identifier: BSD-2-Clause
 *
 * tasks.h: the core as the C tests use it: open, spawn, await events.
 */
#ifndef TASKS_H
#define TASKS_H

#include <limits.h>
#include <poll.h>

#include "aiopip.h"
#include "arch_x86_64.h"
#include "check.h"

#define TASKS_THE_END 0 /* either of FAILED and EXITED */

struct spawned {
    int32_t pipid;
    uint64_t generation;
};

/* Events that were taken, and not asked for yet. */
struct backlog {
    struct aiopip_event *events;
    size_t count, room;
};

static inline struct backlog *tasks_backlog(void)
{
    static struct backlog backlog;

    return &backlog;
}

/* ---- Opening ---------------------------------------------------------------------------------- */

/* The path of tests/task_NAME.c's program; static storage. */
static inline const char *task_program(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/task_%s", getenv("AIOPIP_TASK_PROGRAMS"), name);
    return path;
}

static inline aiopip_client *open_client(uint32_t max_tasks)
{
    const struct aiopip_options options = {.max_tasks = max_tasks,
                                           .preload = getenv("AIOPIP_TASK_LIBRARY"),
                                           .probe = getenv("AIOPIP_PROBE")};
    aiopip_client *client = NULL;

    CHECK_EQUAL(aiopip_open(&options, &client), 0);
    return client;
}

static inline void close_client(aiopip_client *client)
{
    CHECK_EQUAL(aiopip_close(client), 0);
    free(tasks_backlog()->events);
    *tasks_backlog() = (struct backlog){0};
}

static inline struct aiopip_statistics statistics_of(aiopip_client *client)
{
    struct aiopip_statistics statistics;

    aiopip_get_statistics(client, &statistics);
    return statistics;
}

/* The mappings of all tasks, dead or alive. */
static inline int mappings_of_tasks(void)
{
    return check_mappings_in(ARCH_AREA_START, ARCH_AREA_END);
}

/* ---- Spawning --------------------------------------------------------------------------------- */

/* The rest of a request is the caller's: stdio, cwd, pipid.  argv and envp end with NULL. */
static inline int spawn_request(aiopip_client *client, struct aiopip_spawn_request request,
                                const char *const *argv, const char *const *envp,
                                struct spawned *spawned)
{
    static char blob[1 << 20];
    size_t used = 0;

    request.argv = blob;
    for (; argv[request.argc]; request.argc++)
        used = (size_t)(stpcpy(blob + used, argv[request.argc]) - blob) + 1;
    request.argv_bytes = used;
    request.envp = blob + used;
    for (; envp && envp[request.envc]; request.envc++)
        used = (size_t)(stpcpy(blob + used, envp[request.envc]) - blob) + 1;
    request.envp_bytes = used - request.argv_bytes;
    return aiopip_spawn(client, &request, &spawned->pipid, &spawned->generation);
}

static inline struct aiopip_spawn_request plain_request(const char *program)
{
    return (struct aiopip_spawn_request){
        .program = program,
        .stdio = {AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_INHERIT, AIOPIP_STDIO_INHERIT},
        .pipid = AIOPIP_PIPID_ANY};
}

/* task_actions with up to two arguments. */
static inline int try_spawn(aiopip_client *client, const char *action, const char *argument,
                            struct spawned *spawned)
{
    const char *const argv[] = {"actions", action, argument, NULL};

    return spawn_request(client, plain_request(task_program("actions")), argv, NULL, spawned);
}

/* ---- Events ----------------------------------------------------------------------------------- */

static inline bool tasks_wanted(const struct aiopip_event *event, uint64_t generation, int kind)
{
    if (event->generation != generation)
        return false;
    return kind == TASKS_THE_END
               ? event->kind == AIOPIP_EVENT_FAILED || event->kind == AIOPIP_EVENT_EXITED
               : event->kind == kind;
}

/* Take what waits into the backlog. */
static inline void drain(aiopip_client *client)
{
    struct backlog *backlog = tasks_backlog();
    int count;

    do {
        if (backlog->room < backlog->count + 64) {
            backlog->room = 2 * backlog->count + 64;
            backlog->events = realloc(backlog->events, backlog->room * sizeof *backlog->events);
            CHECK(backlog->events != NULL);
        }
        count = aiopip_drain(client, backlog->events + backlog->count, 64);
        CHECK(count >= 0);
        backlog->count += (size_t)count;
    } while (count == 64);
}

/* Look for an event and take it out. */
static inline bool take_event(uint64_t generation, int kind, struct aiopip_event *event)
{
    struct backlog *backlog = tasks_backlog();

    for (size_t i = 0; i < backlog->count; i++)
        if (tasks_wanted(&backlog->events[i], generation, kind)) {
            *event = backlog->events[i];
            backlog->count--;
            memmove(&backlog->events[i], &backlog->events[i + 1],
                    (backlog->count - i) * sizeof *backlog->events);
            return true;
        }
    return false;
}

/* Wait for an event of a task (generation 0: RECLAIMED), by the descriptor alone. */
static inline struct aiopip_event await(aiopip_client *client, uint64_t generation, int kind)
{
    struct aiopip_event event;
    struct timespec since;

    clock_gettime(CLOCK_MONOTONIC, &since);
    while (!take_event(generation, kind, &event)) {
        struct pollfd ready = {aiopip_fd(client), POLLIN, 0};
        CHECK(!check_is_late(&since));
        if (poll(&ready, 1, 1000) > 0)
            drain(client);
    }
    return event;
}

/* The end of a task: its wait status. */
static inline int finish(aiopip_client *client, struct spawned spawned)
{
    struct aiopip_event event = await(client, spawned.generation, TASKS_THE_END);

    if (event.kind == AIOPIP_EVENT_FAILED)
        fprintf(stderr, "failed at %d (%s): %s\n", event.failure, strerror(event.error),
                event.detail);
    CHECK_EQUAL(event.kind, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(event.pipid, spawned.pipid);
    return event.wait_status;
}

/* Whether nothing is under way, and nobody holds anything. */
static inline bool is_at_rest(aiopip_client *client)
{
    aiopip_trim(client);
    struct aiopip_statistics now = statistics_of(client);

    drain(client);
    return now.alive + now.queued + now.loading + now.reclaiming + now.held == 0;
}

/* Nothing that any task mapped is there any more. */
static inline void check_clean(aiopip_client *client)
{
    CHECK_SOON(is_at_rest(client));
    CHECK_SOON(mappings_of_tasks() == 0);
    CHECK_EQUAL(statistics_of(client).untracked, 0);
}

/* Spawn, or wait for the memory that is in the way. */
static inline struct spawned spawn(aiopip_client *client, const char *action, const char *argument)
{
    struct spawned spawned;
    int result;

    while ((result = try_spawn(client, action, argument, &spawned)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return spawned;
}

#endif
