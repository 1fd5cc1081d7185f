/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_stress.c: the root and six tasks give each other arrays at random, and tasks are killed at any
 * instruction and started again.
 */
#include <pthread.h>

#include "puppets.h"
#include "stress.h"

#define TASKS 6
#define SECONDS 2
#define KILL_EVERY 400 /* steps of the root */

static aiopip_client *client;
static struct stress_board board;
static struct stress_party root, releaser;
static struct {
    struct spawned task;
    bool runs;
} tasks[TASKS];
static uint64_t seeds = 4711;
static int killed;

static void start(int index)
{
    const struct aiopip_spawn_request request = plain_request(task_program("stress"));
    char address[32], seed[32];
    const char *const argv[] = {"stress", address, seed, NULL};

    snprintf(address, sizeof address, "%lx", (unsigned long)&board);
    snprintf(seed, sizeof seed, "%lu", (unsigned long)(check_random(&seeds) >> 1 | 1));
    int result = spawn_request(client, request, argv, NULL, &tasks[index].task);
    /* All slots may be those of tasks that something is held of. */
    CHECK(result == 0 || result == -EBUSY || result == -EAGAIN);
    tasks[index].runs = result == 0;
}

/* Its end was by a kill, or by the stop. */
static void take_end(int index)
{
    struct aiopip_event event;

    if (!tasks[index].runs || !take_event(tasks[index].task.generation, TASKS_THE_END, &event))
        return;
    if (event.kind == AIOPIP_EVENT_EXITED)
        CHECK(event.wait_status == SIGKILL || (event.wait_status == 0 && board.stop));
    else
        CHECK_EQUAL(event.error, ECANCELED);
    if (event.flags & AIOPIP_EVENT_ACKNOWLEDGE)
        CHECK_EQUAL(aiopip_acknowledge(client, event.pipid, event.generation), 0);
    killed += event.wait_status == SIGKILL;
    tasks[index].runs = false;
}

static void step(void)
{
    int line = stress_step(&root);

    if (line)
        fprintf(stderr, "stress.c:%d\n", line);
    CHECK(line == 0);
    uint64_t draw = check_random(&seeds) >> 33;
    if (draw % KILL_EVERY == 0) {
        struct spawned task = tasks[draw / KILL_EVERY % TASKS].task;
        aiopip_cancel(client, task.pipid, task.generation);
    }
    if (draw % 16)
        return;
    drain(client);
    for (int i = 0; i < TASKS; i++) {
        take_end(i);
        if (!tasks[i].runs)
            start(i);
    }
}

static bool all_have_ended(void)
{
    bool ended = true;

    drain(client);
    for (int i = 0; i < TASKS; i++) {
        take_end(i);
        ended &= !tasks[i].runs;
    }
    return ended;
}

static bool is_over(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - since->tv_sec >= SECONDS;
}

/* Finalisers give holds back in any thread. */
static void *release_in_thread(void *argument)
{
    (void)argument;
    while (!atomic_load(&board.stop))
        CHECK_EQUAL(stress_step(&releaser), 0);
    CHECK(stress_end(&releaser));
    return NULL;
}

/* All tasks have ended when it returns, and nothing was wrong. */
static void run(bool keeps)
{
    struct timespec since;
    pthread_t thread;

    board = (struct stress_board){.keeps = keeps};
    killed = 0;
    client = open_client(STRESS_SLOTS);
    stress_begin(&root, aiopip_peer_of_client(client), &board, 42, false);
    stress_begin(&releaser, aiopip_peer_of_client(client), &board, 43, true);
    CHECK_EQUAL(pthread_create(&thread, NULL, release_in_thread, NULL), 0);
    for (int i = 0; i < TASKS; i++)
        start(i);
    clock_gettime(CLOCK_MONOTONIC, &since);
    while (!is_over(&since))
        step();
    atomic_store(&board.stop, 1);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_SOON(all_have_ended());
    printf("%lu steps, %lu imports, %lu forwarded, %d killed\n", (unsigned long)board.steps,
           (unsigned long)board.imports, (unsigned long)board.forwards, killed);
    CHECK(board.steps > 1000 && board.imports > 100 && board.forwards > 10 && killed > 10);
}

static void test_arrays_stay_right_whoever_is_killed(void)
{
    run(false);
    CHECK_SOON(stress_end(&root));
    check_clean(client);
    close_client(client);
}

/* A dead task whose export is kept has the root's array, which is forwarded from that export: nothing
 * but the close ends that. */
static void test_what_is_kept_goes_with_the_client(void)
{
    run(true);
    stress_end(&root);
    CHECK_EQUAL(statistics_of(client).untracked, 0);
    close_client(client);
    for (int i = 0; i < STRESS_HOLDS; i++)
        if (root.holds[i].hold)
            aiopip_hold_release(root.holds[i].hold);
    CHECK_EQUAL(mappings_of_tasks(), 0);
}

int main(void)
{
    RUN(test_arrays_stay_right_whoever_is_killed);
    RUN(test_what_is_kept_goes_with_the_client);
    return 0;
}
