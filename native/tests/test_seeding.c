/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_seeding.c: tasks whose ld.so was told of the processor know what others know that asked.
 */
#include <sched.h>

#include "processor.h"
#include "tasks.h"

#define SKIPPED 77

static aiopip_client *open_and_learn(void)
{
    const struct aiopip_options options = {
        .max_tasks = 8, .preload = getenv("AIOPIP_TASK_LIBRARY"), .probe = getenv("AIOPIP_PROBE")};
    aiopip_client *client = NULL;

    CHECK_EQUAL(aiopip_open(&options, &client), 0);
    return client;
}

static void ask_task(aiopip_client *client, const char *const *envp, uint64_t *facts)
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

static void check_facts(aiopip_client *client)
{
    uint64_t mine[PROCESSOR_WORDS], theirs[PROCESSOR_WORDS];
    size_t count = processor_facts(mine);

    ask_task(client, NULL, theirs);
    for (size_t i = 0; i < count; i++)
        CHECK_EQUAL(theirs[i], mine[i]);
}

/* Who forbids a feature by an environment variable gets a task without it. */
static void check_tunables(aiopip_client *client)
{
    static const char *const envp[] = {"GLIBC_TUNABLES=glibc.cpu.hwcaps=-SSE4_2", NULL};
    static const char *const others[] = {"GLIBC_TUNABLES=glibc.malloc.arena_max=1", NULL};
    uint64_t plain[PROCESSOR_WORDS], tuned[PROCESSOR_WORDS], other[PROCESSOR_WORDS];

    ask_task(client, NULL, plain);
    ask_task(client, envp, tuned);
    ask_task(client, others, other);
    if (PROCESSOR_LEAVES)
        CHECK(memcmp(plain, tuned, sizeof plain) != 0);
    CHECK(memcmp(plain, other, sizeof plain) == 0);
}

/* It is learned once a process, and the next core knows it. */
static void check_again(void)
{
    aiopip_client *client = open_and_learn();

    CHECK_EQUAL(statistics_of(client).loader_seeded, 1);
    CHECK_EQUAL(statistics_of(client).spawned, 0);
    check_facts(client);
    close_client(client);
}

/* One of the facts is on which processor a program was when it started: start again on this one. */
static void stay_here(char **argv)
{
    char *const again[] = {argv[0], "again", NULL};
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    CHECK_EQUAL(sched_setaffinity(0, sizeof here, &here), 0);
    execv("/proc/self/exe", again);
    CHECK(false);
}

int main(int argc, char **argv)
{
    if (argc == 1)
        stay_here(argv);
    aiopip_client *client = open_and_learn();

    if (!statistics_of(client).loader_seeded)
        return SKIPPED; /* another libc, or one that the probes disagree about */
    CHECK_EQUAL(statistics_of(client).spawned, 0);
    CHECK_EQUAL(mappings_of_tasks(), 0);
    check_facts(client);
    check_tunables(client);
    close_client(client);
    check_again();
    return 0;
}
