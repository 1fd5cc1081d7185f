/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_calls_kills.c: the queue of a pool, whose workers are tasks that are killed at each step that
 * they take, and at random.  Each call ends once, and those that are left do the rest.
 */
#include "callers.h"
#include "tasks.h"

#define SLOTS 8
#define WORKERS 4
#define TIMES 3
#define BURST 6
#define SECONDS 2
#define LOOK_EVERY 50 /* steps */
#define KILL_EVERY 150

static aiopip_client *client;
static struct callers owner;

/* ---- Workers ----------------------------------------------------------------------------------- */

static struct worker {
    struct calling_order order;
    struct spawned task;
    bool serves, struck;
} workers[CALLERS_WORKERS];

static struct worker *start_worker(uint32_t stop_at, uint32_t stop_nth)
{
    int32_t number = callers_add_worker(&owner);
    struct worker *worker = &workers[number];
    struct aiopip_spawn_request request = plain_request(task_program("calls"));
    char address[32];
    const char *const argv[] = {"calls", address, NULL};
    int result;

    *worker = (struct worker){.order = {.calls = owner.calls,
                                        .worker = number,
                                        .seed = ++owner.numbers,
                                        .stop_at = stop_at,
                                        .stop_nth = stop_nth},
                              .serves = true,
                              .struck = stop_nth > 0};
    snprintf(address, sizeof address, "%lx", (unsigned long)&worker->order);
    request.stdio[0] = aiopip_calls_fd(owner.calls);
    /* The slots may be those of the dead of whose results we have some. */
    while ((result = spawn_request(client, request, argv, NULL, &worker->task)) == -EAGAIN ||
           result == -EBUSY)
        if (result == -EAGAIN || !callers_release_one(&owner))
            await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return worker;
}

/* Take its end, if it was drained, and bury it: before that is acknowledged its memory is there. */
static bool take_end(struct worker *worker)
{
    struct aiopip_event event;

    if (!worker->serves)
        return true;
    if (!take_event(worker->task.generation, TASKS_THE_END, &event))
        return false;
    CHECK_EQUAL(event.kind, AIOPIP_EVENT_EXITED);
    CHECK_EQUAL(event.wait_status, worker->struck ? SIGKILL : 0);
    callers_bury(&owner, worker->order.worker,
                 1 + (int)calling_draw(&owner.random, CALLERS_EVENTS));
    if (event.flags & AIOPIP_EVENT_ACKNOWLEDGE)
        CHECK_EQUAL(aiopip_acknowledge(client, event.pipid, event.generation), 0);
    worker->serves = false;
    return true;
}

static bool has_ended(struct worker *worker)
{
    drain(client);
    return take_end(worker);
}

static void stop_worker(struct worker *worker)
{
    aiopip_calls_stop_worker(owner.calls, worker->order.worker);
    CHECK_SOON(has_ended(worker));
}

static void begin(void)
{
    client = open_client(SLOTS);
    callers_begin(&owner, aiopip_peer_of_client(client));
}

static void end(void)
{
    callers_finish(&owner);
    check_clean(client);
    close_client(client);
}

/* ---- At each point ----------------------------------------------------------------------------- */

#define POINT_NAME(name) #name,
static const char *const point_names[] = {KILL_CALL_POINTS(POINT_NAME)};
#undef POINT_NAME

static bool is_asleep(const struct worker *worker)
{
    int32_t number = worker->order.worker;

    return atomic_load(&owner.calls->asleep[number / 64]) >> number % 64 & 1;
}

static bool goes_on(struct worker *victim)
{
    return !has_ended(victim);
}

/* Take news until it holds, or the victim has ended. */
#define WAIT_WHILE_LIVES(victim, condition)                                                    \
    CHECK_SOON((!callers_has_news(&owner, 0) || callers_drain(&owner, CALLERS_EVENTS) >= 0) && \
               ((condition) || !goes_on(victim)))

/* Both sleep, and the victim is taken to spin: nobody is woken for what anybody may do.  It has a
 * call of its own, and wakes the other for the rest. */
static void have_victim_wake(struct worker *victim, struct worker *other)
{
    WAIT_WHILE_LIVES(victim, is_asleep(victim) && is_asleep(other));
    if (!goes_on(victim))
        return;
    atomic_store(&owner.calls->spinner, (uint32_t)victim->order.worker + 1);
    for (int i = 0; i < BURST; i++)
        callers_push(&owner, AIOPIP_WORKER_ANY, 0);
    atomic_store(&owner.calls->spinner, 0);
    callers_push(&owner, victim->order.worker, 0);
}

static void kill_at(uint32_t point, uint32_t nth)
{
    struct worker *other = start_worker(0, 0), *victim = start_worker(point, nth);
    struct timespec since;

    clock_gettime(CLOCK_MONOTONIC, &since);
    WAIT_WHILE_LIVES(victim, owner.ready[victim->order.worker]);
    while (goes_on(victim)) {
        CHECK(!check_is_late(&since));
        have_victim_wake(victim, other);
        for (int i = 0; i < BURST && goes_on(victim); i++)
            callers_push(&owner, i % 2 ? victim->order.worker : AIOPIP_WORKER_ANY,
                         callers_draw_job(&owner));
        WAIT_WHILE_LIVES(victim, !owner.out);
        while (callers_release_one(&owner))
            ;
    }
    /* Nobody else comes to help the other one: it does all that is left, and what is new. */
    callers_await_all(&owner);
    callers_push(&owner, other->order.worker, 0);
    callers_await_all(&owner);
    callers_push(&owner, AIOPIP_WORKER_ANY, 0);
    callers_await_all(&owner);
    stop_worker(other);
}

/* A point that nobody comes to is none: the list stays true. */
static void test_worker_is_killed_at_each_point(void)
{
    begin();
    for (uint32_t point = KILL_POINT_COUNT + 1; point < KILL_POINTS_END; point++) {
        printf("%s\n", point_names[point - KILL_POINT_COUNT - 1]);
        fflush(stdout);
        for (uint32_t nth = 1; nth <= TIMES; nth++)
            kill_at(point, nth);
    }
    end();
}

/* ---- At random --------------------------------------------------------------------------------- */

static bool is_over(const struct timespec *since)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - since->tv_sec >= SECONDS;
}

static int killed;

static void strike(struct worker **pool)
{
    struct worker *victim = pool[calling_draw(&owner.random, WORKERS)];

    if (aiopip_kill(client, victim->task.pipid, victim->task.generation, SIGKILL) < 0)
        return; /* it has not started, or ended already */
    victim->struck = true;
    killed++;
}

static bool replace_dead(struct worker **pool)
{
    bool any = false;

    for (int i = 0; i < WORKERS; i++)
        if (take_end(pool[i])) {
            pool[i] = start_worker(0, 0);
            any = true;
        }
    return any;
}

/* Take what there is, of calls and of ends: of none of it the descriptors tell again. */
static void attend(struct worker **pool)
{
    if (callers_has_news(&owner, 0))
        callers_drain(&owner, 1 + (int)calling_draw(&owner.random, CALLERS_EVENTS));
    do
        drain(client);
    while (replace_dead(pool));
}

/* By the descriptors alone. */
static void await_either(struct worker **pool)
{
    struct pollfd news[] = {{aiopip_calls_fd(owner.calls), POLLIN, 0},
                            {aiopip_fd(client), POLLIN, 0}};

    CHECK(poll(news, 2, CHECK_DEADLINE_S * 1000) > 0);
    attend(pool);
}

static void test_each_call_ends_once_whoever_is_killed(void)
{
    struct worker *pool[WORKERS];
    struct timespec since;
    uint64_t steps = 0;

    begin();
    for (int i = 0; i < WORKERS; i++)
        pool[i] = start_worker(0, 0);
    clock_gettime(CLOCK_MONOTONIC, &since);
    while (!is_over(&since)) {
        if (!callers_step(&owner))
            await_either(pool);
        if (++steps % KILL_EVERY == 0)
            strike(pool);
        if (steps % LOOK_EVERY == 0)
            attend(pool);
    }
    while (owner.out)
        await_either(pool);
    for (int i = 0; i < WORKERS; i++)
        stop_worker(pool[i]);
    printf("%d killed; %lu done, %lu lost, %lu untaken, %lu revoked, %lu lent, %lu returned, "
           "%u chunks\n",
           killed, (unsigned long)owner.done, (unsigned long)owner.lost,
           (unsigned long)owner.untaken, (unsigned long)owner.revoked, (unsigned long)owner.lent,
           (unsigned long)owner.returned, owner.calls->chunks);
    CHECK(killed > 20 && owner.done > 1000 && owner.lost && owner.lent && owner.returned);
    end();
}

int main(void)
{
    RUN(test_worker_is_killed_at_each_point);
    RUN(test_each_call_ends_once_whoever_is_killed);
    return 0;
}
