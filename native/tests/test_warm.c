/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_warm.c: tasks that begin where ld.so ended in another one find everything as they would have,
 * whatever that one has done; and where it has done too much, they are loaded anew.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "tasks.h"
#include "warm_facts.h"

#define KILLS 200
#define SETTLED_S 3 /* files are younger than that when they were built just now */

static char program[PATH_MAX];

/* Until a file is old enough to be known again. */
static void wait_until_settled(const char *path)
{
    struct stat status;

    CHECK_EQUAL(stat(path, &status), 0);
    while (time(NULL) - status.st_ctim.tv_sec < SETTLED_S)
        poll(NULL, 0, 100);
}

static aiopip_client *open_warm(void)
{
    const struct aiopip_options options = {
        .max_tasks = 4, .preload = getenv("AIOPIP_TASK_LIBRARY"), .probe = getenv("AIOPIP_PROBE")};
    aiopip_client *client = NULL;

    wait_until_settled(options.preload);
    wait_until_settled(options.probe);
    CHECK_EQUAL(aiopip_open(&options, &client), 0);
    return client;
}

/* ---- One run ---------------------------------------------------------------------------------- */

struct run {
    const char *action;
    const char *const *envp;
    const char *more;      /* one argument more */
    int32_t input, output; /* or 0: the test's */
    const struct aiopip_spawn_options *options;
};

static struct spawned start(aiopip_client *client, const struct run *run, struct warm_facts *facts)
{
    struct aiopip_spawn_request request = plain_request(program);
    struct spawned spawned;
    char address[20];
    const char *const argv[] = {"warm", address, run->action, run->more, NULL};

    memset(facts, 0, sizeof *facts);
    request.pipid = 0;
    request.options = run->options;
    if (run->input)
        request.stdio[0] = run->input;
    if (run->output)
        request.stdio[1] = run->output;
    snprintf(address, sizeof address, "%lx", (unsigned long)(uintptr_t)facts);
    int result;
    while ((result = spawn_request(client, request, argv, run->envp, &spawned)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return spawned;
}

static int run_it(aiopip_client *client, const struct run *run, struct warm_facts *facts)
{
    return finish(client, start(client, run, facts));
}

/* Nothing of another run is in it. */
static void check_facts(const struct warm_facts *facts)
{
    CHECK_EQUAL(facts->variables, 1);
    CHECK_EQUAL(facts->owner, 1);
    CHECK_EQUAL(facts->processor, 1);
    CHECK_EQUAL(facts->stack, 1);
    CHECK_EQUAL(facts->threads, 1);
    CHECK_EQUAL(facts->libraries, 1);
    CHECK_EQUAL(facts->at_exit, 1);
}

static void run_plain(aiopip_client *client, struct warm_facts *facts)
{
    const struct run plain = {.action = "nothing"};

    CHECK_EQUAL(run_it(client, &plain, facts), 0);
    check_facts(facts);
}

/* Until a run begins behind ld.so. */
static void warm_up(aiopip_client *client, struct warm_facts *facts)
{
    for (int i = 0; i < 4; i++) {
        run_plain(client, facts);
        if (facts->resumed)
            return;
    }
    CHECK(facts->resumed);
}

/* ---- What is tested --------------------------------------------------------------------------- */

static void check_sameness(aiopip_client *client)
{
    static const char *const envp[] = {"HOME=/somewhere", "A=", "A=2", NULL};
    struct run run = {.action = "nothing", .envp = envp};
    struct warm_facts first, other, warm;
    uint64_t environment = 0, resumed = statistics_of(client).resumed;

    CHECK_EQUAL(run_it(client, &run, &first), 0);
    CHECK_EQUAL(first.resumed, 0);
    run.more = "another";
    run.envp = envp + 1;
    CHECK_EQUAL(run_it(client, &run, &other), 0);
    run.envp = envp;
    run.more = NULL;
    CHECK_EQUAL(run_it(client, &run, &warm), 0);
    CHECK_EQUAL(warm.resumed, 1);
    CHECK_EQUAL(statistics_of(client).resumed, resumed + 1);
    check_facts(&first);
    check_facts(&other);
    check_facts(&warm);
    CHECK_EQUAL(warm.auxiliary, first.auxiliary);
    CHECK_EQUAL(warm.limits, first.limits);
    for (const char *const *at = envp; *at; at++)
        environment = warm_sum(environment, *at);
    CHECK_EQUAL(first.environment, environment);
    CHECK_EQUAL(warm.environment, environment);
    CHECK(other.environment != environment && other.arguments != first.arguments);
    CHECK(warm.random != first.random && warm.canary != first.canary && warm.guard != first.guard);
    CHECK_EQUAL(warm.canary, warm.random & ARCH_STACK_GUARD_MASK);
}

/* More arguments than the first had, to what a stack takes. */
static void check_arguments(aiopip_client *client)
{
    enum {
        BYTES = 100000
    };
    static char text[BYTES];
    const char *envp[] = {"A=1", text, text, NULL};
    const struct run run = {.action = "nothing", .envp = envp, .more = text + 2};
    struct warm_facts facts;
    uint64_t environment = 0;

    memset(text, 'a', sizeof text - 1);
    warm_up(client, &facts);
    CHECK_EQUAL(run_it(client, &run, &facts), 0);
    check_facts(&facts);
    CHECK_EQUAL(facts.resumed, 1);
    for (const char *const *at = envp; *at; at++)
        environment = warm_sum(environment, *at);
    CHECK_EQUAL(facts.environment, environment);
}

/* After each of them a task finds all as it should; whether it is loaded anew is known, too. */
static void check_leavings(aiopip_client *client)
{
    static const struct {
        const char *action;
        int status;
        enum {
            ANEW,
            KEPT,
            EITHER
        } kept;
    } leavings[] = {
        {"scribble", 0, KEPT}, {"drop", 0, KEPT},    {"private", 0, KEPT},
        {"exec", 0, KEPT},     {"thread", 0, KEPT},  {"signal", SIGSEGV, KEPT},
        {"text", 0, ANEW},     {"protect", 0, ANEW}, {"unmap", 0, ANEW},
        {"shared", 0, ANEW},   {"outside", 0, ANEW}, {"relro", 0, ANEW},
        {"guard", 0, EITHER},
    };
    struct warm_facts facts;

    for (size_t i = 0; i < sizeof leavings / sizeof leavings[0]; i++) {
        const struct run run = {.action = leavings[i].action};
        warm_up(client, &facts);
        CHECK_EQUAL(run_it(client, &run, &facts), leavings[i].status);
        CHECK_EQUAL(facts.resumed, 1);
        run_plain(client, &facts);
        if (leavings[i].kept == EITHER)
            continue;
        if (facts.resumed != leavings[i].kept)
            fprintf(stderr, "after %s:\n", leavings[i].action);
        CHECK_EQUAL(facts.resumed, leavings[i].kept);
    }
}

/* What a task has lent to a pipe is in the pipe when the next one runs. */
static void check_splice(aiopip_client *client)
{
    struct warm_facts facts;
    char bytes[8192];
    int ends[2];

    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    const struct run run = {.action = "splice", .output = ends[1]};
    warm_up(client, &facts);
    CHECK_EQUAL(run_it(client, &run, &facts), 0);
    run_plain(client, &facts);
    CHECK_EQUAL(read(ends[0], bytes, sizeof bytes), sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        CHECK_EQUAL(bytes[i], 's');
    close(ends[0]);
    close(ends[1]);
}

/* A child by fork that outlives its parent keeps its copy. */
static void check_fork(aiopip_client *client)
{
    struct warm_facts facts;
    int to_child[2], from_child[2];
    char byte = 0;

    CHECK(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(from_child, O_CLOEXEC) == 0);
    const struct run run = {.action = "fork", .input = to_child[0], .output = from_child[1]};
    warm_up(client, &facts);
    CHECK_EQUAL(run_it(client, &run, &facts), 0);
    run_plain(client, &facts);
    CHECK_EQUAL(facts.resumed, 1);
    CHECK_EQUAL(write(to_child[1], &byte, 1), 1);
    CHECK_EQUAL(read(from_child[0], &byte, 1), 1);
    CHECK_EQUAL(byte, 'y');
    for (int i = 0; i < 2; i++) {
        close(to_child[i]);
        close(from_child[i]);
    }
}

/* What makes ld.so do something else has it asked. */
static void check_unusual(aiopip_client *client)
{
    static const char *const paths[] = {"LD_LIBRARY_PATH=/nowhere", NULL};
    static const char *const tunables[] = {"GLIBC_TUNABLES=glibc.malloc.arena_max=1", NULL};
    static const char *const arenas[] = {"MALLOC_ARENA_MAX=1", NULL};
    const struct aiopip_limit limit = {.resource = RLIMIT_CORE, .keeps_hard = 1};
    const struct aiopip_spawn_options limited = {.limits = &limit, .limit_count = 1};
    const struct aiopip_spawn_options stack = {.stack_bytes = 1UL << 20};
    const struct run runs[] = {
        {.action = "nothing", .envp = paths},     {.action = "nothing", .envp = tunables},
        {.action = "nothing", .envp = arenas},    {.action = "nothing", .options = &limited},
        {.action = "nothing", .options = &stack},
    };
    struct warm_facts facts;

    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        warm_up(client, &facts);
        CHECK_EQUAL(run_it(client, &runs[i], &facts), 0);
        check_facts(&facts);
        CHECK_EQUAL(facts.resumed, 0);
    }
}

/* Killed at any moment, from before its first instruction on. */
static void check_kills(aiopip_client *client)
{
    const struct run run = {.action = "pause"};
    struct warm_facts facts;
    unsigned state = 1;

    for (int i = 0; i < KILLS; i++) {
        struct spawned spawned = start(client, &run, &facts);
        state = state * 1103515245 + 12345;
        struct timespec wait = {0, (long)(state >> 16) % 400 * 1000};
        nanosleep(&wait, NULL);
        aiopip_cancel(client, spawned.pipid, spawned.generation);
        await(client, spawned.generation, TASKS_THE_END);
        if (i % 5 == 0)
            run_plain(client, &facts);
    }
    warm_up(client, &facts);
}

static void copy_file(const char *from, const char *to)
{
    char command[4 * PATH_MAX + 32];

    snprintf(command, sizeof command, "cp '%s' '%s.new' && mv '%s.new' '%s'", from, to, to, to);
    CHECK_EQUAL(system(command), 0);
}

/* A program that was replaced is another one; and so is one that may find other libraries: its folder
 * of libraries appears, and later something in it. */
static void check_replaced(aiopip_client *client)
{
    char folder[] = "/tmp/aiopip-test-XXXXXX", command[PATH_MAX];
    struct warm_facts facts;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(program, sizeof program, "%s/program", folder);
    copy_file(task_program("warm"), program);
    wait_until_settled(program);
    warm_up(client, &facts);
    copy_file(task_program("warm_path"), program);
    wait_until_settled(program);
    run_plain(client, &facts);
    CHECK_EQUAL(facts.resumed, 0);
    warm_up(client, &facts);
    snprintf(command, sizeof command, "%s/lib", folder);
    CHECK_EQUAL(mkdir(command, 0755), 0);
    run_plain(client, &facts);
    CHECK_EQUAL(facts.resumed, 0);
    wait_until_settled(command);
    warm_up(client, &facts);
    snprintf(command, sizeof command, "touch %s/lib/libsomething.so", folder);
    CHECK_EQUAL(system(command), 0);
    run_plain(client, &facts);
    CHECK_EQUAL(facts.resumed, 0);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK_EQUAL(system(command), 0);
}

/* All is given back when it is asked for, or when the core is closed. */
static void check_trim(aiopip_client *client)
{
    struct warm_facts facts;

    warm_up(client, &facts);
    CHECK_SOON(statistics_of(client).warm == 1);
    CHECK(mappings_of_tasks() > 0);
    check_clean(client);
    CHECK_EQUAL(statistics_of(client).warm, 0);
    warm_up(client, &facts);
}

int main(void)
{
    aiopip_client *client = open_warm();

    if (!statistics_of(client).resumes)
        return CHECK_SKIPPED;
    strcpy(program, task_program("warm"));
    wait_until_settled(program);
    check_sameness(client);
    check_arguments(client);
    check_leavings(client);
    check_splice(client);
    check_fork(client);
    check_unusual(client);
    check_kills(client);
    check_trim(client);
    check_replaced(client);
    close_client(client);
    CHECK_EQUAL(mappings_of_tasks(), 0);
    return 0;
}
