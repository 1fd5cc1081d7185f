/* SPDX-License-Identifier: BSD-2-Clause
 *
 * puppets.h: how a test moves its puppets, and what it looks at.
 */
#ifndef PUPPETS_H
#define PUPPETS_H

#include <signal.h>
#include <stdlib.h>

#include "../src/shared.h"
#include "puppet.h"
#include "tasks.h"

#define PUPPET_DIED (-10000) /* in place of a result */
#define PUPPET_LOOK_NS 1000000L

struct puppet {
    aiopip_client *client;
    aiopip_peer *peer; /* of the root; NULL: it is a task */
    struct order *order;
    struct spawned task;
    struct aiopip_event end; /* kind 0: it has not ended */
};

/* ---- Starting and ending ---------------------------------------------------------------------- */

static inline struct puppet puppet_root(aiopip_client *client)
{
    struct puppet puppet = {.client = client,
                            .peer = aiopip_peer_of_client(client),
                            .order = calloc(1, sizeof(struct order)),
                            .task = {AIOPIP_PIPID_ROOT, 0}};

    CHECK(puppet.order != NULL);
    return puppet;
}

/* Queue a puppet in a slot, or in any (AIOPIP_PIPID_ANY). */
static inline struct puppet puppet_queue(aiopip_client *client, int32_t pipid)
{
    struct puppet puppet = {.client = client, .order = calloc(1, sizeof(struct order))};
    struct aiopip_spawn_request request = plain_request(task_program("puppet"));
    char address[32];
    const char *const argv[] = {"puppet", address, NULL};
    int result;

    CHECK(puppet.order != NULL);
    snprintf(address, sizeof address, "%lx", (unsigned long)puppet.order);
    request.pipid = pipid;
    while ((result = spawn_request(client, request, argv, NULL, &puppet.task)) == -EAGAIN)
        await(client, 0, AIOPIP_EVENT_RECLAIMED);
    CHECK_EQUAL(result, 0);
    return puppet;
}

static inline struct puppet puppet_start(aiopip_client *client)
{
    return puppet_queue(client, AIOPIP_PIPID_ANY);
}

/* Take the event of a puppet's end if it is there. */
static inline bool puppet_has_ended(struct puppet *puppet)
{
    if (!puppet->end.kind && !puppet->peer) {
        drain(puppet->client);
        take_event(puppet->task.generation, TASKS_THE_END, &puppet->end);
    }
    return puppet->end.kind != 0;
}

/* Wait for the end: its status. */
static inline int puppet_await_end(struct puppet *puppet)
{
    if (!puppet->end.kind)
        puppet->end = await(puppet->client, puppet->task.generation, TASKS_THE_END);
    CHECK_EQUAL(puppet->end.kind, AIOPIP_EVENT_EXITED);
    return puppet->end.wait_status;
}

static inline void puppet_acknowledge(struct puppet *puppet)
{
    aiopip_acknowledge(puppet->client, puppet->task.pipid, puppet->task.generation);
}

/* Forget a puppet that has ended, or the root as one. */
static inline void puppet_forget(struct puppet *puppet)
{
    if (!puppet->peer)
        puppet_acknowledge(puppet);
    free(puppet->order);
    puppet->order = NULL;
}

/* It may have obeyed before the spawner has come to say that it runs: until then it takes no signal. */
static inline void puppet_strike(struct puppet *puppet)
{
    CHECK_SOON(aiopip_kill(puppet->client, puppet->task.pipid, puppet->task.generation, SIGKILL) ==
                   0 ||
               puppet_has_ended(puppet));
}

static inline void puppet_kill(struct puppet *puppet)
{
    puppet_strike(puppet);
    CHECK_EQUAL(puppet_await_end(puppet), SIGKILL);
}

/* ---- Orders ----------------------------------------------------------------------------------- */

static inline void puppet_tell(struct puppet *puppet, enum puppet_call call)
{
    struct order *order = puppet->order;

    order->call = call;
    if (puppet->peer) {
        puppet_obey(puppet->peer, order);
        atomic_store(&order->turn, PUPPET_DONE);
        return;
    }
    atomic_store(&order->turn, PUPPET_ORDERED);
    shared_futex_wake(&order->turn, 1);
}

static inline bool puppet_is_done(const struct puppet *puppet)
{
    return atomic_load(&puppet->order->turn) == PUPPET_DONE;
}

/* The result of what it was told, or PUPPET_DIED. */
static inline int puppet_await(struct puppet *puppet)
{
    const struct timespec look = {0, PUPPET_LOOK_NS};
    struct timespec since;

    clock_gettime(CLOCK_MONOTONIC, &since);
    while (!puppet_is_done(puppet)) {
        if (puppet_has_ended(puppet))
            return PUPPET_DIED;
        CHECK(!check_is_late(&since));
        shared_futex_wait(&puppet->order->turn, PUPPET_ORDERED, &look);
    }
    return puppet->order->result;
}

static inline int puppet_do(struct puppet *puppet, enum puppet_call call)
{
    puppet_tell(puppet, call);
    return puppet_await(puppet);
}

static inline void puppet_exit(struct puppet *puppet)
{
    puppet->order->result = 5;
    puppet_tell(puppet, PUPPET_EXIT);
    CHECK_EQUAL(puppet_await_end(puppet), 5 << 8);
}

/* ---- Exports and imports ---------------------------------------------------------------------- */

static inline void puppet_name(struct puppet *puppet, const char *name, size_t bytes)
{
    struct order *order = puppet->order;

    order->name_bytes = bytes;
    memset(order->name, 0, sizeof order->name);
    memcpy(order->name, name, bytes < sizeof order->name ? bytes : sizeof order->name);
}

/* Private memory of a puppet's, in whole pages. */
static inline uint8_t *puppet_make(struct puppet *puppet, size_t bytes)
{
    puppet->order->bytes = bytes;
    CHECK_EQUAL(puppet_do(puppet, PUPPET_MAKE), 0);
    return (uint8_t *)puppet->order->address;
}

/* Bytes, as an array of one dimension; the id is in the order. */
static inline int puppet_export(struct puppet *puppet, const char *name, const uint8_t *address,
                                size_t bytes, uint32_t flags)
{
    struct order *order = puppet->order;

    puppet_name(puppet, name, strlen(name));
    order->dims[0] = (int64_t)bytes;
    order->dims[1] = 1;
    memcpy(order->dtype, "|u1", 3);
    order->array = (struct aiopip_array){.address = (uintptr_t)address,
                                         .start = (uintptr_t)address,
                                         .end = (uintptr_t)address + bytes,
                                         .flags = flags | AIOPIP_ARRAY_TYPED,
                                         .ndim = 1,
                                         .dims = order->dims,
                                         .dtype = order->dtype,
                                         .dtype_bytes = 3};
    return puppet_do(puppet, PUPPET_EXPORT);
}

static inline void puppet_seek(struct puppet *puppet, const struct puppet *exporter,
                               const char *name)
{
    puppet_name(puppet, name, strlen(name));
    puppet->order->pipid = exporter->task.pipid;
    puppet->order->generation = exporter->task.generation;
}

/* The hold is in the order. */
static inline int puppet_import(struct puppet *puppet, const struct puppet *exporter,
                                const char *name)
{
    puppet_seek(puppet, exporter, name);
    return puppet_do(puppet, PUPPET_IMPORT);
}

static inline int puppet_withdraw(struct puppet *puppet, uint64_t id)
{
    puppet->order->id = id;
    return puppet_do(puppet, PUPPET_WITHDRAW);
}

static inline int puppet_release(struct puppet *puppet, aiopip_hold *hold)
{
    puppet->order->hold = hold;
    return puppet_do(puppet, PUPPET_RELEASE);
}

/* Wait until one withdrawn export is told to be released, and see which. */
static inline void puppet_await_release(struct puppet *puppet, uint64_t id)
{
    if (puppet->peer)
        while (puppet_do(puppet, PUPPET_RELEASED) == 0)
            await(puppet->client, 0, AIOPIP_EVENT_RELEASED);
    else
        puppet_do(puppet, PUPPET_AWAIT_RELEASE);
    CHECK_EQUAL(puppet->order->result, 1);
    CHECK_EQUAL(puppet->order->ids[0], id);
    CHECK_EQUAL(puppet_do(puppet, PUPPET_RELEASED), 0);
}

static inline uintptr_t hold_address(const aiopip_hold *hold)
{
    struct aiopip_array array;

    aiopip_hold_array(hold, &array);
    return array.address;
}

/* ---- What is there ---------------------------------------------------------------------------- */

static inline void fill(uint8_t *bytes, size_t count, uint64_t seed)
{
    for (size_t i = 0; i + 8 <= count; i += 8) {
        uint64_t word = (seed + i) * 0x9e3779b97f4a7c15UL;
        memcpy(bytes + i, &word, sizeof word);
    }
}

static inline bool is_intact(const uint8_t *bytes, size_t count, uint64_t seed)
{
    for (size_t i = 0; i + 8 <= count; i += 8) {
        uint64_t word = (seed + i) * 0x9e3779b97f4a7c15UL;
        if (memcmp(bytes + i, &word, sizeof word) != 0)
            return false;
    }
    return true;
}

/* How much is mapped in the tasks' area. */
static inline size_t bytes_of_tasks(void)
{
    size_t bytes;

    check_maps_in(ARCH_AREA_START, ARCH_AREA_END, &bytes);
    return bytes;
}

#endif
