/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_seeding.c: tasks whose ld.so was told of the processor know what others know that asked.
 */
#include "seeded.h"

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
    aiopip_client *client = open_and_learn(NULL);

    CHECK_EQUAL(statistics_of(client).loader_seeded, 1);
    CHECK_EQUAL(statistics_of(client).spawned, 0);
    check_facts(client);
    close_client(client);
}

int main(int argc, char **argv)
{
    if (argc == 1)
        start_again_here(argv);
    aiopip_client *client = open_and_learn(NULL);

    if (!statistics_of(client).loader_seeded)
        return CHECK_SKIPPED; /* another libc, or one that the probes disagree about */
    CHECK_EQUAL(statistics_of(client).spawned, 0);
    CHECK_EQUAL(mappings_of_tasks(), 0);
    check_facts(client);
    check_tunables(client);
    close_client(client);
    check_again();
    return 0;
}
