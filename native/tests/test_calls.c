/* SPDX-License-Identifier: BSD-2-Clause
 *
 * test_calls.c: the queue of a pool, whose workers are threads of the test: what comes back, who is
 * woken, and that each call ends once.
 */
#include <signal.h>

#include "callers.h"
#include "kill_points.h"

#define CALLS 200000
#define THREADS 3
#define STOP_EVERY 2000 /* steps */

/* ---- Workers that are threads ------------------------------------------------------------------ */

struct worker {
    struct calling calling;
    pthread_t thread;
    _Atomic bool over;
};

static struct callers owner;
static struct worker workers[CALLERS_WORKERS];

static void *serve(void *argument)
{
    struct worker *self = argument;

    calling_serve(&self->calling);
    calling_end(&self->calling);
    atomic_store(&self->over, true);
    return NULL;
}

static struct worker *start_worker(void)
{
    int32_t number = callers_add_worker(&owner);
    struct worker *worker = &workers[number];

    *worker = (struct worker){.calling = {.calls = owner.calls,
                                          .worker = number,
                                          .event_fd = aiopip_calls_fd(owner.calls),
                                          .random = ++owner.numbers}};
    calling_begin(&worker->calling);
    CHECK_EQUAL(pthread_create(&worker->thread, NULL, serve, worker), 0);
    return worker;
}

/* What it has lent stays until all is over: a thread's memory is not held. */
static void stop_worker(struct worker *worker)
{
    static uint64_t *left[CALLS / STOP_EVERY * 4];
    static size_t count;

    if (worker) {
        aiopip_calls_stop_worker(owner.calls, worker->calling.worker);
        CHECK_SOON(atomic_load(&worker->over));
        CHECK_EQUAL(pthread_join(worker->thread, NULL), 0);
        callers_bury(&owner, worker->calling.worker, CALLERS_EVENTS);
        CHECK(count < sizeof left / sizeof *left);
        left[count++] = worker->calling.pages;
        return;
    }
    while (count)
        munmap(left[--count], (size_t)CALLING_LENT * CALLING_PAGE);
}

/* ---- One thread that is both sides ------------------------------------------------------------- */

static aiopip_calls *calls;

static int32_t begin(int count)
{
    CHECK_EQUAL(aiopip_calls_new(&calls), 0);
    for (int i = 0; i < count; i++) {
        CHECK_EQUAL(aiopip_calls_add_worker(calls), i);
        CHECK_EQUAL(aiopip_calls_join(calls, i, aiopip_calls_fd(calls)), 0);
    }
    return count;
}

static bool has_news(void)
{
    struct pollfd news = {aiopip_calls_fd(calls), POLLIN, 0};

    return poll(&news, 1, 0) > 0;
}

/* What is taken is told by the address of its data. */
static uint32_t push(int32_t worker, uintptr_t address)
{
    const struct aiopip_parcel request = {.data = address};
    int64_t call = aiopip_calls_push(calls, worker, &request);

    CHECK(call >= 0);
    return (uint32_t)call;
}

static uint32_t take(int32_t worker, int what, uintptr_t address)
{
    struct aiopip_parcel request = {0};
    uint32_t call;

    CHECK_EQUAL(aiopip_calls_take(calls, worker, &call, &request), what);
    CHECK_EQUAL(request.data, address);
    return call;
}

static int finish(int32_t worker, uint32_t call, uint32_t flags)
{
    const struct aiopip_parcel result = {0};

    return aiopip_calls_finish(calls, worker, call, flags, &result);
}

static struct aiopip_call_event drain_one(int kind, uint32_t call)
{
    struct aiopip_call_event event;

    CHECK(has_news());
    CHECK_EQUAL(aiopip_calls_drain(calls, &event, 1), 1);
    CHECK_EQUAL(event.kind, kind);
    CHECK_EQUAL(event.call, call);
    return event;
}

static void bury_one(int32_t worker, int kind, uint32_t call)
{
    struct aiopip_call_event event;

    CHECK_EQUAL(aiopip_calls_bury_worker(calls, worker, &event, 1), 1);
    CHECK_EQUAL(event.kind, kind);
    CHECK_EQUAL(event.worker, worker);
    CHECK_EQUAL(event.call, call);
}

static void bury(int32_t worker)
{
    struct aiopip_call_event event;

    CHECK_EQUAL(aiopip_calls_bury_worker(calls, worker, &event, 1), 0);
}

/* Nothing waits, and no call is in use. */
static void end(void)
{
    struct aiopip_call_event event;
    uint32_t count = 0;

    CHECK_EQUAL(aiopip_calls_drain(calls, &event, 1), 0);
    CHECK(!has_news());
    for (struct call *call = calls->free; call; call = call->next)
        count++;
    for (struct call *call = calls->given_back; call; call = call->next)
        count += atomic_load(&call->taken_back) && !call->keeps;
    CHECK_EQUAL(count, calls->chunks * CALLS_CHUNK);
    aiopip_calls_free(calls);
}

/* ---- What comes back --------------------------------------------------------------------------- */

static void finish_bytes(uint32_t call, const char *data, size_t data_bytes, const char *table,
                         size_t table_bytes, int lends)
{
    const struct aiopip_parcel result = {.data = (uintptr_t)data,
                                         .data_bytes = data_bytes,
                                         .table = (uintptr_t)table,
                                         .table_bytes = table_bytes};

    CHECK_EQUAL(take(0, AIOPIP_TAKE_CALL, 1), call);
    CHECK_EQUAL(aiopip_calls_finish(calls, 0, call, 0, &result), lends);
}

static void test_small_results_are_copied(void)
{
    char data[AIOPIP_RESULT_INLINE], table[4] = "abc";

    begin(1);
    memset(data, 'x', sizeof data);
    for (size_t bytes = sizeof data - 5; bytes <= sizeof data; bytes++) {
        bool lends = bytes + sizeof table > sizeof data;
        uint32_t call = push(AIOPIP_WORKER_ANY, 1);
        finish_bytes(call, data, bytes, table, sizeof table, lends);
        struct aiopip_call_event event = drain_one(AIOPIP_NEWS_DONE, call);
        CHECK_EQUAL(event.flags, lends ? AIOPIP_RESULT_LENDS : 0);
        CHECK_EQUAL(event.result.data == (uintptr_t)data, lends);
        CHECK_EQUAL(event.result.table == (uintptr_t)table, lends);
        CHECK_EQUAL(event.result.data_bytes, bytes);
        CHECK(memcmp((const char *)event.result.data, data, bytes) == 0);
        CHECK(memcmp((const char *)event.result.table, table, sizeof table) == 0);
        aiopip_calls_release(calls, call);
        if (lends)
            CHECK_EQUAL(take(0, AIOPIP_TAKE_RELEASED, 0), call);
    }
    uint32_t call = push(AIOPIP_WORKER_ANY, 1);
    finish_bytes(call, NULL, 0, NULL, 0, 0);
    drain_one(AIOPIP_NEWS_DONE, call);
    aiopip_calls_release(calls, call);
    end();
}

static void test_each_drain_leaves_the_rest_readable(void)
{
    enum {
        COUNT = 5
    };
    uint32_t numbers[COUNT];

    begin(1);
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = push(AIOPIP_WORKER_ANY, 1);
        CHECK_EQUAL(take(0, AIOPIP_TAKE_CALL, 1), numbers[i]);
        CHECK_EQUAL(finish(0, numbers[i], 0), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        drain_one(AIOPIP_NEWS_DONE, numbers[i]);
        aiopip_calls_release(calls, numbers[i]);
    }
    end();
}

static void test_full_queues_say_so(void)
{
    const int room[] = {CALLS_SHARED, CALLS_OWN};
    static uint32_t numbers[CALLS_SHARED];
    const struct aiopip_parcel nothing = {0};

    begin(1);
    for (int32_t i = 0; i < 6; i++) {
        int32_t target = i % 2 ? 0 : AIOPIP_WORKER_ANY;
        int count = room[i % 2];
        for (int j = 0; j < count; j++)
            numbers[j] = push(target, 1);
        CHECK_EQUAL(aiopip_calls_push(calls, target, &nothing), -EAGAIN);
        /* From the front, from behind: what was taken back needs no room. */
        for (int j = 0; j < count; j++)
            CHECK_EQUAL(aiopip_calls_revoke(calls, numbers[i < 2 ? j : count - 1 - j]), 0);
    }
    CHECK_EQUAL(calls->chunks, CALLS_SHARED / CALLS_CHUNK);
    end();
}

static void test_what_runs_is_not_taken_back(void)
{
    begin(1);
    uint32_t call = push(AIOPIP_WORKER_ANY, 1);
    CHECK_EQUAL(take(0, AIOPIP_TAKE_CALL, 1), call);
    CHECK_EQUAL(aiopip_calls_revoke(calls, call), -EBUSY);
    CHECK_EQUAL(finish(0, call, 0), 0);
    CHECK_EQUAL(aiopip_calls_revoke(calls, call), -EBUSY);
    drain_one(AIOPIP_NEWS_DONE, call);
    CHECK_EQUAL(aiopip_calls_revoke(calls, call), -EBUSY);
    aiopip_calls_release(calls, call);
    end();
}

/* Also when the block of one that was taken back is used again. */
static void test_calls_are_taken_in_their_order(void)
{
    begin(1);
    for (int32_t target = AIOPIP_WORKER_ANY; target < 1; target++) {
        uint32_t numbers[] = {push(target, 0), push(target, 1), push(target, 2)};
        CHECK_EQUAL(aiopip_calls_revoke(calls, numbers[0]), 0);
        CHECK_EQUAL(push(target, 3), numbers[0]);
        for (uintptr_t i = 1; i < 4; i++) {
            CHECK_EQUAL(take(0, AIOPIP_TAKE_CALL, i), numbers[i % 3]);
            finish(0, numbers[i % 3], 0);
            drain_one(AIOPIP_NEWS_DONE, numbers[i % 3]);
        }
        for (int i = 0; i < 3; i++)
            aiopip_calls_release(calls, numbers[i]);
    }
    end();
}

/* ---- Arguments that are kept, results that are lent -------------------------------------------- */

static void test_number_is_used_again_when_nobody_has_it(void)
{
    uint32_t others[CALLS_CHUNK];

    begin(1);
    uint32_t call = push(0, 1);
    take(0, AIOPIP_TAKE_CALL, 1);
    CHECK_EQUAL(finish(0, call, AIOPIP_RESULT_KEEPS | AIOPIP_RESULT_LENDS), 1);
    CHECK_EQUAL(drain_one(AIOPIP_NEWS_DONE, call).flags, AIOPIP_RESULT_KEEPS | AIOPIP_RESULT_LENDS);
    aiopip_calls_release(calls, call);
    /* The worker knows at once, though it has the arguments still: it may be the result that has. */
    CHECK_EQUAL(take(0, AIOPIP_TAKE_RELEASED, 0), call);
    for (int i = 0; i < CALLS_CHUNK; i++) {
        others[i] = push(AIOPIP_WORKER_ANY, 1);
        CHECK(others[i] != call);
    }
    CHECK_EQUAL(aiopip_calls_return(calls, 0, call), 0);
    drain_one(AIOPIP_NEWS_RETURNED, call);
    for (int i = 0; i < CALLS_CHUNK; i++)
        CHECK_EQUAL(aiopip_calls_revoke(calls, others[i]), 0);
    CHECK_EQUAL(calls->chunks, 2);
    end();
}

static void test_arguments_may_be_returned_first(void)
{
    begin(1);
    uint32_t call = push(0, 1);
    take(0, AIOPIP_TAKE_CALL, 1);
    CHECK_EQUAL(aiopip_calls_return(calls, 0, call), 0);
    CHECK_EQUAL(finish(0, call, AIOPIP_RESULT_KEEPS), 0);
    CHECK_EQUAL(drain_one(AIOPIP_NEWS_DONE, call).flags, 0);
    aiopip_calls_release(calls, call);
    end();
}

static void test_worker_that_is_doomed_takes_nothing_more(void)
{
    const struct timespec pause = {0, 100000000};
    int status;

    begin(2);
    uint32_t call = push(AIOPIP_WORKER_ANY, 1), other = push(AIOPIP_WORKER_ANY, 2);
    CHECK_EQUAL(aiopip_calls_doom(calls, call), -EAGAIN);
    take(0, AIOPIP_TAKE_CALL, 1);
    CHECK_EQUAL(aiopip_calls_doom(calls, call), 0);
    CHECK_EQUAL(aiopip_calls_doom(calls, call), 0);
    CHECK_EQUAL(aiopip_calls_taker(calls, call), 0);
    take(1, AIOPIP_TAKE_CALL, 2);
    finish(1, other, 0);
    CHECK_EQUAL(aiopip_calls_doom(calls, other), -EAGAIN);
    drain_one(AIOPIP_NEWS_DONE, other);
    aiopip_calls_release(calls, other);
    /* Its worker waits for its end: in a copy, for a thread could not be killed alone. */
    pid_t child = fork();
    if (child == 0) {
        finish(0, call, 0);
        _exit(1);
    }
    nanosleep(&pause, NULL);
    CHECK_EQUAL(waitpid(child, &status, WNOHANG), 0);
    CHECK_EQUAL(kill(child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    bury_one(0, AIOPIP_NEWS_LOST, call);
    bury(0);
    end();
}

/* ---- Workers that have died -------------------------------------------------------------------- */

/* At each point of its life, with one event at a time; undrained, drained, and drained in part. */
static void test_burying_tells_what_is_left(void)
{
    const struct aiopip_parcel nothing = {0};
    uint32_t numbers[4];

    for (int drained = 0; drained < 4; drained++) {
        begin(2);
        CHECK_EQUAL(aiopip_calls_ready(calls, 0, 0, &nothing), 0);
        for (uintptr_t i = 0; i < 4; i++)
            numbers[i] = push(0, i);
        take(0, AIOPIP_TAKE_CALL, 0);
        finish(0, numbers[0], AIOPIP_RESULT_LENDS | AIOPIP_RESULT_KEEPS);
        take(0, AIOPIP_TAKE_CALL, 1);
        aiopip_calls_return(calls, 0, numbers[0]);
        aiopip_calls_return(calls, 0, numbers[1]);
        finish(0, numbers[1], AIOPIP_RESULT_KEEPS);
        take(0, AIOPIP_TAKE_CALL, 2);
        for (int i = 0; i < drained; i++)
            drain_one(i ? i == 2 ? AIOPIP_NEWS_RETURNED : AIOPIP_NEWS_DONE : AIOPIP_NEWS_READY,
                      i ? numbers[0] : 0);
        /* Another one's stays. */
        uint32_t other = push(1, 1);
        take(1, AIOPIP_TAKE_CALL, 1);
        finish(1, other, 0);
        if (drained < 1)
            bury_one(0, AIOPIP_NEWS_READY, 0);
        if (drained < 2)
            bury_one(0, AIOPIP_NEWS_DONE, numbers[0]);
        if (drained < 3)
            bury_one(0, AIOPIP_NEWS_RETURNED, numbers[0]);
        bury_one(0, AIOPIP_NEWS_DONE, numbers[1]);
        bury_one(0, AIOPIP_NEWS_UNTAKEN, numbers[3]);
        bury_one(0, AIOPIP_NEWS_LOST, numbers[2]);
        aiopip_calls_release(calls, numbers[0]);
        bury(0);
        aiopip_calls_release(calls, numbers[1]);
        CHECK_EQUAL(aiopip_calls_push(calls, 0, &nothing), -ESRCH);
        drain_one(AIOPIP_NEWS_DONE, other);
        aiopip_calls_release(calls, other);
        CHECK_EQUAL(aiopip_calls_add_worker(calls), 0);
        bury(0);
        end();
    }
}

/* That they can be handed to another one as they were, whatever blocks they have. */
static void test_untaken_calls_come_in_their_order(void)
{
    begin(1);
    uint32_t first = push(0, 0), second = push(0, 1);
    CHECK_EQUAL(aiopip_calls_revoke(calls, first), 0);
    CHECK_EQUAL(push(0, 2), first);
    bury_one(0, AIOPIP_NEWS_UNTAKEN, second);
    bury_one(0, AIOPIP_NEWS_UNTAKEN, first);
    bury(0);
    end();
}

/* What it has lent is its successor's in no way. */
static void test_number_of_a_worker_is_used_again(void)
{
    uint32_t numbers[2];

    begin(1);
    for (int i = 0; i < 2; i++) {
        numbers[i] = push(0, 1);
        take(0, AIOPIP_TAKE_CALL, 1);
        finish(0, numbers[i], AIOPIP_RESULT_LENDS);
        drain_one(AIOPIP_NEWS_DONE, numbers[i]);
    }
    aiopip_calls_release(calls, numbers[0]);
    bury(0);
    CHECK_EQUAL(aiopip_calls_add_worker(calls), 0);
    CHECK_EQUAL(aiopip_calls_join(calls, 0, aiopip_calls_fd(calls)), 0);
    aiopip_calls_release(calls, numbers[1]);
    aiopip_calls_stop_worker(calls, 0);
    take(0, AIOPIP_TAKE_STOP, 0);
    bury(0);
    end();
}

/* ---- Forks ------------------------------------------------------------------------------------- */

static void try_in_child(const void *argument)
{
    const struct aiopip_parcel nothing = {0};
    struct aiopip_call_event event;
    uint32_t call = *(const uint32_t *)argument;

    CHECK_EQUAL(aiopip_calls_drain(calls, &event, 1), -ESRCH);
    CHECK_EQUAL(aiopip_calls_push(calls, AIOPIP_WORKER_ANY, &nothing), -ESRCH);
    CHECK_EQUAL(aiopip_calls_revoke(calls, call), -ESRCH);
    CHECK_EQUAL(aiopip_calls_add_worker(calls), -ESRCH);
    CHECK_EQUAL(aiopip_calls_bury_worker(calls, 0, &event, 1), -ESRCH);
    aiopip_calls_stop_worker(calls, 0);
    aiopip_calls_release(calls, call);
    aiopip_calls_free(calls);
    CHECK(has_news());
}

/* Also one that was made while a thread had the lock. */
static void test_child_by_fork_leaves_it_alone(void)
{
    begin(1);
    uint32_t call = push(0, 1);
    take(0, AIOPIP_TAKE_CALL, 1);
    finish(0, call, 0);
    pthread_mutex_lock(&calls->lock);
    check_in_child(try_in_child, &call);
    pthread_mutex_unlock(&calls->lock);
    drain_one(AIOPIP_NEWS_DONE, call);
    aiopip_calls_release(calls, call);
    end();
}

/* ---- Who is woken ------------------------------------------------------------------------------ */

static bool is_asleep(int32_t worker)
{
    return atomic_load(&calls->asleep[worker / 64]) >> worker % 64 & 1;
}

struct taker {
    int32_t worker;
    pthread_t thread;
    uint32_t call;
    bool ends_idle; /* it takes no more when it has been idle */
    int taken, idle;
    _Atomic bool over;
};

static void *take_one(void *argument)
{
    struct taker *self = argument;
    struct aiopip_parcel request;

    do
        self->taken = aiopip_calls_take(calls, self->worker, &self->call, &request);
    while (self->taken == AIOPIP_TAKE_IDLE && ++self->idle && !self->ends_idle);
    atomic_store(&self->over, true);
    return NULL;
}

static void start_taker(struct taker *taker, int32_t worker)
{
    *taker = (struct taker){.worker = worker};
    CHECK_EQUAL(pthread_create(&taker->thread, NULL, take_one, taker), 0);
}

static void await_taker(struct taker *taker, int taken)
{
    CHECK_SOON(atomic_load(&taker->over));
    CHECK_EQUAL(pthread_join(taker->thread, NULL), 0);
    CHECK_EQUAL(taker->taken, taken);
}

/* Behind each call, and not while there was none. */
static void test_who_is_idle_is_told_so_once(void)
{
    struct taker taker = {.worker = 0, .ends_idle = true};

    begin(1);
    for (int i = 0; i < 2; i++) {
        uint32_t call = push(AIOPIP_WORKER_ANY, 1);
        take(0, AIOPIP_TAKE_CALL, 1);
        finish(0, call, 0);
        drain_one(AIOPIP_NEWS_DONE, call);
        aiopip_calls_release(calls, call);
        atomic_store(&taker.over, false);
        CHECK_EQUAL(pthread_create(&taker.thread, NULL, take_one, &taker), 0);
        await_taker(&taker, AIOPIP_TAKE_IDLE);
    }
    start_taker(&taker, 0);
    CHECK_SOON(is_asleep(0));
    usleep(300000); /* longer than it takes to be called idle */
    uint32_t call = push(AIOPIP_WORKER_ANY, 1);
    await_taker(&taker, AIOPIP_TAKE_CALL);
    CHECK_EQUAL(taker.idle, 0);
    finish(0, call, 0);
    drain_one(AIOPIP_NEWS_DONE, call);
    aiopip_calls_release(calls, call);
    end();
}

/* The first is seen to spin, so that nobody is woken for a call; then something else comes to it. */
static void play_spinner_that_leaves(bool stops)
{
    struct taker first, second;

    begin(2);
    uint32_t lent = push(0, 1);
    take(0, AIOPIP_TAKE_CALL, 1);
    finish(0, lent, AIOPIP_RESULT_LENDS);
    drain_one(AIOPIP_NEWS_DONE, lent);
    start_taker(&second, 1);
    CHECK_SOON(is_asleep(1));
    kill_point_pause(KILL_AT_SPIN_BEGUN);
    start_taker(&first, 0);
    CHECK_SOON(kill_point_is_paused());
    uint32_t call = push(AIOPIP_WORKER_ANY, 1);
    CHECK(is_asleep(1));
    if (stops)
        aiopip_calls_stop_worker(calls, 0);
    else
        aiopip_calls_release(calls, lent);
    kill_point_resume();
    await_taker(&first, stops ? AIOPIP_TAKE_STOP : AIOPIP_TAKE_RELEASED);
    await_taker(&second, AIOPIP_TAKE_CALL);
    CHECK_EQUAL(second.call, call);
    finish(1, call, 0);
    drain_one(AIOPIP_NEWS_DONE, call);
    aiopip_calls_release(calls, call);
    if (stops)
        aiopip_calls_release(calls, lent);
    bury(0);
    end();
}

static void test_who_leaves_wakes_the_next_one(void)
{
    play_spinner_that_leaves(true);
    play_spinner_that_leaves(false);
}

static void do_nothing(int signal)
{
    (void)signal;
}

static void test_signals_interrupt_who_waits(void)
{
    const struct sigaction action = {.sa_handler = do_nothing};
    struct taker taker;

    begin(1);
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    start_taker(&taker, 0);
    CHECK_SOON(is_asleep(0));
    CHECK_SOON(pthread_kill(taker.thread, SIGUSR1) == 0 && atomic_load(&taker.over));
    await_taker(&taker, -EINTR);
    CHECK(!is_asleep(0));
    end();
}

/* Who is interrupted, and woken for a call at the same time, takes the call. */
static void test_signals_do_not_lose_a_call(void)
{
    const struct sigaction action = {.sa_handler = do_nothing};
    struct taker taker;

    begin(1);
    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    start_taker(&taker, 0);
    CHECK_SOON(is_asleep(0));
    kill_point_pause(KILL_AT_SLEEP_OVER);
    CHECK_SOON(pthread_kill(taker.thread, SIGUSR1) == 0 && kill_point_is_paused());
    uint32_t call = push(AIOPIP_WORKER_ANY, 1);
    kill_point_resume();
    await_taker(&taker, AIOPIP_TAKE_CALL);
    CHECK_EQUAL(taker.call, call);
    bury_one(0, AIOPIP_NEWS_LOST, call);
    bury(0);
    end();
}

/* One has looked at a call and is late: it was run meanwhile, and its number used again. */
static void test_who_is_late_takes_what_is_next(void)
{
    struct taker late;

    begin(2);
    uint32_t first = push(AIOPIP_WORKER_ANY, 1);
    kill_point_pause(KILL_AT_TAKE_LOOKED);
    start_taker(&late, 0);
    CHECK_SOON(kill_point_is_paused());
    kill_point_hook = NULL;
    CHECK_EQUAL(take(1, AIOPIP_TAKE_CALL, 1), first);
    finish(1, first, 0);
    drain_one(AIOPIP_NEWS_DONE, first);
    uint32_t second = push(AIOPIP_WORKER_ANY, 2);
    aiopip_calls_release(calls, first);
    CHECK_EQUAL(push(AIOPIP_WORKER_ANY, 3), first);
    kill_point_resume();
    await_taker(&late, AIOPIP_TAKE_CALL);
    CHECK_EQUAL(late.call, second);
    CHECK_EQUAL(take(1, AIOPIP_TAKE_CALL, 3), first);
    finish(1, first, 0);
    drain_one(AIOPIP_NEWS_DONE, first);
    aiopip_calls_release(calls, first);
    bury_one(0, AIOPIP_NEWS_LOST, second);
    bury(0);
    end();
}

struct finisher {
    int32_t worker;
    pthread_t thread;
    uint32_t call;
    _Atomic bool over;
};

static void *finish_one(void *argument)
{
    struct finisher *self = argument;

    finish(self->worker, self->call, 0);
    atomic_store(&self->over, true);
    return NULL;
}

/* A worker that finishes a call, and is stopped at a point on the way. */
static void start_finisher(struct finisher *finisher, int32_t worker, uint32_t call, int at)
{
    *finisher = (struct finisher){.worker = worker, .call = call};
    kill_point_pause(at);
    CHECK_EQUAL(pthread_create(&finisher->thread, NULL, finish_one, finisher), 0);
    CHECK_SOON(kill_point_is_paused());
}

static void await_finisher(struct finisher *finisher)
{
    kill_point_resume();
    CHECK_SOON(atomic_load(&finisher->over));
    CHECK_EQUAL(pthread_join(finisher->thread, NULL), 0);
}

/* The first has told of its call, and goes on when that was heard; the second has not come to tell. */
static void test_news_wait_for_no_worker_that_is_stopped(void)
{
    struct finisher first, second;
    uint32_t numbers[3];

    begin(3);
    for (uint32_t i = 0; i < 3; i++) {
        numbers[i] = push(AIOPIP_WORKER_ANY, i);
        take((int32_t)i, AIOPIP_TAKE_CALL, i);
    }
    start_finisher(&first, 0, numbers[0], KILL_AT_TELL_WRITTEN);
    drain_one(AIOPIP_NEWS_DONE, numbers[0]);
    await_finisher(&first);
    start_finisher(&second, 1, numbers[1], KILL_AT_TELL_LISTED);
    kill_point_hook = NULL;
    CHECK(!has_news());
    finish(2, numbers[2], 0);
    CHECK(has_news());
    await_finisher(&second);
    drain_one(AIOPIP_NEWS_DONE, numbers[1]);
    drain_one(AIOPIP_NEWS_DONE, numbers[2]);
    for (int i = 0; i < 3; i++)
        aiopip_calls_release(calls, numbers[i]);
    end();
}

/* ---- All at once ------------------------------------------------------------------------------- */

static void test_each_call_ends_once(void)
{
    struct worker *threads[THREADS];

    callers_begin(&owner, NULL);
    for (int i = 0; i < THREADS; i++)
        threads[i] = start_worker();
    for (uint64_t steps = 0; owner.done < CALLS; steps++) {
        if (!callers_step(&owner))
            callers_await(&owner);
        if (steps % STOP_EVERY != STOP_EVERY - 1 || owner.numbers > CALLS)
            continue;
        uint64_t index = calling_draw(&owner.random, THREADS);
        stop_worker(threads[index]);
        threads[index] = start_worker();
    }
    callers_await_all(&owner);
    for (int i = 0; i < THREADS; i++)
        stop_worker(threads[i]);
    printf("%lu done, %lu lent, %lu returned, %lu revoked, %lu untaken, %u chunks\n",
           (unsigned long)owner.done, (unsigned long)owner.lent, (unsigned long)owner.returned,
           (unsigned long)owner.revoked, (unsigned long)owner.untaken, owner.calls->chunks);
    CHECK_EQUAL(owner.lost, 0);
    CHECK(owner.lent && owner.returned && owner.revoked && owner.untaken && owner.failed);
    callers_finish(&owner);
    stop_worker(NULL);
}

int main(void)
{
    RUN(test_small_results_are_copied);
    RUN(test_each_drain_leaves_the_rest_readable);
    RUN(test_full_queues_say_so);
    RUN(test_what_runs_is_not_taken_back);
    RUN(test_calls_are_taken_in_their_order);
    RUN(test_number_is_used_again_when_nobody_has_it);
    RUN(test_arguments_may_be_returned_first);
    RUN(test_worker_that_is_doomed_takes_nothing_more);
    RUN(test_burying_tells_what_is_left);
    RUN(test_untaken_calls_come_in_their_order);
    RUN(test_number_of_a_worker_is_used_again);
    RUN(test_child_by_fork_leaves_it_alone);
    RUN(test_who_leaves_wakes_the_next_one);
    RUN(test_signals_interrupt_who_waits);
    RUN(test_who_is_idle_is_told_so_once);
    RUN(test_signals_do_not_lose_a_call);
    RUN(test_who_is_late_takes_what_is_next);
    RUN(test_news_wait_for_no_worker_that_is_stopped);
    RUN(test_each_call_ends_once);
    return 0;
}
