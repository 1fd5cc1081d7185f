/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls_news.c: what comes back to the owner of a pool's queue: what workers say, and what the dead
 * have left.
 */
#include <errno.h>
#include <unistd.h>

#include "calls.h"

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
    atomic_fetch_add(&calls->round, 1);
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
        calls_set_free(calls, call);
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
    calls_wake_if_asleep(calls, call->worker);
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

    if (!calls_is_ours(calls))
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
    if (!calls_is_ours(calls))
        return;
    pthread_mutex_lock(&calls->lock);
    struct call *call = calls_at(calls, number);
    call->released = true;
    if (is_lent(call))
        give_back(calls, call);
    else
        free_if_over(calls, call);
    pthread_mutex_unlock(&calls->lock);
}

/* ---- Workers that have died -------------------------------------------------------------------- */

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
        calls_set_free(calls, call);
    }
    atomic_store(&queue->head, place);
    return found;
}

/* What becomes of a call that a dead worker had: whether there is something to tell. */
static bool bury(struct aiopip_calls *calls, struct call *call, int32_t worker,
                 struct aiopip_call_event *event)
{
    uint64_t word = atomic_load(&call->word);

    if (word == call_word(CALL_TAKEN, worker) || word == call_word(CALL_DOOMED, worker)) {
        *event = (struct aiopip_call_event){.kind = AIOPIP_NEWS_LOST,
                                            .worker = worker,
                                            .call = call->number,
                                            .started_ns = call->started_ns};
        calls_set_free(calls, call);
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

    if (!calls_is_ours(calls))
        return -ESRCH;
    atomic_compare_exchange_strong(&calls->spinner, &spins, 0);
    shared_take_bit(calls->asleep, (uint32_t)worker);
    pthread_mutex_lock(&calls->lock);
    int found = bury_notes(calls, worker, events, count);
    found += bury_queue(calls, worker, events + found, count - found);
    for (uint32_t i = 0; i < calls->chunks * CALLS_CHUNK && found < count;) {
        bool told = bury(calls, calls_at(calls, i), worker, &events[found]);
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
