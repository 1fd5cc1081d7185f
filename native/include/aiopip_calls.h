/* SPDX-License-Identifier: BSD-2-Clause
 *
 * aiopip_calls.h: calls of functions, handed from the owner of a pool to its workers and back.
 *
 * All of it lies in the owner's memory, which workers reach by its address: what a call is made of
 * (a pickle stream, and a table of the memory that it points to) is read where it was written, by
 * both sides.  Who is killed at any instruction leaves nothing locked: each call is claimed by one
 * compare-and-swap, and what a dead worker had is found by its owner.
 *
 * The owner is one process, any of its threads; a worker is one thread of another.  All functions
 * return 0 or a count, or -errno; in a child by fork the owner's do nothing (-ESRCH).
 */
#ifndef AIOPIP_CALLS_H
#define AIOPIP_CALLS_H

#include "aiopip.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aiopip_calls aiopip_calls;

/* At once; a worker's number is below it. */
#define AIOPIP_WORKERS 4096
#define AIOPIP_WORKER_ANY (-1)

/* What a result of this size or less costs its worker no memory of its own. */
#define AIOPIP_RESULT_INLINE 512

/* A pickle stream, and its table of buffers. */
struct aiopip_parcel {
    uintptr_t data;
    uint64_t data_bytes;
    uintptr_t table;
    uint64_t table_bytes;
};

enum aiopip_result_flags {
    AIOPIP_RESULT_FAILED = 1, /* it is an exception */
    AIOPIP_RESULT_LENDS = 2,  /* what it is made of stays in the worker's memory until
                               * aiopip_calls_release() */
    AIOPIP_RESULT_KEEPS = 4,  /* the worker has views of the arguments' memory; RETURNED follows */
};

enum aiopip_call_news {
    AIOPIP_NEWS_READY = 1, /* a worker waits for calls; flags and parcel: of what has started it */
    AIOPIP_NEWS_DONE,      /* a call has its result */
    AIOPIP_NEWS_RETURNED,  /* the worker has no view of a call's arguments any more; behind DONE */
    AIOPIP_NEWS_LOST,      /* a call that a worker had when it died */
    AIOPIP_NEWS_UNTAKEN,   /* a call for that worker alone, which it had not taken when it died */
};

struct aiopip_call_event {
    int32_t kind;                  /* enum aiopip_call_news */
    int32_t worker;                /* who had it */
    uint32_t call;                 /* of READY: nothing */
    uint32_t flags;                /* enum aiopip_result_flags */
    uint64_t started_ns, ended_ns; /* CLOCK_MONOTONIC, as the worker saw it; 0: it did not */
    struct aiopip_parcel result;
};

/* ---- The owner -------------------------------------------------------------------------------- */

/* Make a queue without workers.  -ENOMEM. */
AIOPIP_API int aiopip_calls_new(aiopip_calls **calls);

/* Free it: no worker lives any more, and no result is lent. */
AIOPIP_API void aiopip_calls_free(aiopip_calls *calls);

/* A descriptor that is readable when there is something to drain.  Owned by the queue. */
AIOPIP_API int aiopip_calls_fd(const aiopip_calls *calls);

/* Make room for a worker that is about to be started: its number.  -EAGAIN: there are AIOPIP_WORKERS;
 * -ENOMEM. */
AIOPIP_API int aiopip_calls_add_worker(aiopip_calls *calls);

/* Have a worker end when it has done what it does. */
AIOPIP_API void aiopip_calls_stop_worker(aiopip_calls *calls, int32_t worker);

/* A worker has died: what it had, and what it had said that was not drained, comes as events, up to
 * count of them; what it alone was to run comes in the order of its pushing.  Its number is free when
 * fewer have come. */
AIOPIP_API int aiopip_calls_bury_worker(aiopip_calls *calls, int32_t worker,
                                        struct aiopip_call_event *events, int count);

/* Hand out a call, to one worker or to whoever comes first; what the parcel points to stays until the
 * call has ended.  Its number, which another thread may find in an event before this returns; -EAGAIN:
 * too many wait, one of them has to be taken first; -ESRCH: the worker was buried; -ENOMEM. */
AIOPIP_API int64_t aiopip_calls_push(aiopip_calls *calls, int32_t worker,
                                     const struct aiopip_parcel *request);

/* Take a call back that no worker has begun.  0: it is gone; -EBUSY: it runs, or has run. */
AIOPIP_API int aiopip_calls_revoke(aiopip_calls *calls, uint32_t call);

/* Which worker runs a call.  -EAGAIN: none does: it waits, or has ended. */
AIOPIP_API int aiopip_calls_taker(aiopip_calls *calls, uint32_t call);

/* The same; and the worker takes no other call: it has to be killed now, for this one. */
AIOPIP_API int aiopip_calls_doom(aiopip_calls *calls, uint32_t call);

/* What workers have said, up to count of it; behind this the descriptor may be slept on: it stays
 * readable when there is more. */
AIOPIP_API int aiopip_calls_drain(aiopip_calls *calls, struct aiopip_call_event *events, int count);

/* The result of a call that came as DONE was read, or its memory is needed no more where it was lent:
 * the call's number may be used again, behind RETURNED where that follows.  Any thread. */
AIOPIP_API void aiopip_calls_release(aiopip_calls *calls, uint32_t call);

/* ---- Workers ---------------------------------------------------------------------------------- */

enum aiopip_take {
    AIOPIP_TAKE_CALL = 1,
    AIOPIP_TAKE_RELEASED, /* the result of *call is lent no more: its memory may go */
    AIOPIP_TAKE_STOP,
    AIOPIP_TAKE_IDLE, /* for a quarter of a second there was nothing; told once behind the others */
};

/* Become a worker.  event_fd: an eventfd of the owner, written to when it has something to drain.
 * -ELIBSCN: no queue of this version is there. */
AIOPIP_API int aiopip_calls_join(aiopip_calls *calls, int32_t worker, int32_t event_fd);

/* Say that calls may come, or that it cannot be started and why.  -errno of write(2). */
AIOPIP_API int aiopip_calls_ready(aiopip_calls *calls, int32_t worker, uint32_t flags,
                                  const struct aiopip_parcel *result);

/* Wait for something to do: enum aiopip_take.  -EINTR.  Blocks. */
AIOPIP_API int aiopip_calls_take(aiopip_calls *calls, int32_t worker, uint32_t *call,
                                 struct aiopip_parcel *request);

/* Hand over a result.  Up to AIOPIP_RESULT_INLINE bytes of it are copied, unless it LENDS, and it lends
 * if it is larger: 1: RELEASED will come, and what it points to stays until then; 0; -errno of write(2). */
AIOPIP_API int aiopip_calls_finish(aiopip_calls *calls, int32_t worker, uint32_t call,
                                   uint32_t flags, const struct aiopip_parcel *result);

/* There are no views of a call's arguments any more; of one that ends with KEEPS, once, before that or
 * behind it.  Any thread.  -errno of write(2). */
AIOPIP_API int aiopip_calls_return(aiopip_calls *calls, int32_t worker, uint32_t call);

#ifdef __cplusplus
}
#endif
#endif
