/* SPDX-License-Identifier: BSD-2-Clause
 *
 * seeded.h: for tests of tasks whose ld.so was told of the processor.
 */
#ifndef SEEDED_H
#define SEEDED_H

#include <sched.h>

#include "processor.h"
#include "tasks.h"

static inline aiopip_client *open_and_learn(const char *folder)
{
    const struct aiopip_options options = {
        .max_tasks = 8,
        .preload = getenv("AIOPIP_TASK_LIBRARY"),
        .probe = getenv("AIOPIP_PROBE"),
        .folder = folder,
    };
    aiopip_client *client = NULL;

    CHECK_EQUAL(aiopip_open(&options, &client), 0);
    return client;
}

static inline void ask_task(aiopip_client *client, const char *const *envp, uint64_t *facts)
{
    struct spawned spawned;
    char address[20];
    const char *const argv[] = {"seeding", address, NULL};
    int result;

    memset(facts, 0, PROCESSOR_WORDS * sizeof *facts);
    snprintf(address, sizeof address, "%lx", (unsigned long)(uintptr_t)facts);
    while ((result = spawn_request(client, plain_request(task_program("seeding")), argv, envp,
                                   &spawned)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    CHECK_EQUAL(finish(client, spawned), 0);
}

static inline void check_facts(aiopip_client *client)
{
    uint64_t mine[PROCESSOR_WORDS], theirs[PROCESSOR_WORDS];
    size_t count = processor_facts(mine);

    ask_task(client, NULL, theirs);
    for (size_t i = 0; i < count; i++)
        CHECK_EQUAL(theirs[i], mine[i]);
}

/* One of the facts is on which processor a program was when it started: start again on this one. */
static inline void start_again_here(char **argv)
{
    char *const again[] = {argv[0], "again", NULL};
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    CHECK_EQUAL(sched_setaffinity(0, sizeof here, &here), 0);
    execv("/proc/self/exe", again);
    CHECK(false);
}

#endif
