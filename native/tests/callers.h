/* SPDX-License-Identifier: BSD-2-Clause
 *
 * callers.h: the owner of a pool as the tests have it: one thread that hands out calls and sees that
 * each ends once, and another one that gives results back.
 */
#ifndef CALLERS_H
#define CALLERS_H

#include <poll.h>

#include "../src/calls.h"
#include "calling.h"

#define CALLERS_JOBS 256
#define CALLERS_HELD 64
#define CALLERS_WORKERS 8
#define CALLERS_EVENTS 16
#define CALLERS_CALLS 1024 /* more are never in use at once */

/* A result that was not given back. */
struct callers_held {
    uint64_t number;
    uint32_t call;
    const uint64_t *data, *table;
    size_t data_words;
    aiopip_hold *hold; /* of its memory, or NULL */
};

struct callers {
    aiopip_calls *calls;
    aiopip_peer *peer; /* NULL: workers are threads of ours */
    uint64_t random, numbers;
    struct job jobs[CALLERS_JOBS], *pushed[CALLERS_CALLS], *kept[CALLERS_CALLS];
    int out; /* calls that have not ended */
    bool serves[CALLERS_WORKERS], ready[CALLERS_WORKERS];
    uint64_t done, failed, lent, lost, untaken, revoked, returned, refused;

    _Atomic bool in_use[CALLERS_CALLS]; /* it has a result that was not given back */
    pthread_t releaser;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct callers_held held[CALLERS_HELD];
    int held_count;
    bool ends;
};

/* ---- Results ----------------------------------------------------------------------------------- */

static inline void callers_check_result(const struct callers_held *held)
{
    for (size_t i = 0; i < held->data_words; i++)
        CHECK_EQUAL(*(volatile const uint64_t *)&held->data[i], calling_word(held->number, i));
    CHECK_EQUAL(*(volatile const uint64_t *)held->table,
                calling_word(held->number, held->data_words));
}

static inline void callers_release(struct callers *self, const struct callers_held *held)
{
    callers_check_result(held);
    if (held->hold)
        aiopip_hold_release(held->hold);
    atomic_store(&self->in_use[held->call], false);
    aiopip_calls_release(self->calls, held->call);
}

/* Any of them; false when there is none. */
static inline bool callers_take_held(struct callers *self, struct callers_held *held)
{
    pthread_mutex_lock(&self->lock);
    bool any = self->held_count > 0;
    if (any) {
        uint64_t index = calling_draw(&self->random, (uint64_t)self->held_count);
        *held = self->held[index];
        self->held[index] = self->held[--self->held_count];
    }
    pthread_mutex_unlock(&self->lock);
    return any;
}

static inline bool callers_release_one(struct callers *self)
{
    struct callers_held held;
    bool any = callers_take_held(self, &held);

    if (any)
        callers_release(self, &held);
    return any;
}

static inline void callers_hold(struct callers *self, const struct callers_held *held)
{
    pthread_mutex_lock(&self->lock);
    while (self->held_count == CALLERS_HELD) {
        pthread_mutex_unlock(&self->lock);
        callers_release_one(self);
        pthread_mutex_lock(&self->lock);
    }
    self->held[self->held_count++] = *held;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

/* Half of what is held, the other half is the first thread's. */
static inline void *callers_release_some(void *argument)
{
    struct callers *self = argument;

    pthread_mutex_lock(&self->lock);
    while (!self->ends) {
        if (self->held_count < CALLERS_HELD / 2) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        struct callers_held held = self->held[0];
        self->held[0] = self->held[--self->held_count];
        pthread_mutex_unlock(&self->lock);
        callers_release(self, &held);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- Events ------------------------------------------------------------------------------------ */

static inline struct job *callers_end(struct callers *self, uint32_t call)
{
    CHECK(call < CALLERS_CALLS);
    struct job *job = self->pushed[call];
    CHECK(job != NULL && job->state == JOB_PUSHED && job->call == call);
    self->pushed[call] = NULL;
    self->out--;
    return job;
}

/* What a worker still reads of it is wrong. */
static inline void callers_free_job(struct job *job)
{
    atomic_store(&job->number, 0);
    job->state = JOB_FREE;
}

static inline void callers_hold_memory(struct callers *self, const struct callers_held *held,
                                       aiopip_hold **hold)
{
    size_t bytes = (held->data_words + 1) * sizeof(uint64_t);

    if (self->peer)
        CHECK_EQUAL(aiopip_hold_memory(self->peer, (uintptr_t)held->data, bytes, hold), 0);
    self->lent++;
}

static inline void callers_done(struct callers *self, const struct aiopip_call_event *event)
{
    struct job *job = callers_end(self, event->call);
    struct callers_held held = {.number = atomic_load(&job->number),
                                .call = event->call,
                                .data = (const uint64_t *)event->result.data,
                                .table = (const uint64_t *)event->result.table,
                                .data_words = event->result.data_bytes / sizeof(uint64_t)};

    CHECK_EQUAL(atomic_load(&job->begun), 1);
    CHECK(job->target < 0 || job->target == event->worker);
    CHECK_EQUAL(event->flags & AIOPIP_RESULT_FAILED, job->does & JOB_FAILS ? 1 : 0);
    CHECK(event->started_ns > 0 && event->started_ns <= event->ended_ns);
    CHECK_EQUAL(event->result.table_bytes, sizeof(uint64_t));
    self->done++;
    self->failed += event->flags & AIOPIP_RESULT_FAILED;
    if (event->flags & AIOPIP_RESULT_LENDS)
        callers_hold_memory(self, &held, &held.hold);
    job->state = JOB_KEPT;
    if (event->flags & AIOPIP_RESULT_KEEPS)
        self->kept[event->call] = job;
    else
        callers_free_job(job);
    atomic_store(&self->in_use[event->call], true);
    if (held.hold || calling_draw(&self->random, 2))
        callers_hold(self, &held);
    else
        callers_release(self, &held);
}

static inline void callers_handle(struct callers *self, const struct aiopip_call_event *event)
{
    CHECK(event->worker >= 0 && event->worker < CALLERS_WORKERS && self->serves[event->worker]);
    if (event->kind == AIOPIP_NEWS_READY) {
        CHECK(!self->ready[event->worker]);
        self->ready[event->worker] = true;
    } else if (event->kind == AIOPIP_NEWS_DONE) {
        callers_done(self, event);
    } else if (event->kind == AIOPIP_NEWS_RETURNED) {
        CHECK(self->kept[event->call] != NULL);
        callers_free_job(self->kept[event->call]);
        self->kept[event->call] = NULL;
        self->returned++;
    } else {
        struct job *job = callers_end(self, event->call);
        bool lost = event->kind == AIOPIP_NEWS_LOST;
        CHECK(lost || event->kind == AIOPIP_NEWS_UNTAKEN);
        CHECK(atomic_load(&job->begun) <= lost);
        CHECK(lost || job->target == event->worker);
        self->lost += lost;
        self->untaken += !lost;
        callers_free_job(job);
    }
}

static inline int callers_drain(struct callers *self, int count)
{
    struct aiopip_call_event events[CALLERS_EVENTS];
    int found = aiopip_calls_drain(self->calls, events, count);

    for (int i = 0; i < found; i++)
        callers_handle(self, &events[i]);
    return found;
}

static inline bool callers_has_news(struct callers *self, int timeout_ms)
{
    struct pollfd news = {aiopip_calls_fd(self->calls), POLLIN, 0};

    return poll(&news, 1, timeout_ms) > 0;
}

/* Wait for news by the descriptor alone, and take a few of them. */
static inline void callers_await(struct callers *self)
{
    CHECK(callers_has_news(self, CHECK_DEADLINE_S * 1000));
    callers_drain(self, 1 + (int)calling_draw(&self->random, CALLERS_EVENTS));
}

/* ---- Calls ------------------------------------------------------------------------------------- */

static inline struct job *callers_free_one(struct callers *self)
{
    uint64_t from = calling_draw(&self->random, CALLERS_JOBS);

    for (uint64_t i = 0; i < CALLERS_JOBS; i++)
        if (self->jobs[(from + i) % CALLERS_JOBS].state == JOB_FREE)
            return &self->jobs[(from + i) % CALLERS_JOBS];
    return NULL;
}

/* The job, or NULL: none is free, or the queue is full. */
static inline struct job *callers_push(struct callers *self, int32_t target, uint32_t does)
{
    struct job *job = callers_free_one(self);
    const struct aiopip_parcel request = {.data = (uintptr_t)job, .data_bytes = sizeof *job};

    if (!job)
        return NULL;
    atomic_store(&job->number, ++self->numbers);
    atomic_store(&job->begun, 0);
    job->does = does;
    job->target = target;
    int64_t call = aiopip_calls_push(self->calls, target, &request);
    if (call < 0) {
        CHECK_EQUAL(call, -EAGAIN);
        self->refused++;
        callers_free_job(job);
        return NULL;
    }
    CHECK(call < CALLERS_CALLS && !self->pushed[call] && !self->kept[call]);
    CHECK(!atomic_load(&self->in_use[call]));
    job->state = JOB_PUSHED;
    job->call = (uint32_t)call;
    self->pushed[call] = job;
    self->out++;
    return job;
}

static inline bool callers_revoke(struct callers *self, const struct job *job)
{
    int result = aiopip_calls_revoke(self->calls, job->call);

    CHECK(result == 0 || result == -EBUSY);
    if (result < 0)
        return false;
    CHECK_EQUAL(atomic_load(&job->begun), 0);
    callers_free_job(callers_end(self, job->call));
    self->revoked++;
    return true;
}

static inline uint32_t callers_draw_job(struct callers *self)
{
    static const uint32_t does[] = {0, 0, 0, JOB_LENDS, JOB_IS_LARGE, JOB_KEEPS, JOB_FAILS};
    uint64_t count = sizeof does / sizeof *does;

    return does[calling_draw(&self->random, count)] | does[calling_draw(&self->random, count)];
}

/* One that serves. */
static inline int32_t callers_draw_worker(struct callers *self)
{
    uint64_t from = calling_draw(&self->random, CALLERS_WORKERS);

    for (uint64_t i = 0; i < CALLERS_WORKERS; i++)
        if (self->serves[(from + i) % CALLERS_WORKERS])
            return (int32_t)((from + i) % CALLERS_WORKERS);
    return AIOPIP_WORKER_ANY;
}

/* Something at random; false: there are calls enough, and it is time to wait for news. */
static inline bool callers_step(struct callers *self)
{
    uint64_t draw = calling_draw(&self->random, 16);

    if (draw < 9) {
        int32_t target = draw < 2 ? callers_draw_worker(self) : AIOPIP_WORKER_ANY;
        return callers_push(self, target, callers_draw_job(self)) || !self->out;
    } else if (draw < 11) {
        struct job *job = &self->jobs[calling_draw(&self->random, CALLERS_JOBS)];
        if (job->state == JOB_PUSHED)
            callers_revoke(self, job);
    } else if (draw < 12) {
        callers_release_one(self);
    } else if (callers_has_news(self, 0)) {
        callers_drain(self, 1 + (int)calling_draw(&self->random, CALLERS_EVENTS));
    }
    return true;
}

static inline void callers_await_all(struct callers *self)
{
    while (self->out)
        callers_await(self);
}

/* ---- Workers ----------------------------------------------------------------------------------- */

static inline int32_t callers_add_worker(struct callers *self)
{
    int worker = aiopip_calls_add_worker(self->calls);

    CHECK(worker >= 0 && worker < CALLERS_WORKERS && !self->serves[worker]);
    self->serves[worker] = true;
    self->ready[worker] = false;
    return worker;
}

/* What it had said may or may not have been drained. */
static inline void callers_bury(struct callers *self, int32_t worker, int count)
{
    struct aiopip_call_event events[CALLERS_EVENTS];
    int found;

    do {
        found = aiopip_calls_bury_worker(self->calls, worker, events, count);
        for (int i = 0; i < found; i++) {
            CHECK_EQUAL(events[i].worker, worker);
            callers_handle(self, &events[i]);
        }
    } while (found == count);
    self->serves[worker] = false;
}

/* ---- Beginning and end ------------------------------------------------------------------------- */

static inline void callers_begin(struct callers *self, aiopip_peer *peer)
{
    *self = (struct callers){.peer = peer, .random = 4711};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    CHECK_EQUAL(aiopip_calls_new(&self->calls), 0);
    CHECK_EQUAL(pthread_create(&self->releaser, NULL, callers_release_some, self), 0);
}

/* Whether each call block is free, or would be found to be. */
static inline void callers_check_free(struct callers *self)
{
    struct aiopip_calls *calls = self->calls;
    uint32_t count = 0;

    for (struct call *call = calls->free; call; call = call->next)
        count++;
    for (struct call *call = calls->given_back; call; call = call->next)
        count += atomic_load(&call->taken_back) && !call->keeps;
    CHECK_EQUAL(count, calls->chunks * CALLS_CHUNK);
    CHECK(calls->chunks * CALLS_CHUNK <= CALLERS_CALLS);
}

/* All workers were buried, so that all has ended. */
static inline void callers_finish(struct callers *self)
{
    CHECK_EQUAL(self->out, 0);
    CHECK(!callers_has_news(self, 0) || callers_drain(self, 1) == 0);
    pthread_mutex_lock(&self->lock);
    self->ends = true;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    CHECK_EQUAL(pthread_join(self->releaser, NULL), 0);
    while (callers_release_one(self))
        ;
    for (int i = 0; i < CALLERS_CALLS; i++)
        CHECK(!self->kept[i] && !self->pushed[i]);
    callers_check_free(self);
    aiopip_calls_free(self->calls);
}

#endif
