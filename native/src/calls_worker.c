/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls_worker.c: a worker's side of a pool's queue.
 *
 * No call is lost, whoever is killed when:
 *
 *     worker                                  owner
 *     sets its bit in `asleep`                pushes the call
 *     looks at all queues once more           looks for a spinner, or takes a bit and wakes
 *     sleeps, unless its bell has changed
 *
 * Each writes first, then looks.  Who spins looks at all queues again behind its spinning.  Whoever was
 * woken for a call, or was seen to spin, and leaves while more are there wakes the next one, whatever
 * it leaves with.  A worker that is killed before it does so is buried by the owner, who wakes another
 * one; and also the one whose bit it has taken, and which nobody else would wake.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

#define SPIN_FIRST_NS 10000 /* the first one, and the shortest */
#define SPIN_MOST_NS 200000
#define IDLE_NS 250000000

static struct call_worker *worker_of(struct aiopip_calls *calls, int32_t worker)
{
    return atomic_load(&calls->workers[worker]);
}

/* Take what a queue has, that of `target` alone or of all: NULL when there is nothing. */
static struct call *take_call(struct call_queue *queue, int32_t target, int32_t worker)
{
    for (;;) {
        uint64_t head = atomic_load(&queue->head), word = call_ready(target, head);
        if (head == atomic_load(&queue->tail))
            return NULL;
        struct call *call = atomic_load(&queue->ring[head % queue->room]);
        KILL_POINT(TAKE_LOOKED);
        bool ours =
            atomic_compare_exchange_strong(&call->word, &word, call_word(CALL_TAKEN, worker));
        if (ours)
            KILL_POINT(TAKE_CLAIMED);
        atomic_compare_exchange_strong(&queue->head, &head, head + 1);
        if (ours)
            return call;
    }
}

/* Whether it was asleep. */
static bool wake(struct aiopip_calls *calls, struct call_worker *self, int32_t worker)
{
    if (self)
        atomic_store(&self->waking, (uint32_t)worker + 1);
    KILL_POINT(WAKE_SAID);
    bool asleep = shared_take_bit(calls->asleep, (uint32_t)worker);
    KILL_POINT(WAKE_TAKEN);
    if (asleep)
        calls_wake(calls, worker);
    KILL_POINT(WAKE_RUNG);
    if (self)
        atomic_store(&self->waking, 0);
    KILL_POINT(WAKE_OVER);
    return asleep;
}

void calls_wake_one(struct aiopip_calls *calls, struct call_worker *self)
{
    for (int32_t i = 0; i < AIOPIP_WORKERS / 64; i++)
        for (uint64_t bits; (bits = atomic_load(&calls->asleep[i])) != 0;)
            if (wake(calls, self, i * 64 + __builtin_ctzll(bits)))
                return;
}

int aiopip_calls_join(aiopip_calls *calls, int32_t worker, int32_t event_fd)
{
    cpu_set_t processors;

    if (calls->magic != CALLS_MAGIC || calls->abi_version != AIOPIP_ABI_VERSION)
        return -ELIBSCN;
    struct call_worker *self = worker_of(calls, worker);
    self->event_fd = event_fd;
    /* With one processor nobody can push a call while we look for it. */
    self->is_alone =
        sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) == 1;
    self->spin_ns = self->is_alone ? 0 : SPIN_FIRST_NS;
    self->has_worked = false;
    self->asleep_since_ns = 0;
    return 0;
}

/* Put something on the owner's list, and tell the owner, who takes all at once, unless that was done in this
 * round: who has found the list empty may be stopped before it comes to tell.
 *
 *     worker                                     owner
 *     puts its note on the list                  reads the descriptor
 *     looks which round it is                    begins a round
 *     writes the descriptor                      takes the list
 *     sets `told` to that round
 *
 * Who finds `told` at its round finds a write behind which no round has begun.  If one begins in the midst,
 * `told` is of an older one, and the next worker tells again. */
static int tell(struct aiopip_calls *calls, struct call_worker *self, struct call_note *note)
{
    uint64_t one = 1;
    struct call_note *first = atomic_load(&calls->notes);

    do
        note->next = first;
    while (!atomic_compare_exchange_weak(&calls->notes, &first, note));
    uint32_t round = atomic_load(&calls->round) + 1; /* `told` is 0 at first */
    KILL_POINT(TELL_LISTED);
    if (first && atomic_load(&calls->told) == round)
        return 0;
    long result;
    do
        result = sys3(SYS_write, self->event_fd, (long)(uintptr_t)&one, sizeof one);
    while (result == -EINTR);
    KILL_POINT(TELL_WRITTEN);
    if (result < 0 && result != -EAGAIN)
        return (int)result;
    atomic_store(&calls->told, round);
    return 0;
}

int aiopip_calls_ready(aiopip_calls *calls, int32_t worker, uint32_t flags,
                       const struct aiopip_parcel *result)
{
    struct call_worker *self = worker_of(calls, worker);

    self->ready_flags = flags;
    self->ready_result = *result;
    self->ready.kind = AIOPIP_NEWS_READY;
    self->ready.worker = worker;
    return tell(calls, self, &self->ready);
}

/* ---- Waiting ---------------------------------------------------------------------------------- */

static bool has_something(struct aiopip_calls *calls, struct call_worker *self)
{
    return !call_queue_is_empty(&calls->queue) || !call_queue_is_empty(&self->own) ||
           atomic_load(&self->released) || atomic_load(&self->stop);
}

/* Look about for a short time, as one worker of a pool may: whether there is something. */
static bool spin(struct aiopip_calls *calls, struct call_worker *self, int32_t worker,
                 uint64_t begun_ns)
{
    uint32_t nobody = 0;
    bool found = false;

    if (!self->spin_ns ||
        !atomic_compare_exchange_strong(&calls->spinner, &nobody, (uint32_t)worker + 1))
        return false;
    KILL_POINT(SPIN_BEGUN);
    while (!found && calls_now_ns() - begun_ns < self->spin_ns) {
        for (int i = 0; i < 16; i++)
            __builtin_ia32_pause();
        found = has_something(calls, self);
    }
    if (found)
        KILL_POINT(SPIN_FOUND);
    atomic_store(&calls->spinner, 0);
    KILL_POINT(SPIN_OVER);
    return found;
}

/* How long to look about the next time: longer, if that would have found the call that we have slept for;
 * and shorter, if it could not.  Our waking does not count: who looks about does without. */
static void learn(struct call_worker *self, uint64_t pushed_ns)
{
    uint64_t since_ns = self->asleep_since_ns;
    uint64_t waited_ns = pushed_ns > since_ns ? pushed_ns - since_ns : 0;

    self->asleep_since_ns = 0;
    if (!since_ns)
        return;
    if (waited_ns > SPIN_MOST_NS)
        self->spin_ns = self->spin_ns > SPIN_FIRST_NS ? self->spin_ns / 2 : 0;
    else if (waited_ns > self->spin_ns)
        self->spin_ns = self->spin_ns ? self->spin_ns * 2 : SPIN_FIRST_NS;
    if (self->spin_ns > SPIN_MOST_NS)
        self->spin_ns = SPIN_MOST_NS;
}

/* Sleep until there may be something: 0; or when nobody has woken us -EINTR, AIOPIP_TAKE_IDLE. */
static int wait_for_more(struct aiopip_calls *calls, struct call_worker *self, int32_t worker)
{
    uint32_t bell = atomic_load(&self->bell);
    uint64_t begun_ns = self->is_alone ? 0 : calls_now_ns();
    const struct timespec patience = {0, IDLE_NS};
    int result = 0;

    if (spin(calls, self, worker, begun_ns))
        return 0;
    if (!self->asleep_since_ns)
        self->asleep_since_ns = begun_ns;
    shared_set_bit(calls->asleep, (uint32_t)worker);
    KILL_POINT(SLEEP_SAID);
    bool something = has_something(calls, self);
    KILL_POINT(SLEEP_LOOKED);
    if (!something)
        result = shared_futex_wait(&self->bell, bell, self->has_worked ? &patience : NULL);
    KILL_POINT(SLEEP_OVER);
    bool woken = !shared_take_bit(calls->asleep, (uint32_t)worker);
    if (result == -ETIMEDOUT && !woken) {
        self->has_worked = false;
        return AIOPIP_TAKE_IDLE;
    }
    return result == -EINTR && !woken ? -EINTR : 0;
}

/* A result that is lent no more. */
static struct call *next_released(struct call_worker *self)
{
    if (!self->to_tell)
        self->to_tell = atomic_exchange(&self->released, NULL);
    struct call *call = self->to_tell;
    if (call) {
        KILL_POINT(RELEASED_TAKEN);
        self->to_tell = atomic_load(&call->next_released);
    }
    return call;
}

/* What there is to do: enum aiopip_take, or 0. */
static int take(struct aiopip_calls *calls, struct call_worker *self, int32_t worker,
                uint32_t *number, struct aiopip_parcel *request)
{
    struct call *call = next_released(self);

    if (call) {
        *number = call->number;
        self->has_worked = true;
        atomic_store(&call->taken_back, 1); /* from here on it is the owner's */
        KILL_POINT(RELEASED_TOLD);
        return AIOPIP_TAKE_RELEASED;
    }
    if (atomic_load(&self->stop))
        return AIOPIP_TAKE_STOP;
    call = take_call(&self->own, worker, worker);
    if (!call)
        call = take_call(&calls->queue, AIOPIP_WORKER_ANY, worker);
    if (!call)
        return 0;
    KILL_POINT(TAKE_PASSED);
    call->started_ns = calls_now_ns();
    self->has_worked = true;
    learn(self, call->pushed_ns);
    KILL_POINT(TAKE_STARTED);
    *number = call->number;
    *request = call->request;
    return AIOPIP_TAKE_CALL;
}

int aiopip_calls_take(aiopip_calls *calls, int32_t worker, uint32_t *number,
                      struct aiopip_parcel *request)
{
    struct call_worker *self = worker_of(calls, worker);
    int taken;

    KILL_POINT(TAKE_ENTERED);
    while ((taken = take(calls, self, worker, number, request)) == 0) {
        int waited = wait_for_more(calls, self, worker);
        if (waited)
            return waited;
    }
    if (!call_queue_is_empty(&calls->queue))
        calls_wake_one(calls, self);
    KILL_POINT(TAKE_LEAVES);
    return taken;
}

/* ---- Results ---------------------------------------------------------------------------------- */

int aiopip_calls_finish(aiopip_calls *calls, int32_t worker, uint32_t number, uint32_t flags,
                        const struct aiopip_parcel *result)
{
    struct call *call = calls_at(calls, number);
    uint64_t taken = call_word(CALL_TAKEN, worker);
    size_t data_bytes = result->data_bytes, table_bytes = result->table_bytes;

    call->result = *result;
    if (data_bytes > sizeof call->room || table_bytes > sizeof call->room - data_bytes)
        flags |= AIOPIP_RESULT_LENDS;
    if (!(flags & AIOPIP_RESULT_LENDS)) {
        if (data_bytes)
            memcpy(call->room, (const void *)result->data, data_bytes);
        if (table_bytes)
            memcpy(call->room + data_bytes, (const void *)result->table, table_bytes);
        call->result.data = (uintptr_t)call->room;
        call->result.table = (uintptr_t)call->room + data_bytes;
    }
    call->flags = flags;
    call->done.kind = AIOPIP_NEWS_DONE;
    call->done.worker = worker;
    call->ended_ns = calls_now_ns();
    KILL_POINT(FINISH_FILLED);
    /* Killed behind this line, it has ended all the same: its owner finds it without the note. */
    if (!atomic_compare_exchange_strong(&call->word, &taken, call_word(CALL_DONE, worker)))
        for (;;) /* doomed: another call may not be hit by what was meant for this one */
            pause();
    KILL_POINT(FINISH_DONE);
    int error = tell(calls, worker_of(calls, worker), &call->done);
    return error < 0 ? error : (flags & AIOPIP_RESULT_LENDS) != 0;
}

int aiopip_calls_return(aiopip_calls *calls, int32_t worker, uint32_t number)
{
    struct call *call = calls_at(calls, number);

    call->returned.kind = AIOPIP_NEWS_RETURNED;
    call->returned.worker = worker;
    return tell(calls, worker_of(calls, worker), &call->returned);
}
