/* SPDX-License-Identifier: BSD-2-Clause
 *
 * calls.c: the owner's side of a pool's queue: what it hands out, and to whom; calls_news.c: what comes
 * back.
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
    if (!calls_is_ours(calls))
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

void calls_set_free(struct aiopip_calls *calls, struct call *call)
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
            calls_set_free(calls, call);
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
        calls_set_free(calls, &chunk[i]);
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
    call->pushed_ns = calls_now_ns();
    put(queue, call, worker);
    return call->number;
}

int64_t aiopip_calls_push(aiopip_calls *calls, int32_t worker, const struct aiopip_parcel *request)
{
    if (!calls_is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    int64_t result = push(calls, worker, request);
    pthread_mutex_unlock(&calls->lock);
    if (result >= 0 && worker >= 0)
        calls_wake_if_asleep(calls, worker);
    else if (result >= 0 && !atomic_load(&calls->spinner))
        calls_wake_one(calls, NULL);
    return result;
}

int aiopip_calls_revoke(aiopip_calls *calls, uint32_t number)
{
    int result = -EBUSY;

    if (!calls_is_ours(calls))
        return -ESRCH;
    pthread_mutex_lock(&calls->lock);
    struct call *call = calls_at(calls, number);
    uint64_t ready = call->ready;
    if (atomic_compare_exchange_strong(&call->word, &ready, call_word(CALL_FREE, -1))) {
        calls_set_free(calls, call);
        result = 0;
    }
    pthread_mutex_unlock(&calls->lock);
    return result;
}

int aiopip_calls_taker(aiopip_calls *calls, uint32_t number)
{
    uint64_t word = atomic_load(&calls_at(calls, number)->word);
    enum call_state state = call_state(word);

    return state == CALL_TAKEN || state == CALL_DOOMED ? (int)(word >> CALL_WORKER_SHIFT) - 1
                                                       : -EAGAIN;
}

int aiopip_calls_doom(aiopip_calls *calls, uint32_t number)
{
    struct call *call = calls_at(calls, number);
    int worker = calls_is_ours(calls) ? aiopip_calls_taker(calls, number) : -ESRCH;

    if (worker < 0)
        return worker;
    uint64_t taken = call_word(CALL_TAKEN, worker);
    if (!atomic_compare_exchange_strong(&call->word, &taken, call_word(CALL_DOOMED, worker)) &&
        taken != call_word(CALL_DOOMED, worker))
        return -EAGAIN;
    return worker;
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
    if (!calls_is_ours(calls))
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
    if (!calls_is_ours(calls))
        return;
    atomic_store(&atomic_load(&calls->workers[worker])->stop, 1);
    calls_wake_if_asleep(calls, worker);
}
