/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls.c: the owner's side of a pool's queue.
 *
 * The lock is among the owner's threads: results are given back by finalisers, which run in any.  No
 * worker ever takes it.  A child by fork has a copy, in which the lock may be taken for ever, and the
 * descriptor itself: it leaves both alone.
 */
#include "calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static bool is_ours(const struct aiopip_calls *calls)
{
    return calls->pid == getpid();
}

int aiopip_calls_new(aiopip_calls **calls)
{
    struct aiopip_calls *made = aligned_alloc(64, align_up(sizeof *made, 64));

    if (!made)
        return -ENOMEM;
    memset(made, 0, sizeof *made);
    made->magic = CALLS_MAGIC;
    made->pid = getpid();
    made->abi_version = AIOPIP_ABI_VERSION;
    made->queue.room = CALLS_SHARED;
    made->queue.ring = made->ring;
    made->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->event_fd < 0) {
        int error = -errno;
        free(made);
        return error;
    }
    pthread_mutex_init(&made->lock, NULL);
    *calls = made;
    return 0;
}

void aiopip_calls_free(aiopip_calls *calls)
{
    if (!is_ours(calls))
        return;
    for (uint32_t i = 0; i < calls->workers_used; i++)
        free(atomic_load(&calls->workers[i]));
    for (uint32_t i = 0; i < calls->chunks; i++)
        free(calls->chunk[i]);
    close(calls->event_fd);
    pthread_mutex_destroy(&calls->lock);
    free(calls);
}

int aiopip_calls_fd(const aiopip_calls *calls)
{
    return calls->event_fd;
}

/* ---- Calls that are not in use ---------------------------------------------------------------- */

static struct call *call_of(struct aiopip_calls *calls, uint32_t number)
{
    return &calls->chunk[number / CALLS_CHUNK][number % CALLS_CHUNK];
}

static void set_free(struct aiopip_calls *calls, struct call *call)
{
    atomic_store(&call->word, call_word(CALL_FREE, -1));
    call->worker = -1;
    call->next = calls->free;
    calls->free = call;
}

/* Those whose workers know by now that they are given back. */
static void take_back(struct aiopip_calls *calls)
{
    for (struct call **at = &calls->given_back, *call; (call = *at) != NULL;) {
        if (atomic_load(&call->taken_back) && !call->keeps) {
            *at = call->next;
            set_free(calls, call);
        } else {
            at = &call->next;
        }
    }
}

static int add_chunk(struct aiopip_calls *calls)
{
    if (calls->chunks == CALLS_CHUNKS)
        return -ENOMEM;
    struct call *chunk = calloc(CALLS_CHUNK, sizeof *chunk);
    if (!chunk)
        return -ENOMEM;
    uint32_t first = calls->chunks * CALLS_CHUNK;
    calls->chunk[calls->chunks++] = chunk;
    for (uint32_t i = CALLS_CHUNK; i-- > 0;) {
        chunk[i].number = first + i;
        set_free(calls, &chunk[i]);
    }
    return 0;
}

static struct call *new_call(struct aiopip_calls *calls)
{
    if (!calls->free)
        take_back(calls);
    if (!calls->free && add_chunk(calls) < 0)
        return NULL;
    struct call *call = calls->free;
    calls->free = call->next;
    call->delivered = call->released = call->keeps = call->returned_before = false;
    call->started_ns = call->ended_ns = 0;
    atomic_store(&call->taken_back, 0);
    return call;
}

/* ---- Handing out ------------------------------------------------------------------------------ */

/* Whether there is room behind the tail; calls that were taken back need none any more. */
static bool has_room(struct call_queue *queue, int32_t worker)
{
    uint64_t tail = atomic_load(&queue->tail);

    for (;;) {
        uint64_t head = atomic_load(&queue->head);
        if (tail - head < queue->room)
            return true;
        struct call *call = atomic_load(&queue->ring[head % queue->room]);
        if (atomic_load(&call->word) == call_ready(worker, head))
            return false;
        atomic_compare_exchange_strong(&queue->head, &head, head + 1);
    }
}

/* Behind the tail; see calls_worker.c for who wakes whom. */
static void put(struct call_queue *queue, struct call *call, int32_t worker)
{
    uint64_t tail = atomic_load(&queue->tail);

    call->ready = call_ready(worker, tail);
    atomic_store(&call->word, call->ready);
    atomic_store(&queue->ring[tail % queue->room], call);
    atomic_store(&queue->tail, tail + 1);
}

static void wake_if_asleep(struct aiopip_calls *calls, int32_t worker)
{
    if (shared_take_bit(calls->asleep, (uint32_t)worker))
        calls_wake(calls, worker);
}

static int64_t push(struct aiopip_calls *calls, int32_t worker, const struct aiopip_parcel *request)
{
    struct call_worker *target = worker < 0 ? NULL : atomic_load(&calls->workers[worker]);
    struct call_queue *queue = target ? &target->own : &calls->queue;

    if (target && !target->alive)
        return -ESRCH;
    if (!has_room(queue, worker))
        return -EAGAIN;
    struct call *call = new_call(calls);
    if (!call)
        return -ENOMEM;
    call->request = *request;
    call->worker = worker;
    put(queue, call, worker);
    return call->number;
}

int64_t aiopip_calls_push(aiopip_calls *calls, int32_t worker, const struct aiopip_parcel *request)
{
    if (!is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    int64_t result = push(calls, worker, request);
    pthread_mutex_unlock(&calls->lock);
    if (result >= 0 && worker >= 0)
        wake_if_asleep(calls, worker);
    else if (result >= 0 && !atomic_load(&calls->spinner))
        calls_wake_one(calls, NULL);
    return result;
}

int aiopip_calls_revoke(aiopip_calls *calls, uint32_t number)
{
    int result = -EBUSY;

    if (!is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    struct call *call = call_of(calls, number);
    uint64_t ready = call->ready;
    if (atomic_compare_exchange_strong(&call->word, &ready, call_word(CALL_FREE, -1))) {
        set_free(calls, call);
        result = 0;
    }
    pthread_mutex_unlock(&calls->lock);
    return result;
}

int aiopip_calls_taker(aiopip_calls *calls, uint32_t number)
{
    uint32_t word = atomic_load(&call_of(calls, number)->word);

    return (word & CALL_STATE_MASK) == CALL_TAKEN ? (int)(word >> CALL_WORKER_SHIFT) - 1 : -EAGAIN;
}

/* ---- What workers say ------------------------------------------------------------------------- */

static struct call *call_of_note(const struct call_note *note)
{
    size_t offset = note->kind == AIOPIP_NEWS_DONE ? offsetof(struct call, done)
                                                   : offsetof(struct call, returned);
    return (struct call *)((char *)note - offset);
}

/* Put what has been said behind the rest. */
static void collect_notes(struct aiopip_calls *calls)
{
    struct call_note **end = &calls->rest;
    uint64_t count;

    /* First the descriptor, then the list: what comes in between writes to it again. */
    sys3(SYS_read, calls->event_fd, (long)(uintptr_t)&count, sizeof count);
    struct call_note *note = atomic_exchange(&calls->notes, NULL), *first = NULL;
    while (note) {
        struct call_note *next = note->next;
        note->next = first;
        first = note;
        note = next;
    }
    while (*end)
        end = &(*end)->next;
    *end = first;
}

/* What is left of it makes the descriptor readable again. */
static void tell_of_rest(struct aiopip_calls *calls)
{
    uint64_t one = 1;

    if (calls->rest)
        sys3(SYS_write, calls->event_fd, (long)(uintptr_t)&one, sizeof one);
}

/* Whether its worker has to know that the result is given back. */
static bool is_lent(const struct call *call)
{
    return call->flags & AIOPIP_RESULT_LENDS && call->worker >= 0;
}

/* Nobody has it any more: neither the owner its result, nor the worker its arguments.  One that is
 * given back is freed by take_back(). */
static void free_if_over(struct aiopip_calls *calls, struct call *call)
{
    if (call->released && !call->keeps && !is_lent(call))
        set_free(calls, call);
}

/* At once, whatever the worker keeps: it may be the result that refers to the arguments. */
static void give_back(struct aiopip_calls *calls, struct call *call)
{
    struct call_worker *worker = atomic_load(&calls->workers[call->worker]);
    struct call *first = atomic_load(&worker->released);
    do
        atomic_store(&call->next_released, first);
    while (!atomic_compare_exchange_weak(&worker->released, &first, call));
    call->next = calls->given_back;
    calls->given_back = call;
    wake_if_asleep(calls, call->worker);
}

static void tell_done(struct call *call, int32_t worker, struct aiopip_call_event *event)
{
    if (call->returned_before)
        call->flags &= ~(uint32_t)AIOPIP_RESULT_KEEPS;
    call->delivered = true;
    call->worker = worker;
    call->keeps = call->flags & AIOPIP_RESULT_KEEPS;
    *event = (struct aiopip_call_event){.kind = AIOPIP_NEWS_DONE,
                                        .worker = worker,
                                        .call = call->number,
                                        .flags = call->flags,
                                        .started_ns = call->started_ns,
                                        .ended_ns = call->ended_ns,
                                        .result = call->result};
}

/* Whether there is something to tell: not before its result, which says then that nothing is kept. */
static bool tell_returned(struct aiopip_calls *calls, struct call *call, int32_t worker,
                          struct aiopip_call_event *event)
{
    call->returned_before = !call->delivered;
    if (call->returned_before)
        return false;
    *event = (struct aiopip_call_event){
        .kind = AIOPIP_NEWS_RETURNED, .worker = worker, .call = call->number};
    call->keeps = false;
    free_if_over(calls, call);
    return true;
}

static void tell_ready(struct aiopip_calls *calls, int32_t worker, struct aiopip_call_event *event)
{
    const struct call_worker *self = atomic_load(&calls->workers[worker]);

    *event = (struct aiopip_call_event){.kind = AIOPIP_NEWS_READY,
                                        .worker = worker,
                                        .flags = self->ready_flags,
                                        .result = self->ready_result};
}

/* How many events come of a note: 0 or 1. */
static int tell_note(struct aiopip_calls *calls, const struct call_note *note,
                     struct aiopip_call_event *event)
{
    if (note->kind == AIOPIP_NEWS_RETURNED)
        return tell_returned(calls, call_of_note(note), note->worker, event);
    if (note->kind == AIOPIP_NEWS_READY)
        tell_ready(calls, note->worker, event);
    else
        tell_done(call_of_note(note), note->worker, event);
    return 1;
}

int aiopip_calls_drain(aiopip_calls *calls, struct aiopip_call_event *events, int count)
{
    int found = 0;

    if (!is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    while (found < count) {
        if (!calls->rest)
            collect_notes(calls);
        struct call_note *note = calls->rest;
        if (!note)
            break;
        calls->rest = note->next;
        found += tell_note(calls, note, &events[found]);
    }
    tell_of_rest(calls);
    pthread_mutex_unlock(&calls->lock);
    return found;
}

void aiopip_calls_release(aiopip_calls *calls, uint32_t number)
{
    if (!is_ours(calls))
        return;
    pthread_mutex_lock(&calls->lock);
    struct call *call = call_of(calls, number);
    call->released = true;
    if (is_lent(call))
        give_back(calls, call);
    else
        free_if_over(calls, call);
    pthread_mutex_unlock(&calls->lock);
}

/* ---- Workers ---------------------------------------------------------------------------------- */

/* A number that is free, and the room for its worker: -EAGAIN, -ENOMEM. */
static int free_worker(struct aiopip_calls *calls)
{
    for (uint32_t i = 0; i < calls->workers_used; i++)
        if (!atomic_load(&calls->workers[i])->alive)
            return (int)i;
    if (calls->workers_used == AIOPIP_WORKERS)
        return -EAGAIN;
    struct call_worker *made = aligned_alloc(64, align_up(sizeof *made, 64));
    if (!made)
        return -ENOMEM;
    atomic_store(&calls->workers[calls->workers_used], made);
    return (int)calls->workers_used++;
}

int aiopip_calls_add_worker(aiopip_calls *calls)
{
    if (!is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    int number = free_worker(calls);
    if (number >= 0) {
        struct call_worker *worker = atomic_load(&calls->workers[number]);
        *worker = (struct call_worker){.alive = true};
        worker->own.room = CALLS_OWN;
        worker->own.ring = worker->ring;
    }
    pthread_mutex_unlock(&calls->lock);
    return number;
}

void aiopip_calls_stop_worker(aiopip_calls *calls, int32_t worker)
{
    if (!is_ours(calls))
        return;
    atomic_store(&atomic_load(&calls->workers[worker])->stop, 1);
    wake_if_asleep(calls, worker);
}

/* What was for a dead worker alone, in its order. */
static int bury_queue(struct aiopip_calls *calls, int32_t worker, struct aiopip_call_event *events,
                      int count)
{
    struct call_queue *queue = &atomic_load(&calls->workers[worker])->own;
    uint64_t place = atomic_load(&queue->head);
    int found = 0;

    for (; found < count && place != atomic_load(&queue->tail); place++) {
        struct call *call = atomic_load(&queue->ring[place % queue->room]);
        if (atomic_load(&call->word) != call_ready(worker, place))
            continue;
        events[found++] = (struct aiopip_call_event){
            .kind = AIOPIP_NEWS_UNTAKEN, .worker = worker, .call = call->number};
        set_free(calls, call);
    }
    atomic_store(&queue->head, place);
    return found;
}

/* What becomes of a call that a dead worker had: whether there is something to tell. */
static bool bury(struct aiopip_calls *calls, struct call *call, int32_t worker,
                 struct aiopip_call_event *event)
{
    uint64_t word = atomic_load(&call->word);

    if (word == call_word(CALL_TAKEN, worker)) {
        *event = (struct aiopip_call_event){.kind = AIOPIP_NEWS_LOST,
                                            .worker = worker,
                                            .call = call->number,
                                            .started_ns = call->started_ns};
        set_free(calls, call);
        return true;
    }
    if (word != call_word(CALL_DONE, worker) || (call->delivered && call->worker != worker))
        return false; /* an earlier worker of that number had it */
    if (!call->delivered) {
        tell_done(call, worker, event);
        return true;
    }
    if (call->keeps)
        return tell_returned(calls, call, worker, event);
    call->worker = -1; /* its result is lent by memory alone from now on */
    return false;
}

/* What a dead worker has said, and nobody has drained: its notes lie in what will be used again. */
static int bury_notes(struct aiopip_calls *calls, int32_t worker, struct aiopip_call_event *events,
                      int count)
{
    struct call_note **at = &calls->rest;
    int found = 0;

    collect_notes(calls);
    while (*at && found < count) {
        const struct call_note *note = *at;
        if (note->worker == worker) {
            *at = note->next;
            found += tell_note(calls, note, &events[found]);
        } else {
            at = &(*at)->next;
        }
    }
    tell_of_rest(calls);
    return found;
}

int aiopip_calls_bury_worker(aiopip_calls *calls, int32_t worker, struct aiopip_call_event *events,
                             int count)
{
    uint32_t waking = atomic_load(&atomic_load(&calls->workers[worker])->waking);
    uint32_t spins = (uint32_t)worker + 1;

    if (!is_ours(calls))
        return -ESRCH;
    atomic_compare_exchange_strong(&calls->spinner, &spins, 0);
    shared_take_bit(calls->asleep, (uint32_t)worker);
    pthread_mutex_lock(&calls->lock);
    int found = bury_notes(calls, worker, events, count);
    found += bury_queue(calls, worker, events + found, count - found);
    for (uint32_t i = 0; i < calls->chunks * CALLS_CHUNK && found < count;) {
        bool told = bury(calls, call_of(calls, i), worker, &events[found]);
        found += told;
        i += !told; /* there may be more to tell of the same call */
    }
    if (found < count) {
        for (struct call *call = calls->given_back; call; call = call->next)
            if (call->worker == -1)
                atomic_store(&call->taken_back, 1);
        atomic_load(&calls->workers[worker])->alive = false;
    }
    pthread_mutex_unlock(&calls->lock);
    /* It may have been woken for a call that it did not come to claim, and have been about to wake. */
    if (waking)
        calls_wake(calls, (int32_t)waking - 1);
    if (!call_queue_is_empty(&calls->queue))
        calls_wake_one(calls, NULL);
    return found;
}
