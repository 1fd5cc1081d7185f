/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_preload.c: starts task_preload, which looks around in its task, and sees that nothing of
 * what it did is left.
 */
#include <sys/resource.h>

#include "tasks.h"

#define FILES 100
#define DATA (1UL << 60)

static int run_looker(aiopip_client *client)
{
    const char *const argv[] = {"a name", "100", "1152921504606846976", "two words", NULL};
    const char *const envp[] = {"FIRST=1", "SECOND=", NULL};
    struct spawned task;

    CHECK_EQUAL(spawn_request(client, plain_request(task_program("preload")), argv, envp, &task),
                0);
    return finish(client, task);
}

static void test_program_finds_all_as_in_a_process_of_its_own(void)
{
    aiopip_client *client = open_client(1000); /* more than FILES: the root's limit is raised */

    CHECK_EQUAL(run_looker(client), 0);
    close_client(client);
}

static void test_program_leaves_nothing(void)
{
    aiopip_client *client = open_client(4);
    int mappings = 0;

    for (int i = 0; i < 24; i++) {
        CHECK_EQUAL(run_looker(client), 0);
        CHECK_SOON(statistics_of(client).reclaiming == 0);
        CHECK_EQUAL(mappings_of_tasks(), 0);
        CHECK_EQUAL(check_mappings_in(0x210000000000UL, 0x220000000000UL), 0);
        if (i == 3)
            mappings = check_mappings_in(0, UINTPTR_MAX);
    }
    /* One a run would be 20; the sanitizer's allocator takes some. */
    CHECK(check_mappings_in(0, UINTPTR_MAX) < mappings + 15);
    CHECK_EQUAL(statistics_of(client).untracked, 0);
    close_client(client);
}

static void test_limit_of_the_root_comes_back(void)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQUAL(limit.rlim_cur, FILES);
}

static void test_long_names_arrive(void)
{
    static char longest[128 << 10];
    aiopip_client *client = open_client(4);
    const char *const argv[] = {longest, "exit", "5", NULL};
    struct spawned task;

    for (size_t length = 1; length < sizeof longest; length = length * 3 + 1) {
        memset(longest, 'n', length);
        CHECK_EQUAL(
            spawn_request(client, plain_request(task_program("actions")), argv, NULL, &task), 0);
        CHECK_EQUAL(finish(client, task), 5 << 8);
        CHECK_SOON(statistics_of(client).reclaiming == 0);
    }
    close_client(client);
}

int main(void)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = FILES;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    limit.rlim_cur = DATA;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    RUN(test_program_finds_all_as_in_a_process_of_its_own);
    RUN(test_program_leaves_nothing);
    RUN(test_limit_of_the_root_comes_back);
    RUN(test_long_names_arrive);
    return 0;
}
