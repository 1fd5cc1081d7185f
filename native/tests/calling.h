/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calling.h: a worker of a pool as the tests have it, a thread of the test or a task (task_calls.c).
 *
 * A call's argument is a job in the owner's memory, which has a number of its own.  What comes out is
 * made of that number, so that whoever reads it too late, or that of another call, finds it wrong.
 */
#ifndef CALLING_H
#define CALLING_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "../src/kill_points.h"
#include "aiopip_calls.h"
#include "check.h"

#define CALLING_PAGE 4096
#define CALLING_WORDS (CALLING_PAGE / sizeof(uint64_t))
#define CALLING_LENT 16
#define CALLING_KEPT 32
#define CALLING_POISON 0xdeadUL

enum job_does {
    JOB_LENDS = 1,
    JOB_IS_LARGE = 2, /* it lends because of that */
    JOB_KEEPS = 4,
    JOB_FAILS = 8,
};

enum job_state {
    JOB_FREE,
    JOB_PUSHED,
    JOB_KEPT, /* it has ended, and its worker has views of it */
};

struct job {
    _Atomic uint64_t number; /* of each call another one; 0: it is nobody's */
    uint32_t does;           /* enum job_does */
    _Atomic uint32_t begun;  /* how often */
    enum job_state state;    /* the owner's, and the rest */
    uint32_t call;
    int32_t target;
};

struct calling {
    aiopip_calls *calls;
    int32_t worker;
    int event_fd;
    uint64_t random;

    uint64_t *pages;            /* one for each of lent */
    int64_t lent[CALLING_LENT]; /* the call, or -1 */
    pthread_t returner;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct calling_kept {
        uint32_t call;
        const struct job *job;
        uint64_t number;
    } kept[CALLING_KEPT];
    int kept_count, wanted; /* to be returned by the other thread */
    bool ends;
};

static inline uint64_t calling_word(uint64_t number, size_t index)
{
    return index ? (number + index) * 0x9e3779b97f4a7c15UL : number;
}

static inline uint64_t calling_draw(uint64_t *state, uint64_t below)
{
    return (check_random(state) >> 33) % below;
}

/* ---- Arguments that are kept ------------------------------------------------------------------- */

static inline void calling_return(struct calling *self, struct calling_kept kept)
{
    CHECK_EQUAL(atomic_load(&kept.job->number), kept.number);
    CHECK_EQUAL(aiopip_calls_return(self->calls, self->worker, kept.call), 0);
}

static inline struct calling_kept calling_pop_kept(struct calling *self)
{
    struct calling_kept kept = self->kept[0];

    self->kept[0] = self->kept[--self->kept_count];
    return kept;
}

/* The other thread of a worker: views may end in any. */
static inline void *calling_return_some(void *argument)
{
    struct calling *self = argument;

    pthread_mutex_lock(&self->lock);
    while (!self->ends) {
        if (!self->kept_count || !self->wanted) {
            pthread_cond_wait(&self->changed, &self->lock);
            continue;
        }
        self->wanted--;
        struct calling_kept kept = calling_pop_kept(self);
        pthread_mutex_unlock(&self->lock);
        calling_return(self, kept);
        pthread_mutex_lock(&self->lock);
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static inline void calling_return_one(struct calling *self)
{
    pthread_mutex_lock(&self->lock);
    bool any = self->kept_count > 0;
    struct calling_kept kept = any ? calling_pop_kept(self) : (struct calling_kept){0};
    pthread_mutex_unlock(&self->lock);
    if (any)
        calling_return(self, kept);
}

/* Before the call has ended, so that it may be returned first. */
static inline bool calling_keep(struct calling *self, uint32_t call, const struct job *job)
{
    pthread_mutex_lock(&self->lock);
    bool room = self->kept_count < CALLING_KEPT;
    if (room)
        self->kept[self->kept_count++] =
            (struct calling_kept){call, job, atomic_load(&job->number)};
    self->wanted += room && calling_draw(&self->random, 2);
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return room;
}

/* ---- Calls ------------------------------------------------------------------------------------- */

static inline void calling_run(struct calling *self, uint32_t call, struct job *job)
{
    uint64_t number = atomic_load(&job->number), small[2], *data = small;
    uint32_t flags = job->does & JOB_FAILS ? AIOPIP_RESULT_FAILED : 0, entry = CALLING_LENT;
    size_t words = 2;

    CHECK(number != 0);
    atomic_fetch_add(&job->begun, 1);
    if (job->does & (JOB_LENDS | JOB_IS_LARGE))
        for (entry = 0; entry < CALLING_LENT && self->lent[entry] >= 0;)
            entry++;
    if (entry < CALLING_LENT) {
        data = self->pages + entry * CALLING_WORDS;
        words = job->does & JOB_IS_LARGE ? CALLING_WORDS : 2;
        flags |= job->does & JOB_LENDS ? AIOPIP_RESULT_LENDS : 0;
        self->lent[entry] = call;
    }
    for (size_t i = 0; i < words; i++)
        data[i] = calling_word(number, i);
    if (job->does & JOB_KEEPS && calling_keep(self, call, job))
        flags |= AIOPIP_RESULT_KEEPS;
    const struct aiopip_parcel result = {.data = (uintptr_t)data,
                                         .data_bytes = (words - 1) * sizeof *data,
                                         .table = (uintptr_t)(data + words - 1),
                                         .table_bytes = sizeof *data};
    int finished = aiopip_calls_finish(self->calls, self->worker, call, flags, &result);
    CHECK_EQUAL(finished, entry < CALLING_LENT);
}

/* From here on nobody reads it. */
static inline void calling_take_back(struct calling *self, uint32_t call)
{
    int entry = 0;

    while (entry < CALLING_LENT && self->lent[entry] != call)
        entry++;
    CHECK(entry < CALLING_LENT);
    for (size_t i = 0; i < CALLING_WORDS; i++)
        self->pages[(size_t)entry * CALLING_WORDS + i] = CALLING_POISON;
    self->lent[entry] = -1;
}

/* ---- The worker -------------------------------------------------------------------------------- */

static inline void calling_begin(struct calling *self)
{
    self->pages = mmap(NULL, (size_t)CALLING_LENT * CALLING_PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(self->pages != MAP_FAILED);
    memset(self->lent, -1, sizeof self->lent);
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    CHECK_EQUAL(pthread_create(&self->returner, NULL, calling_return_some, self), 0);
    CHECK_EQUAL(aiopip_calls_join(self->calls, self->worker, self->event_fd), 0);
}

/* Its memory stays: the owner may have some of it. */
static inline void calling_end(struct calling *self)
{
    pthread_mutex_lock(&self->lock);
    self->ends = true;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    CHECK_EQUAL(pthread_join(self->returner, NULL), 0);
}

/* Until it is told to stop. */
static inline void calling_serve(struct calling *self)
{
    const struct aiopip_parcel nothing = {0};
    struct aiopip_parcel request;
    uint32_t call;
    int taken;

    CHECK_EQUAL(aiopip_calls_ready(self->calls, self->worker, 0, &nothing), 0);
    while ((taken = aiopip_calls_take(self->calls, self->worker, &call, &request)) !=
           AIOPIP_TAKE_STOP) {
        if (taken == AIOPIP_TAKE_RELEASED) {
            calling_take_back(self, call);
        } else if (taken == AIOPIP_TAKE_CALL) {
            CHECK_EQUAL(request.data_bytes, sizeof(struct job));
            calling_run(self, call, (struct job *)request.data);
        } else {
            CHECK(taken == -EINTR || taken == AIOPIP_TAKE_IDLE);
        }
        if (calling_draw(&self->random, 4) == 0)
            calling_return_one(self);
    }
}

/* ---- One that is a task ------------------------------------------------------------------------ */

/* In the owner's memory. */
struct calling_order {
    aiopip_calls *calls;
    int32_t worker;
    uint64_t seed;
    uint32_t stop_at, stop_nth; /* it kills itself there; nth 0: nowhere */
    _Atomic uint32_t reached[KILL_POINTS_END];
};

#endif
