/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls.h: the queue of a pool as it lies in its owner's memory.
 *
 * A call goes through these states, one word of it:
 *
 *     FREE --push (owner)--> READY --claim (a worker)--> TAKEN --finish (that worker)--> DONE
 *       ^                      |                           |                              |
 *       +----revoke (owner)----+-------bury (owner)--------+-----------release (owner)----+
 *
 * The word names the worker, too: of READY the one that it is meant for, or nobody, and its place in
 * that queue.  So whoever has read an old pointer from a ring, and is late, claims nothing, though the
 * call is used again: who waits longest is taken first.  Calls are never unmapped while there are
 * workers.
 */
#ifndef CALLS_H
#define CALLS_H

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "aiopip_calls.h"
#include "kill_points.h"
#include "shared.h"

#define CALLS_MAGIC 0x534c4c4143504941UL
#define CALLS_SHARED 1024 /* in the queue for all workers */
#define CALLS_OWN 64      /* in the queue of each */
#define CALLS_CHUNK 64
#define CALLS_CHUNKS 16384

enum call_state {
    CALL_FREE,
    CALL_READY,
    CALL_TAKEN,
    CALL_DOOMED, /* taken, and its worker is about to be killed for it */
    CALL_DONE,
};

/* Something that a worker has said; it lies in what it is about. */
struct call_note {
    struct call_note *next;
    int32_t kind; /* enum aiopip_call_news */
    int32_t worker;
};

struct call {
    _Atomic uint64_t word;        /* call_word(), call_ready() */
    _Atomic uint32_t taken_back;  /* the worker: it knows that the result is lent no more */
    uint32_t number;              /* the owner, once */
    struct aiopip_parcel request; /* the owner, before READY */
    struct call *next;            /* the owner: of the free ones, of those that are given back */
    _Atomic(struct call *) next_released; /* the owner, before it is on a worker's list */

    /* The worker, before DONE. */
    struct aiopip_parcel result;
    uint32_t flags;
    uint64_t pushed_ns, started_ns, ended_ns;
    struct call_note done;
    struct call_note returned; /* before it is on the list of notes */

    /* The owner, under its lock. */
    uint64_t ready; /* the word that it was pushed with */
    int32_t worker; /* who has it, or had it and lives; else -1 */
    bool delivered, released, keeps, returned_before;
    unsigned char room[AIOPIP_RESULT_INLINE]; /* the worker: a small result */
};

#define CALL_WORKER_SHIFT 4
#define CALL_PLACE_SHIFT 20

static inline uint64_t calls_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t call_word(enum call_state state, int32_t worker)
{
    return (uint64_t)state | (uint64_t)(worker + 1) << CALL_WORKER_SHIFT;
}

static inline enum call_state call_state(uint64_t word)
{
    return (enum call_state)(word & ((1U << CALL_WORKER_SHIFT) - 1));
}

/* READY for a worker, or for any, as what stands there in its queue. */
static inline uint64_t call_ready(int32_t worker, uint64_t place)
{
    return call_word(CALL_READY, worker) | place << CALL_PLACE_SHIFT;
}

/* One that pushes, any number that take.  head: who has taken what stands there, or finds it taken,
 * counts up; so it may lag behind one that was killed in between, and the next one helps.  Neither
 * ever comes round again: who was stopped for days counts up nothing that is another's. */
struct call_queue {
    _Atomic uint64_t head;
    _Atomic uint64_t tail; /* the owner */
    uint32_t room;
    _Atomic(struct call *) *ring;
};

struct call_worker {
    _Alignas(64) _Atomic uint32_t bell; /* futex; the owner adds */
    _Atomic uint32_t stop;              /* the owner */
    _Atomic(struct call *) released;    /* the owner puts there, the worker takes all */
    bool alive;                         /* the owner */
    struct call_queue own;
    _Atomic(struct call *) ring[CALLS_OWN];

    /* The worker. */
    struct call_note ready;
    uint32_t ready_flags;
    struct aiopip_parcel ready_result;
    struct call *to_tell;    /* taken from `released`, not told yet */
    _Atomic uint32_t waking; /* the number + 1 of a worker whose bit we take, until it is woken */
    int32_t event_fd;
    uint64_t spin_ns;         /* how long it looks about before it sleeps */
    bool is_alone;            /* it never does: there is one processor */
    bool has_worked;          /* and was not told since that it is idle */
    uint64_t asleep_since_ns; /* with what it has looked about before; 0: not since its last call */
};

struct aiopip_calls {
    uint64_t magic;
    uint32_t abi_version;
    int32_t event_fd; /* the owner's */
    int32_t pid;      /* likewise */
    struct call_queue queue;
    _Atomic(struct call *) ring[CALLS_SHARED];
    _Atomic uint32_t spinner;                     /* a worker's number + 1, while it looks about */
    _Atomic uint64_t asleep[AIOPIP_WORKERS / 64]; /* a worker sets its bit, who wakes it clears */
    _Atomic(struct call_worker *)
        workers[AIOPIP_WORKERS];                    /* the owner; never freed before the end */
    _Alignas(64) _Atomic(struct call_note *) notes; /* workers put there, the owner takes all */
    _Atomic uint32_t round;                         /* the owner counts what it has taken */
    _Atomic uint32_t told;                          /* who has told it: the round that is for */

    pthread_mutex_t lock;           /* of the owner's threads, for all that follows */
    struct call_note *rest;         /* taken from `notes`, not told yet; the oldest first */
    struct call *free, *given_back; /* the latter wait for their workers to know */
    uint32_t workers_used, chunks;
    struct call *chunk[CALLS_CHUNKS];
};

/* Nobody has a call any more.  The owner, under its lock. */
void calls_set_free(struct aiopip_calls *calls, struct call *call);

/* Wake a worker that sleeps, if one does.  self: the worker that does it; NULL: the owner. */
void calls_wake_one(struct aiopip_calls *calls, struct call_worker *self);

/* Whether this is the owner, not a child of its by fork. */
static inline bool calls_is_ours(const struct aiopip_calls *calls)
{
    return calls->pid == getpid();
}

static inline struct call *calls_at(struct aiopip_calls *calls, uint32_t number)
{
    return &calls->chunk[number / CALLS_CHUNK][number % CALLS_CHUNK];
}

static inline bool call_queue_is_empty(const struct call_queue *queue)
{
    return atomic_load(&queue->head) == atomic_load(&queue->tail);
}

static inline void calls_wake(struct aiopip_calls *calls, int32_t worker)
{
    _Atomic uint32_t *bell = &atomic_load(&calls->workers[worker])->bell;

    atomic_fetch_add(bell, 1);
    KILL_POINT(WAKE_ADDED);
    shared_futex_wake(bell, 1);
}

static inline void calls_wake_if_asleep(struct aiopip_calls *calls, int32_t worker)
{
    if (shared_take_bit(calls->asleep, (uint32_t)worker))
        calls_wake(calls, worker);
}

#endif
